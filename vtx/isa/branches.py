"""Near control flow: JMP CALL RET, Jcc, JCXZ, LOOP.

A target is checked before anything is pushed, popped or counted: #GP(0) for an offset beyond
the limit of CS, or a non-canonical one. Far forms share the mnemonics JMP and CALL and are
handed to `vtx.isa.far`. Sources: SDM 2A/2B, the instruction's own page.
"""

from iced_x86 import Code, OpKind

from vtx.isa.builder import Value
from vtx.isa.instruction import GP, Instruction, semantics
from vtx.isa.moves import CONDITION_CODES
from vtx.isa.program import Origin

_NEAR = {OpKind.NEAR_BRANCH16: 16, OpKind.NEAR_BRANCH32: 32, OpKind.NEAR_BRANCH64: 64}
_FAR = (OpKind.FAR_BRANCH16, OpKind.FAR_BRANCH32)
_INDIRECT = {
    Code.JMP_RM16: 16, Code.JMP_RM32: 32, Code.JMP_RM64: 64,
    Code.CALL_RM16: 16, Code.CALL_RM32: 32, Code.CALL_RM64: 64,
}  # fmt: skip
_RETURNS = {
    Code.RETNW: 16, Code.RETND: 32, Code.RETNQ: 64,
    Code.RETNW_IMM16: 16, Code.RETND_IMM16: 32, Code.RETNQ_IMM16: 64,
}  # fmt: skip


@semantics("JMP")
def jmp(i: Instruction) -> None:
    if _is_far(i):
        from vtx.isa.far import jump_far

        jump_far(i)
        return
    target, _ = _target(i)
    go_to(i, target)


@semantics("CALL")
def call(i: Instruction) -> None:
    if _is_far(i):
        from vtx.isa.far import call_far

        call_far(i)
        return
    target, width = _target(i)
    check_target(i, target)
    i.push(i.next_ip.to(width))
    i.jump(target)


@semantics("RET")
def ret(i: Instruction) -> None:
    width = _RETURNS[i.decoded.code]
    target = i.load_stack(0, width).zext(64)
    check_target(i, target)
    released = i.immediate(0) if i.decoded.op_count else 0
    i.drop_stack(width // 8 + released)
    i.jump(target)


@semantics(*(f"J{code.upper()}" for code in CONDITION_CODES))
def jcc(i: Instruction) -> None:
    _jump_if(i, i.flags.condition(i.mnemonic[1:].lower()))


@semantics("JCXZ", "JECXZ", "JRCXZ")
def jcxz(i: Instruction) -> None:
    width = {"JCXZ": 16, "JECXZ": 32, "JRCXZ": 64}[i.mnemonic]
    _jump_if(i, i.get("rcx", width) == 0)


@semantics("LOOP", "LOOPE", "LOOPNE")
def loop(i: Instruction) -> None:
    """Count down and jump unless that gives zero (or ZF is not as asked)."""
    count = i.get("rcx", _loop_width(i)) - 1
    again = count != 0
    if i.mnemonic == "LOOPE":
        again = again & i.flags.get("zf")
    elif i.mnemonic == "LOOPNE":
        again = again & ~i.flags.get("zf")
    target, _ = _target(i)
    with i.if_(again):
        check_target(i, target)
    i.write_gpr("rcx", count)
    with i.if_(again):
        i.jump(target)


_LOOP_WIDTHS = {
    code: width
    for name, code in vars(Code).items()
    if name.startswith(("LOOP_", "LOOPE_", "LOOPNE_"))
    for suffix, width in (("_CX", 16), ("_ECX", 32), ("_RCX", 64))
    if name.endswith(suffix)
}


def _loop_width(i: Instruction) -> int:
    """LOOP counts in CX, ECX or RCX: its address size."""
    return _LOOP_WIDTHS[i.decoded.code]


# --- targets ---------------------------------------------------------------------------------


def _is_far(i: Instruction) -> bool:
    kind = i.decoded.op_kind(0)
    return kind in _FAR or (kind not in _NEAR and i.decoded.code not in _INDIRECT)


def _target(i: Instruction) -> tuple[Value, int]:
    """Target offset (64 bits) and operand size of a near JMP, CALL, Jcc or LOOP."""
    width = _NEAR.get(i.decoded.op_kind(0), 0)
    if width:
        # iced gives the target as if the instruction stood at 0.
        target = i.ip + i.literal(64, i.decoded.near_branch_target, Origin.BRANCH)
        return (target if width == 64 else target & ((1 << width) - 1)), width
    width = _INDIRECT[i.decoded.code]
    return i.op(0, width).read().zext(64), width


def check_target(i: Instruction, target: Value) -> None:
    """#GP(0) unless `target` is canonical (64-bit mode) or inside the limit of CS."""
    if i.key.bits == 64:
        i.fault_if(((target + (1 << 47)) >> 48) != 0, GP, 0)
    elif not i.key.flat & 2:
        i.fault_if(i.get("cs_limit").ult(target), GP, 0)


def go_to(i: Instruction, target: Value) -> None:
    check_target(i, target)
    i.jump(target)


def _jump_if(i: Instruction, condition: Value) -> None:
    target, _ = _target(i)
    with i.if_(condition):
        go_to(i, target)
