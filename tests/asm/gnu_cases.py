"""Hand-written sources whose bytes and relocations must equal GNU as's."""

_DATA = r"""
.byte 1, 2, 0xff, -1, 'a', '\n'
.word 0x1234, -2
.short 5; .hword 6; .value 7; .2byte 8
.long 0x12345678, -1
.int 5; .4byte 6
.quad 0x123456789abcdef0, -1
.8byte 7
.octa 0x0102030405060708090a0b0c0d0e0f10
.ascii "abc", "d\n\t\\\"\x41\101"
.asciz "x", "yz"
.string "end"
.zero 3
.skip 4, 0x55
.space 2
.fill 3, 2, 0x1234
.fill 2, 8, 0x11223344
.fill 2
.uleb128 0, 127, 128, 624485
.sleb128 -1, -64, -65, 63, 64
"""

_EXPRESSIONS = r"""
.set A, 5
B = A * 3 + 1
.equ C, B - A
.long A, B, C
.long 1 + 2 * 3, (1 + 2) * 3, 1 << 4 | 3, 1 | 2 + 4, 7 & 3 - 1
.long 10 / 3, -10 / 3, 10 % 3, -10 % 3, 5 ^ 1, ~0, !5, !0, -5
.long 1 == 1, 1 != 1, 2 < 3, 3 <= 3, 2 > 3, 3 >= 4, 1 <> 2
.long 1 && 2, 0 || 0, 5 ! 1
.long 3 shl 2, 256 shr 4, 7 and 3, 8 or 1, 6 xor 3, 17 mod 5, not 1
.long 1 eq 1, 1 ne 1, 2 lt 3, 2 le 2, 3 gt 2, 1 ge 2
.long 0x10 + 010 + 0b101 + 'A'
.quad 1 << 40, -1 >> 1, 0xffffffffffffffff
.long 2 + 3 == 5, 1 + 1 < 3 && 4 > 2
"""

_LABELS = r"""
1: nop
start: jmp 1b
2: jmp 2f
jmp 1f
1: nop
2: .long . - start, 2b - 1b, end - start
.long 1b - ., start - end
.quad start, end + 4
lea rax, [rip + end]
mov ecx, offset end - start
mov ecx, end - start
end: nop
mov ecx, end - start
jmp external
call external
call start
.weak w
w: nop
call w
.globl g
g: nop
jmp g
jmp g + 2
je external
loop start
jrcxz start
"""

_PADDING = "\n".join(
    f"nop\n.fill {n}, 1, 0x90\n.p2align 4\n.balign 32\n.p2align 6" for n in (0, 1, 3, 7, 11, 14, 30)
)
_PADDING_ODDS = r"""
.byte 1
.align 8
.byte 1
.balign 8, 0x55
.byte 1
.p2align 4, , 3
.byte 1
.p2align 4, 0xcc, 15
.byte 1
.byte 2
.balignw 8, 0x1234
.byte 1
.org 0x60
.byte 1
.org . + 5, 0xaa
.byte 2
"""
_BIG_PADDING = "\n".join(f".fill {256 - n}, 1, 0x90\n.balign 256" for n in range(1, 200, 3))


def _relaxation() -> str:
    """Jumps around the edge of the short range, depending on each other."""
    lines = []
    for number, distance in enumerate((100, 121, 122, 123, 124, 125, 126, 127, 128, 129, 130)):
        lines += [f"f{number}: jmp t{number}", f"jz t{number}", f".fill {distance}, 1, 0x90"]
        lines += [f"t{number}: nop", f"jnz f{number}", f"jmp f{number}"]
    for number in range(40):
        lines.append(f"jmp c{(number * 7 + 20) % 40}\nc{number}: nop; nop")
    lines.append("last: jmp . + 10\njmp last + 1\njmp 1f\n.p2align 5\n1: nop")
    return "\n".join(lines)


