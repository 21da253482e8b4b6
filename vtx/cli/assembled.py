"""Assembling a source for a command, with the assembler's diagnostics as the error message.

Must not know what the result is for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from vtx.cli.errors import DiagnosedError
from vtx.cli.files import read_file

if TYPE_CHECKING:
    from asm import Assembly

Made = TypeVar("Made")


class Assembled:
    """A source that assembled; the files made from it, their errors raised as DiagnosedError."""

    def __init__(self, assembly: Assembly) -> None:
        self._assembly = assembly

    @property
    def consulted(self) -> tuple[Path, ...] | None:
        """Files that it depends on besides the source; None if there was something to say."""
        return None if self._assembly.warnings else self._assembly.consulted

    def elf(self) -> bytes:
        """A static executable."""
        return _diagnosed(self._assembly.elf)

    def object(self) -> bytes:
        """A relocatable object file."""
        return _diagnosed(self._assembly.object)

    def listing(self) -> str:
        """Addresses and bytes beside each source line."""
        return _diagnosed(self._assembly.listing)


def _diagnosed(make: Callable[[], Made]) -> Made:
    from asm import AssemblyErrors

    try:
        return make()
    except AssemblyErrors as errors:
        raise DiagnosedError(str(errors)) from None


def assemble_source(
    path: Path, include: Sequence[Path], defines: Mapping[str, str | int]
) -> Assembled:
    """Assemble a file, its warnings shown on stderr.

    Raises InputError when it cannot be read and DiagnosedError when it has errors.
    """
    from asm import AssemblyErrors, assemble_file

    read_file(path)  # a missing file is the command line's mistake, not the source's
    try:
        assembly = assemble_file(path, include=include, defines=defines)
        for warning in assembly.warnings:
            click.echo(str(warning), err=True)
    except AssemblyErrors as errors:
        raise DiagnosedError(str(errors)) from None
    return Assembled(assembly)
