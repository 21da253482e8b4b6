"""Pieces written by template: what random instruction forms would hardly ever get right.

Writes into code, traps, interrupt windows, breakpoints, page-table edits, indirect branches,
loops. A maker gets the draw and returns machine code with its fixups.
"""

from collections.abc import Callable
from random import Random

import lockstep_places as at
from lockstep_bytes import Emit
from lockstep_places import Mode
from lockstep_program import Fixup

Made = tuple[bytes, tuple[Fixup, ...]]
_OVERWRITES = (0x90, 0xCC, 0xF4, 0x40, 0x48, 0xEB, 0x74, 0x0F, 0x66, 0xC3, 0x05, 0x2D)
_SPECIAL = (at.UNMAPPED, at.READ_ONLY, at.SUPERVISOR, at.NO_EXECUTE, at.UNMAPPED_TOO,
            at.DATA_ALIAS, at.CODE_ALIAS)  # fmt: skip


class Draw:
    """What a maker may draw from: the random numbers, the mode, and the numbers of pieces."""

    def __init__(self, random: Random, mode: Mode, number: int, count: int) -> None:
        self.random, self.mode, self.emit = random, mode, Emit(mode)
        self.number, self.count = number, count
        self.victims: list[int] = []
        """Pieces that are worth being overwritten."""

    def near(self, span: int = 4) -> int:
        """The number of a piece close by, mostly behind this one."""
        if self.random.random() < 0.1:
            return self.random.randint(max(0, self.number - span), self.number)
        return self.number + self.random.randint(1, span)

    def victim(self) -> int:
        """A piece to overwrite: this one's successor, one already run, or any."""
        roll = self.random.random()
        if self.victims and roll < 0.5:
            return self.random.choice(self.victims)
        return self.number + 1 if roll < 0.75 else self.near(6)


def _address(draw: Draw, opcode: bytes, extension: int, tail: bytes, target: int, addend: int,
             alias: bool) -> Made:  # fmt: skip
    """An instruction whose memory operand is a piece's code."""
    code = draw.emit.absolute(opcode, extension, 0)
    size = draw.emit.absolute_width()
    addend += at.CODE_ALIAS - at.CODE if alias else 0
    return code + tail, (Fixup(len(code) - size, size, "data", target, addend),)


def write_code(draw: Draw) -> Made:
    """MOV, XOR or ADD into a piece of the program, perhaps through another linear address."""
    random = draw.random
    target, addend = draw.victim(), random.randrange(-1, 6)
    alias = random.random() < 0.2
    match random.randrange(4):
        case 0:
            byte = random.choice((*_OVERWRITES, random.randrange(256)))
            return _address(draw, b"\xc6", 0, bytes([byte]), target, addend, alias)
        case 1:  # XOR byte, imm8
            return _address(draw, b"\x80", 6, bytes([1 << random.randrange(8)]), target, addend,
                            alias)  # fmt: skip
        case 2:
            return _address(draw, draw.emit.wide + b"\xc7", 0, random.randbytes(4), target,
                            addend, alias)  # fmt: skip
    return _address(draw, b"\xfe", random.randrange(2), b"", target, addend, alias)


def write_code_with_string(draw: Draw) -> Made:
    """REP STOSB or REP MOVSB over a piece."""
    random, emit = draw.random, draw.emit
    count = random.randrange(1, 9)
    code = emit.load(1, count, 32) + emit.load(7, 0, 32)
    fixups = (Fixup(len(code) - 4, 4, "data", draw.victim(), random.randrange(-2, 3)),)
    if random.random() < 0.6:
        return code + bytes([0xB0, random.choice(_OVERWRITES), 0xFC, 0xF3, 0xAA]), fixups
    source = at.DATA + random.randrange(0x2000) - draw.mode.data_base
    return code + emit.load(6, source, 32) + b"\xfc\xf3\xa4", fixups


def data_beside_code(draw: Draw) -> Made:
    """Read-modify-write of bytes of the code page that no piece uses, or a read of code."""
    random = draw.random
    if random.random() < 0.3:
        return _address(draw, b"\x8a", random.randrange(4), b"", draw.near(), 1, False)
    return _address(draw, b"\x01", random.randrange(4), b"", draw.count + 1,
                    random.randrange(8, 300), False)  # fmt: skip


