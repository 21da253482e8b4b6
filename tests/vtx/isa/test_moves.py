"""Moves: what is read though unneeded, what is cleared above, and checks without effect."""

import pytest


def test_a_conditional_move_reads_its_source_and_clears_above_even_when_it_does_not_move(
    bench,
) -> None:
    b = bench().set(rax=0xFFFF_FFFF_0000_0007, zf=0, rcx=5)
    b.run("0f44c1")
    assert b.get("rax") == 7
    b = bench(bits=32).set(zf=0, rcx=0x2_0000, ds_limit=0xFFFF)
    assert b.run("0f4401") == 13


def test_lea_is_cut_to_the_address_size_and_checks_nothing(bench) -> None:
    b = bench().set(rbx=(1 << 64) - 1)
    assert b.run("488d4302") is None
    assert b.get("rax") == 1
    assert b.run("67488d4302") is None
    assert b.get("rax") == 1
    b = bench(bits=32).set(rbx=0xFFFF, rsi=0xF)
    b.run("678d00")  # lea eax, [bx+si]
    assert b.get("rax") == 0xE


def test_xlat_wraps_at_the_address_size(bench) -> None:
    b = bench(bits=16).set(rbx=0xFFFF, rax=3).poke(2, 0x5A, 1)
    b.run("d7")
    assert b.get("rax") == 0x5A


@pytest.mark.parametrize(("cr0", "fault"), [(0x11, None), (0x1B, 7), (0x13, None), (0x19, None)])
def test_wait_needs_both_mp_and_ts_to_fault(bench, cr0: int, fault: int | None) -> None:
    assert bench().set(cr0=cr0).run("9b") == fault


def test_clflush_checks_its_operand(bench) -> None:
    assert bench().set(rax=0x8000_0000_0000).run("0fae38") == 13
    assert bench().set(rax=0x8000).run("0fae38") is None


@pytest.mark.parametrize("code", ["0f1f00", "0f18c8", "f30f1efa", "f30f1ec8", "0f0d08"])
def test_hints_touch_nothing(bench, code: str) -> None:
    b = bench().set(rax=0x8000_0000_0000)
    assert b.run(code) is None
    assert b.get("rax") == 0x8000_0000_0000


def test_lahf_and_sahf_are_inverse(bench) -> None:
    b = bench().set(flags=0xD5, rax=0)
    b.run("9f")
    assert b.get("rax") == 0xD700
    b.set(flags=0x800)
    b.run("9e")
    assert b.get("flags") == 0x8D7


def test_a_failed_compare_exchange_leaves_its_register_destination_alone(bench) -> None:
    b = bench().set(rax=1, rbx=0xFFFF_FFFF_0000_0002, rcx=3)
    b.run("0fb1cb")
    assert (b.get("rax"), b.get("rbx")) == (2, 0xFFFF_FFFF_0000_0002)


def test_a_misaligned_compare_exchange_of_16_bytes_faults(bench) -> None:
    assert bench().set(rbx=0x4008).run("480fc70b") == 13


def test_an_alignment_check_catches_odd_accesses(bench) -> None:
    b = bench(bits=32, cpl=3).set(cr0=0x4_0011, flags=1 << 18, rax=0x4001)
    assert b.run("8b00") == 17
    assert b.run("8a00") is None
