"""Page-modification logging: which pages a guest has written, told without an exit for each.

The EPT walk calls this where it is about to set a dirty flag. What a full log makes of the access
is a VM exit like an EPT violation: nothing of the access has happened.
Source: SDM 3C, Page-Modification Logging.
"""

from vtx.isa.builder import Builder, Value, routine_
from vtx.spec import EXITS
from vtx.vmx.vmcs import read_field, write_field

ENTRIES = 512
_ENTRY_SHIFT = 3


@routine_(64, results=())
def log_modified_page(b: Builder, gpa: Value) -> None:
    """Log the page of `gpa`; a VM exit where GUEST_PML_INDEX is not the number of an entry.

    The index counts down and becomes FFFFH behind entry 0, so the next page finds the log full.
    """
    index = read_field(b, "GUEST_PML_INDEX")
    with b.if_(index.ult(ENTRIES)):
        place = read_field(b, "PML_ADDRESS") + (index.zext(64) << _ENTRY_SHIFT)
        b.store_physical(place, gpa & ~0xFFF)
        write_field(b, "GUEST_PML_INDEX", index - 1)
        b.return_()
    for slot in ("qualification", "gpa", "gla", "length", "info"):
        b.put(f"exit_{slot}", 0)
    b.exit(EXITS.PML_FULL)