def victim(draw: Draw) -> Made:
    """An instruction whose immediate is worth changing."""
    random = draw.random
    draw.victims.append(draw.number)
    kind = random.randrange(4)
    if kind == 0:
        return bytes([0x04 | random.randrange(8) << 3, random.randrange(256)]), ()  # op al, imm8
    if kind == 1:
        return draw.emit.load(random.randrange(4), random.getrandbits(32), 32), ()
    if kind == 2:
        return b"\x90" * random.randrange(1, 6), ()
    register = 0xC0 | random.randrange(4)
    operation = random.randrange(8) << 3
    return bytes([0x83, register | operation, random.randrange(256)]), ()


def call_functions(draw: Draw) -> Made:
    """CALL the third page of code; what is there depends on its page-table entry."""
    offset = draw.random.choice((0, 0, 0, 1, 8))
    code = draw.emit.load(0, at.FUNCTIONS + offset - draw.mode.code_base, 32)
    return code + b"\xff\xd0", ()


def remap(draw: Draw) -> Made:
    """Exchange the frames of the third page: by software interrupt, or by hand with INVLPG.

    Mostly between two calls of what is there, so that the first one fills the TLB.
    """
    edit = _edit(draw)
    if draw.random.random() < 0.3:
        return edit, ()
    return call_functions(draw)[0] + edit + call_functions(draw)[0], ()


def _edit(draw: Draw) -> bytes:
    mode, emit = draw.mode, draw.emit
    if mode.cpl or mode.data_base or draw.random.random() < 0.5:
        return bytes([0xCD, at.REMAP_VECTOR])
    size = 8 if mode.long else draw.random.choice((4, 8))  # wrong for the paging: harmless
    place = at.PT + size * (at.FUNCTIONS >> 12)
    edit = emit.absolute(b"\x81", 6, place) + (0x1000).to_bytes(4, "little")
    return edit + emit.absolute(b"\x0f\x01", 7, at.FUNCTIONS)


def set_flags(draw: Draw) -> Made:
    """PUSH imm; POPF, with TF, DF, IF, AC, NT or IOPL now and then."""
    random = draw.random
    flags = random.getrandbits(12) & 0x8D5 | random.choice((0, 0x200, 0x200))
    for bit, chance in ((0x100, 0.3), (0x400, 0.2), (0x40000, 0.1), (0x4000, 0.03), (0x3000, 0.1)):
        flags |= bit if random.random() < chance else 0
    return draw.emit.wide + b"\x68" + flags.to_bytes(4, "little") + draw.emit.wide + b"\x9d", ()


def interrupt_window(draw: Draw) -> Made:
    code = draw.random.choice(
        (b"\xfa", b"\xfb", b"\xfa\xfb", b"\xfb\xfa", b"\xfb\x90", b"\xfb\xfb")
    )
    return code, ()


def halt(draw: Draw) -> Made:
    """STI; HLT: wakes with the next interrupt, or never."""
    return b"\xfb\xf4", ()


def load_ss(draw: Draw) -> Made:
    """MOV SS or POP SS and an instruction behind it, which no event may part from it."""
    random, selector = draw.random, draw.mode.selectors[2]
    behind = random.choice((b"\x90", b"\xcc", b"\x0f\x0b", b"\xfb", b"\xf4", b"\x9c", b""))
    if draw.mode.bits != 64 and random.random() < 0.4:
        return bytes([0x6A, selector, 0x17]) + behind, ()
    return draw.emit.load(0, selector, 32) + b"\x8e\xd0" + behind, ()


def load_segment(draw: Draw) -> Made:
    """MOV ES, FS or GS; then an access through it."""
    random = draw.random
    selector = random.choice((0, at.SMALL_SELECTOR, at.SMALL_SELECTOR, at.ABSENT_SELECTOR,
                              at.READ_ONLY_SELECTOR, draw.mode.selectors[1], 0x80))  # fmt: skip
    segment = random.choice((0, 4, 5))
    prefix = {0: b"\x26", 4: b"\x64", 5: b"\x65"}[segment]
    gva = draw.mode.data_base + random.choice((0, 0x7F8, 0x7FE, 0x800, 0x123, 0x5000))
    access = draw.emit.absolute(random.choice((b"\x8b", b"\x89", b"\x00")), 1, gva)
    return draw.emit.load(0, selector, 32) + bytes(
        [0x8E, 0xC0 | segment << 3]
    ) + prefix + access, ()


