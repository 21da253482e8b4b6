"""The stack: widths, RSP-relative operands, frames, and who may change which flag."""

import pytest

IF, IOPL, TF, NT, AC, VM, RF = 1 << 9, 3 << 12, 1 << 8, 1 << 14, 1 << 18, 1 << 17, 1 << 16


def test_push_rsp_stores_the_old_value(bench) -> None:
    b = bench()
    b.run("54")
    assert (b.get("rsp"), b.peek(0x7FF8)) == (0x7FF8, 0x8000)


def test_pop_rsp_loads_the_value(bench) -> None:
    b = bench().poke(0x8000, 0x1234)
    b.run("5c")
    assert b.get("rsp") == 0x1234


def test_pop_into_memory_at_rsp_uses_the_incremented_pointer(bench) -> None:
    b = bench().poke(0x8000, 0x77)
    b.run("8f0424")  # pop [rsp]
    assert (b.get("rsp"), b.peek(0x8008)) == (0x8008, 0x77)


def test_a_pop_whose_store_faults_does_not_move_the_pointer(bench) -> None:
    b = bench(bits=32).set(ds_limit=0xFFF, rax=0x2000)
    assert b.run("8f00") == 13
    assert b.get("rsp") == 0x8000


@pytest.mark.parametrize(
    ("bits", "code", "size", "value"),
    [
        (64, "6a80", 8, 0xFFFF_FFFF_FFFF_FF80),
        (64, "666a80", 2, 0xFF80),
        (64, "6800000080", 8, 0xFFFF_FFFF_8000_0000),
        (32, "6a80", 4, 0xFFFF_FF80),
        (32, "6668ff80", 2, 0x80FF),
        (16, "6a80", 2, 0xFF80),
        (16, "666a80", 4, 0xFFFF_FF80),
    ],
)
def test_pushed_immediates_are_sign_extended(
    bench, bits: int, code: str, size: int, value: int
) -> None:
    b = bench(bits=bits)
    b.run(code)
    assert b.get("rsp") == 0x8000 - size
    assert b.peek(0x8000 - size, size) == value


def test_a_16_bit_stack_wraps_and_keeps_the_upper_half(bench) -> None:
    b = bench(bits=16).set(rsp=0x5_0000)
    b.run("50")
    assert b.get("rsp") == 0x5_FFFE


def test_pusha_and_popa_are_inverse_but_for_the_stack_pointer(bench) -> None:
    names = ("rax", "rcx", "rdx", "rbx", "rbp", "rsi", "rdi")
    b = bench(bits=32).set(**{name: 0x1111 * (n + 1) for n, name in enumerate(names)})
    b.run("60")
    assert b.get("rsp") == 0x8000 - 32
    assert b.peek(0x8000 - 20, 4) == 0x8000
    b.set(**dict.fromkeys(names, 0))
    b.run("61")
    assert [b.get(name) for name in names] == [0x1111 * (n + 1) for n in range(7)]
    assert b.get("rsp") == 0x8000


def test_a_pusha_that_does_not_fit_stores_nothing(bench) -> None:
    # An expand-down stack whose lowest usable offset is 0x8000 - 16.
    b = bench(bits=32).set(rax=0x1234, ss_ar=0xC097, ss_limit=0x8000 - 17)
    assert b.run("60") == 12
    assert b.get("rsp") == 0x8000
    assert b.peek(0x7FFC, 4) == 0


def test_enter_copies_the_enclosing_frame_pointers(bench) -> None:
    b = bench().set(rbp=0x9000).poke(0x9000 - 8, 0xAAAA).poke(0x9000 - 16, 0xBBBB)
    b.run("c8200003")  # enter 32, 3
    assert b.get("rbp") == 0x7FF8
    assert [b.peek(0x7FF8 - 8 * n) for n in range(4)] == [0x9000, 0xAAAA, 0xBBBB, 0x7FF8]
    assert b.get("rsp") == 0x7FF8 - 24 - 32


def test_leave_undoes_enter(bench) -> None:
    b = bench().set(rbp=0x9000)
    b.run("c8200000")
    b.run("c9")
    assert (b.get("rsp"), b.get("rbp")) == (0x8000, 0x9000)


def test_pushf_does_not_show_rf(bench) -> None:
    b = bench().set(flags=RF | IF | 1)
    b.run("9c")
    assert b.peek(0x7FF8) == IF | 3


@pytest.mark.parametrize(
    ("cpl", "iopl", "changes"),
    [(0, 0, IF | IOPL), (3, 0, 0), (3, 3, IF), (1, 1, IF), (2, 1, 0)],
)
def test_popf_changes_if_and_iopl_by_privilege(bench, cpl: int, iopl: int, changes: int) -> None:
    for bits in (32, 64):
        old = iopl << 12
        b = bench(bits=bits, cpl=cpl).set(flags=old).poke(0x8000, (IF | IOPL) ^ old)
        assert b.run("9d") is None
        guarded = IF | IOPL
        assert (b.get("flags") ^ old) & guarded == ((IF | IOPL) ^ old ^ old) & changes


def test_popf_never_sets_vm_and_clears_rf(bench) -> None:
    b = bench(bits=32).set(flags=RF).poke(0x8000, VM | RF | TF | NT | AC)
    b.run("9d")
    assert b.get("flags") == TF | NT | AC | 2


def test_a_16_bit_popf_keeps_the_upper_flags(bench) -> None:
    b = bench(bits=32).set(flags=AC).poke(0x8000, 1)
    b.run("669d")
    assert b.get("flags") == AC | 3


@pytest.mark.parametrize("code", ["9c", "9d"])
def test_virtual_8086_mode_needs_iopl_3_for_the_flags(bench, code: str) -> None:
    for iopl, expected in ((0, 13), (3, None)):
        b = bench(bits=16, cpl=3).set(flags=VM | iopl << 12)
        assert b.run(code) == expected


def test_virtual_mode_extensions_show_vif_as_if(bench) -> None:
    b = bench(bits=16, cpl=3).set(flags=VM | 1 << 19, cr4=1)
    assert b.run("9c") is None
    assert b.peek(0x7FFE, 2) == IOPL | IF | 2


def test_popf_with_a_pending_virtual_interrupt_faults_when_it_enables_it(bench) -> None:
    b = bench(bits=16, cpl=3).set(flags=VM | 1 << 20, cr4=1).poke(0x8000, IF)
    assert b.run("9d") == 13
