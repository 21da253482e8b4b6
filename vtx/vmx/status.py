"""How VMX instructions report success: the three statuses, their error numbers and flags.

Source: SDM 3C, Conventions (VMX Instruction Reference); VM Instruction Error Numbers. Knows no
instruction.
"""

from vtx.isa.builder import Builder, Value, routine_
from vtx.isa.layout import ARITHMETIC_FLAGS
from vtx.vmx.vmcs import NO_VMCS, write_field

SUCCEED, FAIL_INVALID, FAIL_VALID = 0, 1, 2
"""VMsucceed; VMfailInvalid: there is no current VMCS to tell why; VMfailValid:
VM_INSTRUCTION_ERROR of the current VMCS has the error number."""

VMCALL_IN_ROOT = 1
VMCLEAR_ADDRESS, VMCLEAR_VMXON_POINTER = 2, 3
LAUNCH_NOT_CLEAR, RESUME_NOT_LAUNCHED = 4, 5
INVALID_CONTROLS, INVALID_HOST_STATE = 7, 8
VMPTRLD_ADDRESS, VMPTRLD_VMXON_POINTER, VMPTRLD_REVISION = 9, 10, 11
UNSUPPORTED_FIELD, READ_ONLY_FIELD = 12, 13
VMXON_IN_ROOT = 15
BLOCKED_BY_MOV_SS = 26
INVALID_INVALIDATION = 28
"""Error numbers this machine gives (spec/instruction_errors.toml has their meanings)."""


@routine_(64, results=(8,))
def vm_fail(b: Builder, error: Value) -> None:
    """VMfail(error): VMfailValid with a current VMCS, else VMfailInvalid. Result: the status."""
    with b.if_(b.get("vmcs_pointer") == NO_VMCS):
        b.return_(b.const(8, FAIL_INVALID))
    write_field(b, "VM_INSTRUCTION_ERROR", error)
    b.return_(b.const(8, FAIL_VALID))


def fail_valid(b: Builder, error: int) -> Value:
    """The status of VMfail(`error`)."""
    return b.call("vm_fail", b.const(64, error))[0]


def put_flags(b: Builder, status: Value) -> None:
    """Arithmetic flags of a VMX instruction that ended with `status` (8 bits)."""
    for name in ARITHMETIC_FLAGS:
        if name not in ("cf", "zf"):
            b.put(name, 0)
    b.put("cf", status == FAIL_INVALID)
    b.put("zf", status == FAIL_VALID)