def software_interrupt(draw: Draw) -> Made:
    random = draw.random
    vector = random.choice((0x30, 0x41, 0x80, 0x20, 3, 0x0D, 0xFF))
    choices = [bytes([0xCD, vector]), b"\xcc", b"\x0f\x0b", b"\xf1"]
    if draw.mode.bits != 64:
        choices += [b"\xce"]
    return random.choice(choices), ()


def system(draw: Draw) -> Made:
    """Instructions that ask the machine something or change how it works."""
    random, emit = draw.random, draw.emit
    simple = (
        b"\x0f\xa2", b"\x0f\x31", b"\x0f\x01\xf9", b"\x9b", b"\xf3\x90", b"\x0f\xae\xf0",
        b"\x0f\xae\xe8", b"\x0f\x06", b"\x0f\x20\xd8\x0f\x22\xd8", b"\x0f\x20\xc0", b"\x0f\x09",
        b"\x0f\x20\xe0\x34\x80\x0f\x22\xe0",  # CR4.PGE
        b"\x0f\x20\xc0" + emit.wide + b"\x35\x00\x00\x01\x00\x0f\x22\xc0",  # CR0.WP
        b"\x0f\x01\xe0", b"\x0f\x00\xc8", b"\xe4\x80", b"\xe6\x80", b"\xed", b"\x6c", b"\x6e",
        b"\x0f\x01\xf8", b"\x0f\xc7\xf0", b"\x0f\x21\xf0", b"\x0f\x23\xf8", b"\x0f\x01\xd0",
        b"\x0f\x01\xcb\x0f\x01\xca", b"\x0f\x01\xc1", b"\x0f\x0d\x08", b"\x0f\x30",
    )  # fmt: skip
    roll = random.random()
    if roll < 0.7:
        return random.choice(simple), ()
    if roll < 0.85:
        index = random.choice((0xC000_0103, 0xC000_0100, 0xC000_0102, 0x10, 0x174, 0x1D9, 0xFFFF))
        read = emit.load(1, index, 32) + b"\x0f\x32"
        return read + (b"\x0f\x30" if random.random() < 0.5 and index != 0x1D9 else b""), ()
    return emit.absolute(b"\x0f\x01", 7, random.choice(_SPECIAL) & ~0xFFF), ()


def breakpoint_set(draw: Draw) -> Made:
    """A debug register and DR7: on data, or on a piece."""
    random, emit, number = draw.random, draw.emit, draw.random.randrange(4)
    kind = random.choice((0, 0, 1, 3))
    load = emit.load(0, at.DATA + random.randrange(0x40), 32)
    fixups: tuple[Fixup, ...] = ()
    if kind == 0:
        fixups = (Fixup(len(load) - 4, 4, "data", draw.near(), draw.mode.data_base),)
    length = random.choice((0, 1, 3, 2)) if kind else 0
    dr7 = 0x400 | 2 << 2 * number | (kind | length << 2) << (16 + 4 * number)
    if random.random() < 0.2:
        dr7 = 0x400
    code = load + bytes([0x0F, 0x23, 0xC0 | number << 3])
    return code + emit.load(0, dr7, 32) + b"\x0f\x23\xf8", fixups


def special_access(draw: Draw) -> Made:
    """A load, store, exchange, push or jump at a page that does not allow it, or at an edge."""
    random, emit = draw.random, draw.emit
    page = random.choice(_SPECIAL)
    gva = page + random.choice((-2, -1, 0, 8, 0xFFC, 0xFFD, 0xFFF, random.randrange(0x1000)))
    roll = random.random()
    if roll < 0.1:
        return emit.load(0, page - draw.mode.code_base, 32) + b"\xff\xe0", ()
    if roll < 0.2 and draw.mode.bits == 64:
        gva = random.choice((1 << 63, 0x7FFF_FFFF_FFFD, 0xFFFF_7FFF_FFFF_FFFF))
        opcode = random.choice((b"\x8b\x08", b"\x89\x08", b"\xff\xe0", b"\x48\x8b\xe0\x50"))
        return emit.load(0, gva, 64) + opcode, ()
    if roll < 0.3:
        return emit.load(4, gva - draw.mode.data_base, 32) + random.choice((b"\x50", b"\x58")), ()
    opcode = random.choice((b"\x8b", b"\x89", b"\x01", b"\x87", b"\x8a", b"\xff", b"\x39"))
    prefix = random.choice((b"", b"", b"\x66", b"\xf0"))
    return prefix + emit.absolute(opcode, random.choice((0, 1, 6)), gva), ()


