"""Virtualization exceptions: EPT violations that the guest handles itself, as vector 20.

The EPT walk calls this for a convertible violation; where it returns, the violation is a VM exit
after all. Source: SDM 3C, Virtualization Exceptions.
"""

from vtx.isa.builder import Builder, Value, routine_
from vtx.isa.key import CR0_PE
from vtx.spec import EXITS
from vtx.vmx.vmcs import read_field

VIRTUALIZATION_EXCEPTION = 20
REASON, BUSY, QUALIFICATION, LINEAR, PHYSICAL, EPTP_INDEX = 0, 4, 8, 16, 24, 32
"""Offsets in the virtualization-exception information area."""
_ALL_ONES = 0xFFFF_FFFF
_NMI_UNBLOCKED = 12


@routine_(64, 64, 64, results=())
def raise_virtualization_exception(
    b: Builder, qualification: Value, gla: Value, gpa: Value
) -> None:
    """#VE, with the information written; returns in real mode, while an event is being delivered
    and while the area is busy (what software clears when it has read it)."""
    area = read_field(b, "VE_INFO_ADDR")
    protected = (b.get("cr0") & CR0_PE) != 0
    busy = b.load_physical(32, area + BUSY) != 0
    with b.if_(protected & (b.get("event_valid") == 0) & ~busy):
        unblocked = b.get("nmi_unblocked", 1).zext(64) << _NMI_UNBLOCKED
        b.store_physical(area + REASON, b.const(32, EXITS.EPT_VIOLATION))
        b.store_physical(area + BUSY, b.const(32, _ALL_ONES))
        b.store_physical(area + QUALIFICATION, qualification | unblocked)
        b.store_physical(area + LINEAR, gla)
        b.store_physical(area + PHYSICAL, gpa)
        b.store_physical(area + EPTP_INDEX, read_field(b, "EPTP_INDEX"))
        b.fault(VIRTUALIZATION_EXCEPTION)
    b.return_()