_MACROS = r"""
.macro load reg, value=7
mov \reg, \value
.endm
.macro pair a:req, rest:vararg
load \a
.long \rest
.endm
.macro unique
l\@: jmp l\@
.endm
.macro join prefix, n
\prefix\()_\n: nop
.endm
.macro count n
.if \n
.byte \n
count \n-1
.endif
.endm
load eax
load ebx, 9
load reg=ecx, value=11
load edx 13
pair edx, 1, 2, 3
unique
unique
join item, 4
count 4
.rept 3
nop
.endr
.irp r, eax, ebx, ecx
push r\()
.endr
.irp reg, rax,rbx,r8
push \reg
.endr
.irpc c, 0123
.byte \c
.endr
.macro store where, what
mov dword ptr \where, \what
.endm
store [rax + 4], 5
store "[rbx + rcx * 4]", 6
.rept 2
.rept 2
.byte 1
.endr
.byte 2
.endr
.macro early n
.byte 1
.if \n
.exitm
.endif
.byte 2
.endm
early 0
early 1
"""

_CONDITIONS = r"""
.set X, 3
.if X == 3
.byte 1
.else
.byte 2
.endif
.if X < 3
.byte 3
.elseif X == 3
.byte 4
.elseif 1
.byte 5
.else
.byte 6
.endif
.ifdef X
.byte 7
.endif
.ifndef X
.byte 8
.else
.byte 9
.endif
.ifndef Y
.byte 10
.if 0
.byte 11
.if 1
.byte 12
.endif
.else
.byte 13
.endif
.endif
.ifb
.byte 14
.endif
.ifnb a
.byte 15
.endif
.ifc abc,abc
.byte 16
.endif
.ifnc abc,abd
.byte 17
.endif
.ifeq X-3
.byte 18
.endif
.ifgt X-3
.byte 19
.endif
.ifge X-3
.byte 20
.endif
.iflt X-4
.byte 21
.endif
.ifle X-2
.byte 22
.endif
.ifne X
.byte 23
.endif
.ifeqs "a","a"
.byte 24
.endif
"""

_SECTIONS = r"""
.byte 1
.subsection 2
.byte 5
.subsection 1
.byte 4
.pushsection .other, "aw", @progbits
.byte 9
other: .long other - 4
.popsection
.byte 3
.subsection 0
.byte 2
.section .other
.byte 8
.previous
.byte 6
.quad other, .other
.long other - .
lea rax, other[rip]
call other
"""

_COMMENTS = """
# a whole line
nop # the rest
/* a block */ nop /* another */ ; nop
/* over
several lines */ nop
.ascii "# not // a /* comment */"
.byte '#', ';', '"'
nop ; nop;nop
"""

_EQUATES_LATER = r"""
mov eax, LATER
mov eax, [rbx + LATER]
.long LATER, LATER * 2
.set LATER, 5
mov eax, LATER
mov eax, [rbx + LATER]
.set counter, 0
.rept 3
.set counter, counter + 1
.byte counter
.endr
p = .
.long . - p
"""

_DATA_16_32 = r"""
mov ax, offset foo
mov eax, [foo]
jmp foo
call foo
jz foo
.word foo
.long foo, foo - ., here
here: jmp here
.byte here - 1
push offset foo
mov eax, offset here
mov al, [here]
.p2align 4
nop
.p2align 5
nop
"""

_COMMON = [
    _DATA, _EXPRESSIONS, _PADDING_ODDS, _CONDITIONS, _COMMENTS, _relaxation(), _BIG_PADDING,
    _PADDING,
]  # fmt: skip
CASES: dict[int, list[str]] = {
    64: [*_COMMON, _LABELS, _MACROS, _SECTIONS, _EQUATES_LATER],
    32: [*_COMMON, _DATA_16_32, "jmp 8:foo\nljmp 8:offset foo\ncall 0x10:0x123456"],
    16: [*_COMMON, _DATA_16_32],
}
