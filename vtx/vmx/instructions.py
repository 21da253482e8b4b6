"""The VMX instructions: who may execute them, their operands, their exits and their flags.

What they do is in `vtx.vmx.operations`; line order here is the order of the conditions.
Source: SDM 3C, VMX Instruction Reference, the instruction's own page.
"""

from vtx.isa.builder import Value
from vtx.isa.exit_information import (
    displacement,
    memory_bits,
    memory_or_register,
    register_bits,
    secondary,
)
from vtx.isa.instruction import UD, Instruction, MemoryOperand, Translated, semantics
from vtx.isa.key import VMX_OFF
from vtx.spec import EXITS, MSRS
from vtx.spec.registers import CR4
from vtx.vmx import entry as entry
from vtx.vmx import exit as exit_
from vtx.vmx import functions as functions
from vtx.vmx import operations as operations
from vtx.vmx import shadowing as shadowing
from vtx.vmx.capability import capability
from vtx.vmx.operations import VMCS_SHADOWING
from vtx.vmx.status import SUCCEED, VMCALL_IN_ROOT, fail_valid, put_flags

_GP = 13
_CR4_VMXE = CR4.VMXE
_LOCKED, _OUTSIDE_SMX = 1 << 0, 1 << 2

__all__ = ["entry", "exit_", "functions", "operations", "shadowing"]


def _needs_mode(i: Instruction) -> None:
    """#UD outside protected mode, in virtual-8086 mode and in compatibility mode."""
    key = i.key
    if not key.protected or key.v86 or (key.long and key.bits != 64):
        i.undefined()


def _needs_vmx(i: Instruction) -> None:
    """#UD outside VMX operation."""
    if i.key.vmx == VMX_OFF:
        i.undefined()


def _root_only(i: Instruction, reason: int, qualification: Value | int = 0, info: int = 0) -> None:
    """Before CPL is looked at: a VM exit in non-root operation."""
    if i.non_root:
        i.vm_exit(reason, qualification, info)
        raise Translated
    i.require_cpl(0)


def _guard(i: Instruction, reason: int) -> None:
    """The conditions of an instruction without operands."""
    _needs_vmx(i)
    _needs_mode(i)
    _root_only(i, reason)


def _pointer(i: Instruction) -> Value:
    return i.memory_operand(0, 64).read()


def _finish(i: Instruction, status: Value) -> None:
    put_flags(i, status)


# --- VMX operation ---------------------------------------------------------------------------


@semantics("VMXON")
def vmxon(i: Instruction) -> None:
    _needs_mode(i)
    if i.key.vmx != VMX_OFF:
        _root_only(i, EXITS.VMXON, displacement(i), memory_bits(i))
        _finish(i, i.call("vmx_vmxon", _pointer(i))[0])
        return
    i.fault_if((i.get("cr4") & _CR4_VMXE) == 0, UD)
    i.require_cpl(0)
    enabled = _LOCKED | _OUTSIDE_SMX
    allowed = i.any_of(
        _not_fixed(i, "cr0", MSRS.IA32_VMX_CR0_FIXED0, MSRS.IA32_VMX_CR0_FIXED1),
        _not_fixed(i, "cr4", MSRS.IA32_VMX_CR4_FIXED0, MSRS.IA32_VMX_CR4_FIXED1),
        (i.get("feature_control") & enabled) != enabled,
    )
    i.fault_if(allowed, _GP, 0)
    _finish(i, i.call("vmx_vmxon", _pointer(i))[0])
    i.resync()


def _not_fixed(i: Instruction, register: str, fixed0: int, fixed1: int) -> Value:
    """The register has a bit that VMX operation does not support (1 bit)."""
    value = i.get(register)
    must, may = capability(i, fixed0), capability(i, fixed1)
    return ((value & must) != must) | ((value & ~may) != 0)


@semantics("VMXOFF")
def vmxoff(i: Instruction) -> None:
    _guard(i, EXITS.VMXOFF)
    _finish(i, i.call("vmx_vmxoff")[0])
    i.resync()


# --- the current VMCS ------------------------------------------------------------------------


