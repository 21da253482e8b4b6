"""Source lines for every instruction form that real kernels, hypervisors and tests contain.

Lines are made from iced-x86's OpCodeInfo through asm.forms: each operand in turn takes every
shape it can have while the others keep their first shape.
"""

from __future__ import annotations

import re
from pathlib import Path

from iced_x86 import Code

from asm.forms import Form, MemoryShape, Slot, forms_of, mnemonics
from asm.registers import REGISTER_NAME, RegisterClass

_WRITTEN = Path(__file__).parent / "data" / "written_lines.txt"
_BASE = Path(__file__).parent / "data" / "base_forms.txt"
_WIDE = re.compile(r"\br([a-d]x|[sd]i|[sb]p|ip)\b")  # symbols, to GNU as, outside 64-bit code
_KEYWORD = {1: "byte", 2: "word", 4: "dword", 6: "fword", 8: "qword", 10: "tbyte", 16: "oword"}
_REGISTERS = {
    RegisterClass.R8: ["al", "ch", "dl", "sil", "r9b"],
    RegisterClass.R16: ["ax", "cx", "bp", "r10w"],
    RegisterClass.R32: ["eax", "ecx", "esi", "r12d"],
    RegisterClass.R64: ["rax", "rcx", "rsi", "r13"],
    RegisterClass.SEG: ["ds", "es", "ss", "fs", "gs"],
    RegisterClass.CR: ["cr0", "cr3", "cr4", "cr8"],
    RegisterClass.DR: ["dr0", "dr6", "dr7"],
}
_ADDRESSES = {
    64: ["[rax]", "[rbp]", "[rsp+8]", "[r13+r12*4-129]", "[rip+foo]", "fs:[0x10]", "[foo]",
         "[ebx+4]", "[rax*8+0x1000]", "gs:[rdi]"],
    32: ["[eax]", "[ebp]", "[esp+8]", "[esi+edi*4-129]", "[foo]", "fs:[0x10]", "[bx+si]",
         "[eax*8+0x1000]", "ds:[ebp+4]"],
    16: ["[bx+si]", "[bp]", "[di+0x1234]", "[0x1234]", "[foo]", "[eax]", "fs:[bx-1]"],
}  # fmt: skip
_IMMEDIATES = {
    1: ["1", "5", "0x7f", "-1", "0x80", "0xff"],
    2: ["1", "0x7f", "0x80", "-128", "0x1234", "0xffff", "0xff80"],
    4: ["1", "-1", "127", "128", "-129", "0x12345678", "0x7fffffff", "0x80000000", "offset foo"],
    8: ["1", "-1", "0x7fffffff", "0x80000000", "0x123456789abcdef0"],
}


def _memory(slot: Slot, form: Form, mode: int) -> list[str]:
    if slot.memory is MemoryShape.STRING:
        return []
    addresses = ["[0x1234]", "[foo]"] if slot.memory is MemoryShape.MOFFS else _ADDRESSES[mode]
    keyword = _KEYWORD.get(form.memory_size)
    sized = [f"{keyword} ptr {address}" for address in addresses] if keyword else []
    return sized + addresses[:2]


def _shapes(slot: Slot, form: Form, mode: int) -> list[str]:
    shapes: list[str] = []
    if slot.fixed_register:
        return [REGISTER_NAME[slot.fixed_register]]
    if slot.register_class:
        names = _REGISTERS.get(slot.register_class, [])
        shapes += [n for n in names if mode == 64 or not (n[0] == "r" or n == "sil")]
    if slot.memory:
        shapes += _memory(slot, form, mode)
    if slot.immediate:
        shapes += _IMMEDIATES[slot.immediate.extended or slot.immediate.size or 1]
    if slot.branch:
        shapes += ["foo", "foo+4", ".", "0x1000"]
    if slot.far_width:
        shapes += ["0x10:0x1234", "8:foo"]
    return shapes


def _lines(form: Form, mode: int) -> list[str]:
    mnemonic = form.text.split()[0]
    options = [_shapes(slot, form, mode) for slot in form.slots]
    if not all(options):
        return [mnemonic]
    first = [shapes[0] for shapes in options]
    rows = [first]
    for place, shapes in enumerate(options):
        rows += [[*first[:place], shape, *first[place + 1 :]] for shape in shapes[1:]]
    rows.append([shapes[-1] for shapes in options])
    lines = [f"{mnemonic} {', '.join(row)}".strip() for row in rows]
    if form.operand_size and mnemonic in ("push", "pop", "ret", "retf", "leave", "call", "iret"):
        suffix = {16: "w", 32: "d", 64: "q"}[form.operand_size]
        lines += [line.replace(mnemonic, mnemonic + suffix, 1) for line in lines[:6]]
    if form.lockable:
        lines += [f"lock {line}" for line in lines if "[" in line][:2]
    if mnemonic[:4] in ("movs", "stos", "lods", "scas", "cmps", "ins", "outs"):
        lines += [f"{prefix} {line}" for line in lines[:1] for prefix in ("rep", "repne")]
    return lines


def form_lines(mode: int) -> list[str]:
    """Every distinct line for the base forms that exist in this mode, and hand-written ones."""
    names = _BASE.read_text(encoding="utf-8").split()
    wanted = {getattr(Code, name) for name in names}
    lines: dict[str, None] = {}
    seen: set[int] = set()
    for mnemonic in mnemonics(mode):
        for form in forms_of(mnemonic, mode):
            if form.code in wanted and form.code not in seen:
                seen.add(form.code)
                lines.update(dict.fromkeys(_lines(form, mode)))
    written = _WRITTEN.read_text(encoding="utf-8").splitlines()
    lines.update((line, None) for line in written if mode == 64 or not _WIDE.search(line))
    return list(lines)
