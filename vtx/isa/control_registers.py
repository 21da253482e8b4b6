"""Control and debug registers: MOV CR, MOV DR, CLTS, LMSW, SMSW.

MOV is one mnemonic; its family calls `move_control` and `move_debug`. What a new value of CR0,
CR3 or CR4 must satisfy and what follows from it stands in `isa.control_changes`.
Sources: SDM 2B, MOV (control registers); MOV (debug registers); SDM 2A, CLTS; LMSW; SDM 3A,
Control Registers; Debug Registers; SDM 3C, Changes to Instruction Behavior in VMX Non-Root
Operation.
"""

from iced_x86 import RegisterExt

from vtx.isa import control_changes as control_changes
from vtx.isa.builder import Value
from vtx.isa.descriptor_tables import require_no_umip
from vtx.isa.exit_information import exit_when
from vtx.isa.instruction import DB, GP, Instruction, RegisterOperand, gpr_index, semantics
from vtx.isa.msrs import VIRTUAL_TPR
from vtx.isa.program import Service
from vtx.spec import CONTROLS, EXITS
from vtx.spec.registers import CR0, CR4

EXIT_CR_ACCESS, EXIT_MOV_DR = EXITS.CR_ACCESS, EXITS.DR_ACCESS
CR3_LOAD_EXITING, CR3_STORE_EXITING = (
    CONTROLS.CR3_LOAD_EXITING.mask,
    CONTROLS.CR3_STORE_EXITING.mask,
)
CR8_LOAD_EXITING, CR8_STORE_EXITING, USE_TPR_SHADOW = (
    CONTROLS.CR8_LOAD_EXITING.mask,
    CONTROLS.CR8_STORE_EXITING.mask,
    CONTROLS.USE_TPR_SHADOW.mask,
)
MOV_DR_EXITING = CONTROLS.MOV_DR_EXITING.mask
_TO_CR, _FROM_CR, _CLTS, _LMSW = 0, 1 << 4, 2 << 4, 3 << 4
_LMSW_MEMORY, _FROM_DR = 1 << 6, 1 << 4
CR0_PE, CR0_TS, CR0_LOW = CR0.PE, CR0.TS, 0xF
CR4_DE, DR7_GD, DR6_BD = CR4.DE, 1 << 13, 1 << 13
_DR6_FIXED, _DR6_WRITABLE = 0xFFFF_0FF0, 0x1_E00F
_DR7_FIXED, _DR7_WRITABLE = 0x400, 0xFFFF_2BFF


# --- MOV to and from control registers -------------------------------------------------------


def _register_number(i: Instruction, index: int) -> int:
    """Number of a control or debug register operand."""
    return int(RegisterExt.number(i.decoded.op_register(index)))


def _general(i: Instruction, index: int) -> tuple[Value, RegisterOperand, int]:
    """Value of the general register (64 bits), the operand, its number."""
    operand = i.op(index)
    assert isinstance(operand, RegisterOperand)
    return operand.read().to(64), operand, gpr_index(i.decoded.op_register(index))


def move_control(i: Instruction) -> None:
    """MOV to or from CR0, CR2, CR3, CR4, CR8."""
    to_control = RegisterExt.is_cr(i.decoded.op0_register)
    number = _register_number(i, 0 if to_control else 1)
    if number not in (0, 2, 3, 4, 8):
        i.undefined()
    i.require_cpl(0)
    if to_control:
        value, _, register = _general(i, 1)
        _WRITE[number](i, value, register)
    else:
        _, operand, register = _general(i, 0)
        operand.write(_READ[number](i, register).to(operand.width))


def guest_view(i: Instruction, register: str) -> Value:
    """CR0 or CR4 as a guest reads it: the VMM's bits come from the read shadow."""
    real = i.get(register)
    if not i.non_root:
        return real
    mask = i.get(f"{register}_mask")
    return (real & ~mask) | (i.get(f"{register}_shadow") & mask)


def _read_cr3(i: Instruction, register: int) -> Value:
    exit_when(i, CR3_STORE_EXITING, EXIT_CR_ACCESS, 3 | _FROM_CR | register << 8)
    return i.get("cr3")


def _read_cr8(i: Instruction, register: int) -> Value:
    value = i.var(64, 0)
    if i.non_root:
        exit_when(i, CR8_STORE_EXITING, EXIT_CR_ACCESS, 8 | _FROM_CR | register << 8)
        with i.when_control("proc_controls", USE_TPR_SHADOW):
            tpr = i.load_physical(8, i.get("virtual_apic") + VIRTUAL_TPR)
            value.set((tpr >> 4).zext(64))
        with i.else_():
            value.set(i.service(Service.TPR_READ)[0].zext(64) & 0xF)
        return value.get()
    return i.service(Service.TPR_READ)[0].zext(64) & 0xF


_READ = {
    0: lambda i, register: guest_view(i, "cr0"),
    2: lambda i, register: i.get("cr2"),
    3: _read_cr3,
    4: lambda i, register: guest_view(i, "cr4"),
    8: _read_cr8,
}


def _guest_owned(i: Instruction, register: str, value: Value, qualification: Value | int) -> Value:
    """What a guest's write leaves in CR0 or CR4; a VM exit when it differs from the shadow."""
    if not i.non_root:
        return value
    mask, shadow = i.get(f"{register}_mask"), i.get(f"{register}_shadow")
    with i.if_(((value ^ shadow) & mask) != 0):
        i.vm_exit(EXIT_CR_ACCESS, qualification)
    return (i.get(register) & mask) | (value & ~mask)


