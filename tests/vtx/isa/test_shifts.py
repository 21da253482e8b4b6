"""Shift counts: masking, and what a count of zero leaves alone."""

import pytest

ALL = 0x8D5  # CF PF AF ZF SF OF


@pytest.mark.parametrize("code", ["d3e0", "d3e8", "d3f8", "d3c0", "d3c8", "d3d0", "0fa5d8"])
@pytest.mark.parametrize("count", [0, 32, 64])
def test_a_masked_count_of_zero_leaves_every_flag(bench, code: str, count: int) -> None:
    b = bench().set(rax=0x1234, rcx=count, flags=ALL)
    assert b.run(code) is None
    assert b.get("rax") == 0x1234
    assert b.get("flags") & ALL == ALL


def test_a_count_of_zero_still_clears_the_upper_half_of_a_32_bit_destination(bench) -> None:
    b = bench().set(rax=0xFFFF_FFFF_0000_0001, rcx=0)
    b.run("d3e0")
    assert b.get("rax") == 1


def test_64_bit_counts_are_masked_to_six_bits(bench) -> None:
    b = bench().set(rax=1, rcx=63 + 64)
    b.run("48d3e0")
    assert b.get("rax") == 1 << 63


def test_a_byte_shifted_by_its_width_leaves_its_low_bit_in_carry(bench) -> None:
    b = bench().set(rax=0x01, rcx=8)
    b.run("d2e0")  # shl al, cl
    assert b.get("rax") == 0
    assert b.get("cf") == 1


def test_rotating_a_byte_by_nine_through_carry_changes_nothing(bench) -> None:
    b = bench().set(rax=0xA5, rcx=9, flags=1)
    b.run("d2d0")  # rcl al, cl
    assert b.get("rax") == 0xA5
    assert b.get("cf") == 1


def test_vex_encodings_do_not_exist_in_real_mode(bench) -> None:
    b = bench(bits=16).set(cr0=0x10)
    assert b.run("c4e271f7c0") == 6  # shlx eax, eax, ecx
