"""All instruction families, imported so that their semantics are registered.

Reading this list is reading the table of contents of the instruction set.
"""

from importlib import import_module

FAMILIES = (
    "vtx.isa.arithmetic",
    "vtx.isa.logic",
    "vtx.isa.shifts",
    "vtx.isa.multiply",
    "vtx.isa.bits",
    "vtx.isa.moves",
    "vtx.isa.stack",
    "vtx.isa.branches",
    "vtx.isa.strings",
    "vtx.isa.io",
    "vtx.isa.segments",
    "vtx.isa.far",
    "vtx.isa.delivery",
    "vtx.isa.interrupts",
    "vtx.isa.syscalls",
    "vtx.isa.control_registers",
    "vtx.isa.descriptor_tables",
    "vtx.isa.msrs",
    "vtx.isa.processor",
    "vtx.machine.paging",
    "vtx.vmx.ept",
    "vtx.vmx.instructions",
    "vtx.vmx.entry",
    "vtx.vmx.exit",
)


def load_all() -> None:
    """Register every instruction and routine."""
    for name in FAMILIES:
        import_module(name)