def _write_cr0(i: Instruction, value: Value, register: int) -> None:
    value = _guest_owned(i, "cr0", value, _TO_CR | register << 8)
    i.call("write_cr0", value)
    i.resync()


def _write_cr2(i: Instruction, value: Value, register: int) -> None:
    i.put("cr2", value)


def _write_cr3(i: Instruction, value: Value, register: int) -> None:
    if i.non_root:
        with i.when_control("proc_controls", CR3_LOAD_EXITING):
            count = i.get("cr3_target_count")
            known = [
                (i.const(64, n).ult(count)) & (i.get(f"cr3_target{n}") == value) for n in range(4)
            ]
            with i.if_(~i.any_of(*known)):
                i.vm_exit(EXIT_CR_ACCESS, 3 | _TO_CR | register << 8)
    i.call("write_cr3", value)
    i.resync()


def _write_cr4(i: Instruction, value: Value, register: int) -> None:
    value = _guest_owned(i, "cr4", value, 4 | _TO_CR | register << 8)
    i.call("write_cr4", value)
    i.resync()


def _write_cr8(i: Instruction, value: Value, register: int) -> None:
    i.resync()
    if i.non_root:
        exit_when(i, CR8_LOAD_EXITING, EXIT_CR_ACCESS, 8 | _TO_CR | register << 8)
    i.fault_if((value >> 4) != 0, GP, 0)
    if i.non_root:
        with i.when_control("proc_controls", USE_TPR_SHADOW):
            place = i.get("virtual_apic") + VIRTUAL_TPR
            i.store_physical(place, (value << 4).trunc(32))
            i.put("tpr_below_threshold", value.ult(i.get("tpr_threshold") & 0xF))
            i.next()
    i.service(Service.TPR_WRITE, value.trunc(8))


_WRITE = {0: _write_cr0, 2: _write_cr2, 3: _write_cr3, 4: _write_cr4, 8: _write_cr8}


# --- CLTS, LMSW, SMSW ------------------------------------------------------------------------


@semantics("CLTS")
def clts(i: Instruction) -> None:
    i.require_cpl(0)
    if not i.non_root:
        i.put("cr0", i.get("cr0") & ~CR0_TS)
        return
    owned = (i.get("cr0_mask") & CR0_TS) != 0
    with i.if_(owned & ((i.get("cr0_shadow") & CR0_TS) != 0)):
        i.vm_exit(EXIT_CR_ACCESS, _CLTS)
    with i.if_(~owned):
        i.put("cr0", i.get("cr0") & ~CR0_TS)


@semantics("LMSW")
def lmsw(i: Instruction) -> None:
    """Load the low four bits of CR0; PE can be set but not cleared."""
    i.require_cpl(0)
    in_memory = i.is_memory(0)
    value = i.memory_operand(0, 16).read() if in_memory else i.dst.read().to(16)
    low = value.zext(64) & CR0_LOW
    if i.non_root:
        mask, shadow = i.get("cr0_mask"), i.get("cr0_shadow")
        sets_pe = mask.bit(0) & low.bit(0) & ~shadow.bit(0)
        changes = ((low ^ shadow) & mask & (CR0_LOW & ~CR0_PE)) != 0
        with i.if_(sets_pe | changes):
            i.put("exit_gla", i.memory_operand(0, 16).linear() if in_memory else i.const(64, 0))
            memory = _LMSW_MEMORY if in_memory else 0
            i.vm_exit(EXIT_CR_ACCESS, (value.zext(64) << 16) | (_LMSW | memory))
        low = (i.get("cr0") & mask & CR0_LOW) | (low & ~mask)
    old = i.get("cr0")
    i.call("write_cr0", (old & ~(CR0_LOW & ~CR0_PE)) | low)
    i.resync()


@semantics("SMSW")
def smsw(i: Instruction) -> None:
    require_no_umip(i)
    value = guest_view(i, "cr0")
    if i.is_memory(0):
        i.memory_operand(0, 16).write(value.trunc(16))
    else:
        i.dst.write(value.to(i.dst.width))


# --- debug registers -------------------------------------------------------------------------


def move_debug(i: Instruction) -> None:
    """MOV to or from DR0 to DR7; DR4 and DR5 are DR6 and DR7 unless CR4.DE is 1.

    Its VM exit comes before the faults for CPL and for CR4.DE, unlike those of other instructions
    (SDM 3C, Instructions That Cause VM Exits Conditionally).
    """
    to_debug = RegisterExt.is_dr(i.decoded.op0_register)
    number = _register_number(i, 0 if to_debug else 1)
    if number > 7:
        i.undefined()
    value, operand, register = _general(i, 1 if to_debug else 0)
    if i.non_root:
        direction = 0 if to_debug else _FROM_DR
        exit_when(i, MOV_DR_EXITING, EXIT_MOV_DR, number | direction | register << 8)
    if number in (4, 5):
        i.fault_if((i.get("cr4") & CR4_DE) != 0, 6)
    i.require_cpl(0)
    with i.if_((i.get("dr7") & DR7_GD) != 0):
        i.put("fault_debug", DR6_BD)
        i.fault(DB)
    slot = f"dr{number + 2 if number in (4, 5) else number}"
    if to_debug:
        _write_debug(i, slot, value)
    else:
        operand.write(i.get(slot, operand.width))


def _write_debug(i: Instruction, slot: str, value: Value) -> None:
    if slot in ("dr6", "dr7"):
        i.fault_if((value >> 32) != 0, GP, 0)
        fixed, writable = (
            (_DR6_FIXED, _DR6_WRITABLE) if slot == "dr6" else (_DR7_FIXED, _DR7_WRITABLE)
        )
        value = (value & writable) | fixed
    i.put(slot, value)
    i.resync()
