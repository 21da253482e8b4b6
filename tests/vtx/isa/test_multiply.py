"""Division errors and decimal adjustment."""

import pytest


@pytest.mark.parametrize(
    ("code", "rax", "rdx", "rcx"),
    [
        ("f7f1", 1, 0, 0),  # div ecx: by zero
        ("f7f1", 0, 1, 1),  # the quotient needs 33 bits
        ("f7f9", 0x8000_0000, 0xFFFF_FFFF, 0xFFFF_FFFF),  # idiv: INT_MIN / -1
        ("48f7f9", 1 << 63, (1 << 64) - 1, (1 << 64) - 1),
        ("f6f1", 0x1000, 0, 1),  # div cl: AX / 1
        ("f6f9", 0x0080, 0, 1),  # idiv cl: 128 does not fit
    ],
)
def test_a_quotient_that_does_not_fit_is_a_divide_error_without_effect(
    bench, code: str, rax: int, rdx: int, rcx: int
) -> None:
    b = bench().set(rax=rax, rdx=rdx, rcx=rcx)
    assert b.run(code) == 0
    assert (b.get("rax"), b.get("rdx"), b.get("rip")) == (rax, rdx, 0x1000)


def test_idiv_reaches_the_most_negative_quotient(bench) -> None:
    b = bench().set(rax=0x8000_0000, rdx=0xFFFF_FFFF, rcx=1)
    assert b.run("f7f9") is None
    assert (b.get("rax"), b.get("rdx")) == (0x8000_0000, 0)


def test_idiv_truncates_towards_zero_and_the_remainder_has_the_dividends_sign(bench) -> None:
    b = bench().set(rax=(-7) & 0xFFFF_FFFF, rdx=0xFFFF_FFFF, rcx=2)
    b.run("f7f9")
    assert (b.get("rax"), b.get("rdx")) == ((-3) & 0xFFFF_FFFF, (-1) & 0xFFFF_FFFF)


def test_aam_by_zero_is_a_divide_error(bench) -> None:
    assert bench(bits=32).run("d400") == 0


def test_aam_and_aad_take_any_base(bench) -> None:
    b = bench(bits=32).set(rax=0x1F)
    b.run("d410")
    assert b.get("rax") == 0x010F
    b.run("d510")
    assert b.get("rax") == 0x1F


def test_decimal_adjustment_does_not_exist_in_64_bit_mode(bench) -> None:
    assert bench().run("27") == 6


def test_mulx_with_one_destination_keeps_the_high_half(bench) -> None:
    b = bench().set(rdx=1 << 63, rcx=6)
    b.run("c4e2fbf6c1")  # mulx rax, rax, rcx
    assert b.get("rax") == 3
