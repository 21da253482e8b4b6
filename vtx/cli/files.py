"""Reading and writing whole files with one-line errors. Must not know what is in them."""

from __future__ import annotations

from pathlib import Path

from vtx.cli.errors import InputError


def read_file(path: Path | str) -> bytes:
    """A file's bytes. Raises InputError."""
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {reason(error)}") from None


def reason(error: Exception) -> str:
    """Why the operating system refused, without Python's decoration."""
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


def write_file(path: Path | str, data: bytes) -> None:
    """Make a file of `data`. Raises InputError."""
    try:
        Path(path).write_bytes(data)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot write {path}: {reason(error)}") from None
