"""From a region to the bytes of an object.

It knows the text and the compiler; where the object goes and how it is entered is not known.
"""

from vtx.engine.native.compiler import FEW_PASSES, host_compiler
from vtx.engine.native.region_plan import CompiledRegion, Region
from vtx.engine.native.region_text import region_text


def compile_region(region: Region) -> CompiledRegion:
    """Raises CompileError."""
    text, exits = region_text(region)
    return CompiledRegion(host_compiler().compile(text, effort=FEW_PASSES), exits)
