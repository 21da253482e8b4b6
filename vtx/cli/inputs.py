"""The files a guest is made of: images, sources to assemble, modules, console input.

Must not know how a guest runs.
"""

from __future__ import annotations

import os
import select
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vtx.cli.assembly_cache import executable_of
from vtx.cli.errors import InputError, remark
from vtx.cli.files import read_file

SOURCE_SUFFIXES = frozenset({".s", ".S", ".asm"})
FIRST_BYTE_WAIT = 1.0
"""Seconds a pipe on standard input may stay silent before the guest runs without input."""


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """How to assemble a guest given as source: .include directories and symbols."""

    include: tuple[Path, ...] = ()
    defines: tuple[tuple[str, str], ...] = ()


def read_image(path: Path, options: SourceOptions) -> bytes:
    """An image's bytes: of the file, or of what its source assembles to. Raises InputError."""
    if path.suffix not in SOURCE_SUFFIXES:
        return read_file(path)
    return executable_of(path, options.include, dict(options.defines))


def read_module(text: str) -> tuple[bytes, str]:
    """A boot module written "FILE ARGUMENTS": its bytes, and the whole text for the guest."""
    return read_file(text.split(maxsplit=1)[0] if text.strip() else text), text


def parse_defines(texts: Sequence[str]) -> dict[str, str]:
    """NAME=VALUE (or NAME, which is 1) as a mapping. Raises InputError."""
    defines = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or name[0].isdigit() or not name.replace("_", "a").replace(".", "a").isalnum():
            raise InputError(f"-D {text}: {name!r} is no symbol name; write NAME=VALUE")
        defines[name] = value if equals else "1"
    return defines


def probe_names(texts: Sequence[str]) -> tuple[str, ...]:
    """The places named by all --probe options, each a list with commas. Raises InputError."""
    names = []
    for text in texts:
        for name in text.split(","):
            if not name:
                raise InputError(f"--probe {text!r}: a name is empty; write SYMBOL[,SYMBOL...]")
            names.append(name)
    return tuple(names)


def console_input(path: str | None) -> bytes:
    """What the guest will find at its console's receiver.

    From the file `path` ("-" is standard input, to its end), else from standard input where that
    is a file or a pipe with something in it. Raises InputError.
    """
    if path == "-":
        return sys.stdin.buffer.read()
    if path is not None:
        return read_file(path)
    try:
        handle = sys.stdin.fileno()
        mode = os.fstat(handle).st_mode
    except (OSError, ValueError, AttributeError):  # closed, or not a file of the system
        return b""
    if stat.S_ISREG(mode):
        return sys.stdin.buffer.read()
    return _piped(handle) if stat.S_ISFIFO(mode) else b""


def _piped(handle: int) -> bytes:
    """All of a pipe, unless it is one that nobody writes to: that must not stop a run."""
    ready, _, _ = select.select([handle], [], [], FIRST_BYTE_WAIT)
    if ready:
        return sys.stdin.buffer.read()
    remark("note: nothing came on standard input; running without (--input - waits for it)")
    return b""
