"""Fast system calls: SYSCALL, SYSRET, SYSENTER, SYSEXIT.

They load fixed segments without reading descriptors.
Sources: SDM 2B, SYSCALL; SYSENTER; SYSEXIT; SYSRET; SDM 3A, Fast System Calls in 64-Bit Mode.
"""

from vtx.isa.builder import Value
from vtx.isa.descriptors import is_canonical, put_segment
from vtx.isa.instruction import GP, UD, Instruction, semantics
from vtx.isa.rflags import DEFINED, IF, RF, VM, read_rflags, write_rflags
from vtx.spec.registers import EFER

EFER_SCE = EFER.SCE
_CODE64, _CODE32, _DATA = 0xA09B, 0xC09B, 0xC093
_DPL3 = 3 << 5


def _put_flat(i: Instruction, name: str, selector: Value, rights: int) -> None:
    """A segment with base 0 and limit 4 GiB."""
    limit = i.const(64, 0xFFFF_FFFF)
    put_segment(i, name, selector, i.const(64, 0), limit, i.const(64, rights))


def _require_sce(i: Instruction) -> None:
    i.fault_if((i.get("efer") & EFER_SCE) == 0, UD)


@semantics("SYSCALL")
def syscall(i: Instruction) -> None:
    """To IA32_LSTAR at CPL 0; RCX and R11 keep RIP and RFLAGS."""
    if i.key.bits != 64:
        i.undefined()
    _require_sce(i)
    flags = read_rflags(i) & ~RF
    i.put("rcx", i.next_ip)
    i.put("r11", flags)
    write_rflags(i, flags & ~i.get("fmask"))
    selector = (i.get("star") >> 32).trunc(16) & 0xFFFC
    _put_flat(i, "cs", selector, _CODE64)
    _put_flat(i, "ss", selector + 8, _DATA)
    i.resync()
    i.jump(i.get("lstar"))


@semantics("SYSRET", "SYSRETQ")
def sysret(i: Instruction) -> None:
    """Back to CPL 3, to 64-bit code (SYSRETQ) or compatibility mode."""
    if i.key.bits != 64:
        i.undefined()
    _require_sce(i)
    i.require_cpl(0)
    wide = i.mnemonic == "SYSRETQ"
    target = i.get("rcx")
    if wide:
        i.fault_if(~is_canonical(target), GP, 0)
    else:
        target = target & 0xFFFF_FFFF
    write_rflags(i, i.get("r11") & (DEFINED & ~(RF | VM)))
    base = (i.get("star") >> 48).trunc(16)
    _put_flat(i, "cs", (base + 16 if wide else base) | 3, (_CODE64 if wide else _CODE32) | _DPL3)
    _put_flat(i, "ss", (base + 8) | 3, _DATA | _DPL3)
    i.resync()
    i.jump(target)


@semantics("SYSENTER")
def sysenter(i: Instruction) -> None:
    """To IA32_SYSENTER_EIP at CPL 0 with IA32_SYSENTER_ESP."""
    if not i.key.protected:
        i.fault(GP, 0)
        return
    selector = i.get("sysenter_cs", 16)
    i.fault_if((selector & 0xFFFC) == 0, GP, 0)
    i.put("rflags", i.get("rflags") & ~(VM | IF | RF))
    keep = 64 if i.key.long else 32
    i.put("rsp", i.get("sysenter_esp", keep))
    _put_flat(i, "cs", selector & 0xFFFC, _CODE64 if i.key.long else _CODE32)
    _put_flat(i, "ss", (selector & 0xFFFC) + 8, _DATA)
    i.resync()
    i.jump(i.get("sysenter_eip", keep).to(64))


@semantics("SYSEXIT", "SYSEXITQ")
def sysexit(i: Instruction) -> None:
    """Back to CPL 3: RIP from RDX, RSP from RCX."""
    selector = i.get("sysenter_cs", 16)
    if not i.key.protected:
        i.fault(GP, 0)
        return
    i.fault_if((selector & 0xFFFC) == 0, GP, 0)
    i.require_cpl(0)
    wide = i.mnemonic == "SYSEXITQ"
    target, stack = i.get("rdx"), i.get("rcx")
    if wide:
        i.fault_if(~is_canonical(target) | ~is_canonical(stack), GP, 0)
    else:
        target, stack = target & 0xFFFF_FFFF, stack & 0xFFFF_FFFF
    i.put("rsp", stack)
    code = selector + (32 if wide else 16)
    _put_flat(i, "cs", code | 3, (_CODE64 if wide else _CODE32) | _DPL3)
    _put_flat(i, "ss", (selector + (40 if wide else 24)) | 3, _DATA | _DPL3)
    i.resync()
    i.jump(target)
