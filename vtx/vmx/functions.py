"""VM functions: what VMFUNC does for a guest without an exit. There is one, EPTP switching.

Source: SDM 3C, VM Functions; SDM 3C, VMFUNC - Invoke VM Function.
"""

from vtx.isa.builder import Builder, Value, routine_
from vtx.isa.exit_information import undefined_without
from vtx.isa.instruction import UD, Instruction, semantics
from vtx.isa.program import Service
from vtx.spec import CONTROLS, EXITS, MSRS
from vtx.vmx.capability import capability
from vtx.vmx.operations import bad_eptp
from vtx.vmx.vmcs import read_field, write_field

ENABLE_VM_FUNCTIONS, EPT_VIOLATION_VE = (
    CONTROLS.ENABLE_VM_FUNCTIONS.mask,
    CONTROLS.EPT_VIOLATION_VE.mask,
)
EPTP_SWITCHING = 0
FUNCTIONS, EPTP_LIST_ENTRIES = 64, 512


@semantics("VMFUNC")
def vmfunc(i: Instruction) -> None:
    """Any CPL. No function with number 64 or more exists; one that is disabled is a VM exit."""
    if not i.non_root:
        i.undefined()
    undefined_without(i, ENABLE_VM_FUNCTIONS)
    number = i.get("rax", 32)
    i.fault_if(~number.ult(FUNCTIONS), UD)
    i.resync()
    enabled = read_field(i, "VM_FUNCTION_CONTROLS") >> number.zext(64)
    with i.if_(~enabled.bit(0) | (number != EPTP_SWITCHING)):
        i.vm_exit(EXITS.VMFUNC)
    (switched,) = i.call("switch_eptp", i.get("rcx", 32))
    with i.if_(~switched):
        i.vm_exit(EXITS.VMFUNC)


@routine_(32, results=(1,))
def switch_eptp(b: Builder, index: Value) -> None:
    """Make entry `index` of the EPTP list the EPT pointer; 0 where VM entry would refuse it.

    Nothing that was cached is forgotten, and PDPTEs stay as they are.
    """
    with b.if_(~index.ult(EPTP_LIST_ENTRIES)):
        b.return_(b.const(1, 0))
    eptp = b.load_physical(64, read_field(b, "EPTP_LIST_ADDR") + (index.zext(64) << 3))
    with b.if_(bad_eptp(b, eptp)):
        b.return_(b.const(1, 0))
    write_field(b, "EPT_POINTER", eptp)
    b.put("eptp", eptp)
    # The field exists where the 1-setting of "EPT-violation #VE" does.
    may = capability(b, MSRS.IA32_VMX_PROCBASED_CTLS2) >> 32
    with b.if_((may & EPT_VIOLATION_VE) != 0):
        write_field(b, "EPTP_INDEX", index)
    b.service(Service.CONTEXT)
    b.return_(b.const(1, 1))
