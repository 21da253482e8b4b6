"""Bit strings in memory, scans of nothing, and what a CPU without BMI makes of TZCNT."""

import pytest

BASE = 0x4000


@pytest.mark.parametrize("index", [0, 5, 63, 64, 1000, -1, -64, -1000])
def test_a_register_index_reaches_any_bit_of_memory(bench, index: int) -> None:
    b = bench().set(rbx=BASE, rax=index & ((1 << 64) - 1))
    b.run("480fab03")  # bts [rbx], rax
    assert b.peek(BASE + index // 8, 1) == 1 << index % 8
    assert b.get("cf") == 0
    b.run("480fa303")  # bt [rbx], rax
    assert b.get("cf") == 1


def test_an_immediate_index_stays_inside_the_operand(bench) -> None:
    b = bench().set(rbx=BASE)
    b.run("0fba2b25")  # bts dword [rbx], 37
    assert b.peek(BASE) == 1 << 5


def test_a_scan_of_zero_leaves_the_destination(bench) -> None:
    b = bench().set(rax=0x1234_5678_9ABC, rcx=0)
    b.run("0fbcc1")
    assert b.get("rax") == 0x1234_5678_9ABC
    assert b.get("zf") == 1


def test_without_bmi1_tzcnt_is_bsf(bench) -> None:
    with_it, without = bench(), bench(features=frozenset())
    for b in (with_it, without):
        b.set(rax=99, rcx=0)
        assert b.run("f30fbcc1") is None
    assert (with_it.get("rax"), with_it.get("cf"), with_it.get("zf")) == (32, 1, 0)
    assert (without.get("rax"), without.get("zf")) == (99, 1)


def test_without_lzcnt_it_is_bsr(bench) -> None:
    b = bench(features=frozenset()).set(rcx=0x80)
    b.run("f30fbdc1")
    assert b.get("rax") == 7


@pytest.mark.parametrize("code", ["f30fb8c1", "0f38f001", "c4e2f9f7c1", "660f38f6c1", "0f44c1"])
def test_an_instruction_whose_feature_is_missing_is_undefined(bench, code: str) -> None:
    assert bench().set(rcx=BASE).run(code) is None
    assert bench(features=frozenset()).set(rcx=BASE).run(code) == 6
