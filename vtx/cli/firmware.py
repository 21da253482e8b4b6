"""The VMM in assembly, made from its source when a run asks for it.

Must not know what the source means, nor who runs the image.
"""

from __future__ import annotations

from pathlib import Path

from vtx.cli.assembly_cache import executable_of
from vtx.cli.errors import InputError


def firmware_image() -> bytes:
    """The image of firmware/firmware.s, kept like any assembled source."""
    package = Path(__file__).resolve().parents[1]
    for place in (package / "_data" / "firmware", package.parent / "firmware"):
        source = (place / place.name).with_suffix(".s")
        if source.is_file():
            return executable_of(source, (), {})
    raise InputError(f"no firmware/ beside the package at {package}; reinstall vtx")
