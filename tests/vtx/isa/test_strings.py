"""Repeated string instructions: one iteration at a time."""

import pytest

FROM, TO = 0x4000, 0x5000


def _copier(bench, count: int):
    b = bench().set(rsi=FROM, rdi=TO, rcx=count)
    return b.poke(FROM, 0x1122_3344_5566_7788)


def test_a_repeated_instruction_does_one_iteration_and_comes_back(bench) -> None:
    b = _copier(bench, 3)
    b.run("f3a4")
    assert (b.get("rip"), b.get("rcx"), b.get("rsi"), b.get("rdi")) == (
        0x1000, 2, FROM + 1, TO + 1,
    )  # fmt: skip
    assert b.peek(TO) == 0x88


def test_the_last_iteration_goes_on_to_the_next_instruction(bench) -> None:
    b = _copier(bench, 1)
    b.run("f3a4")
    assert (b.get("rip"), b.get("rcx")) == (0x1002, 0)


def test_a_count_of_zero_does_nothing(bench) -> None:
    b = _copier(bench, 0)
    b.run("f3a4")
    assert (b.get("rip"), b.get("rsi"), b.peek(TO)) == (0x1002, FROM, 0)


def test_the_direction_flag_goes_downwards(bench) -> None:
    b = _copier(bench, 0).set(flags=0x400)
    b.run("48a5")
    assert (b.get("rsi"), b.get("rdi")) == (FROM - 8, TO - 8)


@pytest.mark.parametrize(("code", "ends"), [("f3a6", False), ("f2a6", True)])
def test_repe_goes_on_while_equal_and_repne_until_equal(bench, code: str, ends: bool) -> None:
    b = bench().set(rsi=FROM, rdi=TO, rcx=5)
    b.run(code)
    assert b.get("zf") == 1
    assert b.get("rip") == (0x1002 if ends else 0x1000)


def test_a_segment_override_moves_the_source_only(bench) -> None:
    b = bench(bits=32).set(rsi=0x10, rdi=0x20, fs_base=FROM, es_base=TO).poke(FROM + 0x10, 0xAB, 1)
    b.run("64a4")
    assert b.peek(TO + 0x20, 1) == 0xAB


def test_32_bit_addresses_in_64_bit_mode_clear_the_upper_halves(bench) -> None:
    high = 0xABCD << 32
    b = bench().set(rsi=high | FROM, rdi=high | TO, rcx=high | 2)
    b.run("67f3a4")
    assert (b.get("rsi"), b.get("rdi"), b.get("rcx")) == (FROM + 1, TO + 1, 1)


def test_16_bit_indexes_wrap_and_keep_what_is_above(bench) -> None:
    b = bench(bits=16).set(rsi=0x7_FFFF, rdi=0x9_4000)
    b.run("a4")
    assert (b.get("rsi"), b.get("rdi")) == (0x7_0000, 0x9_4001)


def test_a_faulting_iteration_leaves_the_registers_where_it_began(bench) -> None:
    b = bench(bits=32).set(rsi=FROM, rdi=0x1_0000, rcx=4, es_limit=0xFFFF)
    assert b.run("f3a4") == 13
    assert (b.get("rip"), b.get("rcx"), b.get("rsi")) == (0x1000, 4, FROM)
