"""From a region to the bytes of an object.

It knows the text and the compiler; where the object goes and how it is entered is not known.
"""

from dataclasses import dataclass

from vtx.engine.native.compiler import FEW_PASSES, host_compiler
from vtx.engine.native.region_plan import Region
from vtx.engine.native.region_text import region_text


@dataclass(frozen=True, slots=True)
class CompiledRegion:
    """An object with the function `region`, and where its exits @X0, @X1, ... lead."""

    object: bytes
    exits: tuple[int, ...]


def compile_region(region: Region) -> CompiledRegion:
    """Raises CompileError."""
    text, exits = region_text(region)
    return CompiledRegion(host_compiler().compile(text, effort=FEW_PASSES), exits)
