"""Unicorn's answer to a case (QEMU's TCG), and where it is known to be wrong."""

from oracle_case import CODE, REGIONS, Case, Outcome
from oracle_ours import FS_BASE
from unicorn import UC_ARCH_X86, UC_HOOK_INTR, UC_MODE_16, UC_MODE_32, UC_MODE_64, Uc, UcError
from unicorn import x86_const as x86

_GPRS_64 = [getattr(x86, f"UC_X86_REG_{name}") for name in (
    "RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI",
    *(f"R{n}" for n in range(8, 16)))]  # fmt: skip
_GPRS_32 = [getattr(x86, f"UC_X86_REG_{name}") for name in (
    "EAX", "ECX", "EDX", "EBX", "ESP", "EBP", "ESI", "EDI")]  # fmt: skip
_MODES = {64: UC_MODE_64, 32: UC_MODE_32, 16: UC_MODE_16}
UNDEFINED_OPCODE = 6


class Unicorn:
    """One emulator instance, used for all cases of a mode."""

    def __init__(self, bits: int) -> None:
        self.bits = bits
        self.uc = uc = Uc(UC_ARCH_X86, _MODES[bits])
        uc.ctl_set_cpu_model(x86.UC_CPU_X86_ICELAKE_SERVER)
        uc.mem_map(0, 0x1_0000)
        uc.mem_map(CODE, 0x40_0000)
        self.gprs = _GPRS_64 if bits == 64 else _GPRS_32
        self.ip = x86.UC_X86_REG_RIP if bits == 64 else x86.UC_X86_REG_EIP
        self.fault: int | None = None
        uc.hook_add(UC_HOOK_INTR, self._interrupted)
        if bits == 64:
            uc.reg_write(x86.UC_X86_REG_FS_BASE, FS_BASE)
        self._clean = uc.context_save()

    def _interrupted(self, uc: Uc, number: int, data: object) -> None:
        self.fault = number
        uc.emu_stop()

    def run(self, case: Case) -> Outcome:
        uc = self.uc
        if self.fault is not None:
            uc.context_restore(self._clean)  # else the next fault would be a double fault
        self.fault = None
        uc.mem_write(case.ip, case.code)
        uc.ctl_remove_cache(case.ip, case.ip + 16)
        for base, _ in REGIONS:
            uc.mem_write(base, case.region(base))
        for register, value in zip(self.gprs, case.gprs, strict=False):
            uc.reg_write(register, value)
        uc.reg_write(x86.UC_X86_REG_EFLAGS, case.flags | 2)
        try:
            uc.emu_start(case.ip, 0xFFFF_FFFF, count=1)
        except UcError as error:
            if self.fault is None:
                return Outcome(UNDEFINED_OPCODE if error.errno == 10 else -error.errno)
        if self.fault is not None:
            return Outcome(self.fault)
        return Outcome(
            None,
            tuple(uc.reg_read(register) for register in self.gprs),
            uc.reg_read(x86.UC_X86_REG_EFLAGS),
            uc.reg_read(self.ip),
            tuple(bytes(uc.mem_read(base, size)) for base, size in REGIONS),
        )