def indirect(draw: Draw) -> Made:
    """JMP or CALL through a register or memory, or PUSH and RET, to a piece."""
    random, emit, target = draw.random, draw.emit, draw.near()
    load = emit.load(0, 0, 32)
    fixups = (Fixup(len(load) - 4, 4, "code", target),)
    match random.randrange(4):
        case 0:
            return load + bytes([0xFF, random.choice((0xE0, 0xD0))]), fixups
        case 1:
            return load + b"\x50\xc3", fixups
    slot = at.DATA + 0x1000 + 8 * random.randrange(8)
    store = emit.wide + emit.absolute(b"\xc7", 0, slot) + bytes(4)
    high = b""
    if draw.mode.bits == 64:
        high = emit.absolute(b"\xc7", 0, slot + 4) + bytes(4)
    jump = emit.absolute(b"\xff", random.choice((2, 4)), slot)
    return store + high + jump, (Fixup(len(store) - 4, 4, "code", target),)


def loop_back(draw: Draw) -> Made:
    """A counter in memory that keeps a backward branch from going on for ever."""
    random, emit = draw.random, draw.emit
    counter = at.DATA + 0x1100 + random.randrange(4)
    test = emit.absolute(b"\xfe", 1, counter)
    condition = random.choice((0x85, 0x8F, 0x89))
    size = 2 if draw.mode.bits == 16 else 4
    code = test + bytes([0x0F, condition]) + bytes(size)
    target = random.randint(max(0, draw.number - 6), draw.number)
    return code, (Fixup(len(code) - size, size, "relative", target, 0, len(code)),)


def flag_chain(draw: Draw) -> Made:
    """A producer of flags, instructions that leave flags alone or not, and a consumer."""
    random = draw.random
    word = {64: b"\x48", 32: b"", 16: b"\x66"}[draw.mode.bits]
    a, b = random.randrange(4), random.randrange(4)
    operation = random.choice((0x01, 0x11, 0x19, 0x29, 0x31, 0x39, 0x85, 0x21, 0x09))
    code = random.choice((b"", b"\x66", word)) + bytes([operation, 0xC0 | a << 3 | b])
    if operation < 0x40 and random.random() < 0.3:
        code = bytes([operation - 1, 0xC0 | random.randrange(64)])
    between = (b"", b"\x89\xc1", b"\x8d\x00", b"\xf7\xd1", b"\xf5", b"\xd3\xe0", b"\xff\xc1",
               b"\x0f\xb6\xc8", b"\x90", b"\xd1\xd8")  # fmt: skip
    code += random.choice(between) + random.choice(between)
    condition = random.randrange(16)
    match random.randrange(5):
        case 0:
            return code + bytes([0x0F, 0x90 | condition, 0xC0 | random.randrange(8)]), ()
        case 1:
            return code + bytes([0x0F, 0x40 | condition, 0xC0 | a << 3 | b]), ()
        case 2:
            return code + random.choice(
                (b"\x9f", b"\x9c", b"\x11\xc8", b"\x19\xd1", b"\xd1\xd2")
            ), ()
    code += bytes([0x70 | condition, 0])
    return code, (Fixup(len(code) - 1, 1, "relative", draw.near(), 0, len(code)),)


def balanced_stack(draw: Draw) -> Made:
    """Pushes and pops in pairs, ENTER and LEAVE."""
    random = draw.random
    a, b = random.choice((0, 1, 2, 3, 6, 7)), random.choice((0, 1, 2, 3, 6, 7))
    frame = bytes([0xC8, random.randrange(0x40), 0, random.choice((0, 0, 1, 2))]) + b"\xc9"
    pairs = bytes([0x50 | a, 0x50 | b, 0x58 | a, 0x58 | b])
    pushed = bytes([0x6A, random.randrange(256), 0x58 | a])
    choices = (bytes([0x50 | a, 0x58 | b]), pairs, b"\x9c" + bytes([0x58 | a]), pushed, frame)
    return random.choice(choices), ()


Maker = Callable[[Draw], Made]
MAKERS: tuple[tuple[Maker, int], ...] = (
    (write_code, 10), (write_code_with_string, 3), (data_beside_code, 5), (victim, 12),
    (call_functions, 4), (remap, 3), (set_flags, 6), (interrupt_window, 4), (halt, 2),
    (load_ss, 4), (load_segment, 3), (software_interrupt, 5), (system, 9), (breakpoint_set, 3),
    (special_access, 8), (indirect, 8), (loop_back, 6), (flag_chain, 22), (balanced_stack, 6),
)  # fmt: skip