@semantics("VMCLEAR", "VMPTRLD")
def vmclear_vmptrld(i: Instruction) -> None:
    _needs_vmx(i)
    _needs_mode(i)
    reason = EXITS.VMCLEAR if i.mnemonic == "VMCLEAR" else EXITS.VMPTRLD
    _root_only(i, reason, displacement(i), memory_bits(i))
    _finish(i, i.call(f"vmx_{i.mnemonic.lower()}", _pointer(i))[0])


@semantics("VMPTRST")
def vmptrst(i: Instruction) -> None:
    _needs_vmx(i)
    _needs_mode(i)
    _root_only(i, EXITS.VMPTRST, displacement(i), memory_bits(i))
    i.memory_operand(0, 64).write(i.get("vmcs_pointer"))
    _finish(i, i.const(8, SUCCEED))


# --- fields ----------------------------------------------------------------------------------


def _field_access(i: Instruction, reason: int, *, value: int, encoding: int) -> str:
    """The numbered operands hold the value and the field's encoding.

    In non-root operation a VM exit, unless VMCS shadowing makes the access one to the shadow VMCS.
    Result: the prefix of the routines that access the VMCS.
    """
    qualification, info = memory_or_register(i, value)
    if i.non_root:
        exits = i.var(1, 1)
        with i.if_(secondary(i, VMCS_SHADOWING)):
            index = i.op(encoding).read().zext(64)
            exits.set(i.call("shadow_access_exits", index, int(reason == EXITS.VMWRITE))[0])
        with i.if_(exits.get()):
            i.vm_exit(reason, qualification, info | register_bits(i, encoding, 28))
    i.require_cpl(0)
    return "shadow" if i.non_root else "vmx"


@semantics("VMREAD")
def vmread(i: Instruction) -> None:
    _needs_vmx(i)
    _needs_mode(i)
    place = _field_access(i, EXITS.VMREAD, value=0, encoding=1)
    destination = i.dst
    if isinstance(destination, MemoryOperand):
        # A fault comes before the failure of the instruction changes the VMCS.
        destination.probe_write()
    value, status = i.call(f"{place}_vmread", i.src.read().zext(64))
    with i.if_(status == SUCCEED):
        destination.write(value.to(destination.width))
    _finish(i, status)


@semantics("VMWRITE")
def vmwrite(i: Instruction) -> None:
    _needs_vmx(i)
    _needs_mode(i)
    place = _field_access(i, EXITS.VMWRITE, value=1, encoding=0)
    value = i.src.read().zext(64)
    _finish(i, i.call(f"{place}_vmwrite", i.dst.read().zext(64), value)[0])


# --- entries and calls -----------------------------------------------------------------------


@semantics("VMLAUNCH", "VMRESUME")
def vmlaunch_vmresume(i: Instruction) -> None:
    """Retires like any instruction; the guest's time starts behind it."""
    launch = i.mnemonic == "VMLAUNCH"
    _guard(i, EXITS.VMLAUNCH if launch else EXITS.VMRESUME)
    (status,) = i.call("vm_entry", i.const(8, int(launch)))
    i.resync()
    with i.if_(status == SUCCEED):
        # Virtual time grows by this instruction before the guest's first one.
        i.put("preemption_deadline", i.get("preemption_deadline") + 1)
        i.jump(i.get("rip"))
    _finish(i, status)


@semantics("VMCALL")
def vmcall(i: Instruction) -> None:
    _needs_vmx(i)
    i.always_exits(EXITS.VMCALL)
    _needs_mode(i)
    i.require_cpl(0)
    _finish(i, fail_valid(i, VMCALL_IN_ROOT))


# --- invalidation ----------------------------------------------------------------------------


@semantics("INVEPT", "INVVPID")
def invept_invvpid(i: Instruction) -> None:
    _needs_mode(i)
    _needs_vmx(i)
    ept = i.mnemonic == "INVEPT"
    built = 1 << 20 if ept else 1 << 32
    i.fault_if((capability(i, MSRS.IA32_VMX_EPT_VPID_CAP) & built) == 0, UD)
    reason = EXITS.INVEPT if ept else EXITS.INVVPID
    _root_only(i, reason, displacement(i), memory_bits(i) | register_bits(i, 0, 28))
    kind = i.dst.read().zext(64)
    operand = i.memory_operand(1, 128)
    low, high = operand.part(0, 64).read(), operand.part(8, 64).read()
    _finish(i, i.call(f"vmx_{i.mnemonic.lower()}", kind, low, high)[0])
