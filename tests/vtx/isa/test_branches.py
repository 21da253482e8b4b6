"""Near branches: where they may go, and that a refused one changes nothing."""

import pytest

NON_CANONICAL = 0x8000_0000_0000


@pytest.mark.parametrize("code", ["ffe0", "ffd0"])  # jmp rax, call rax
def test_a_non_canonical_target_faults_before_anything_happens(bench, code: str) -> None:
    b = bench().set(rax=NON_CANONICAL)
    assert b.run(code) == 13
    assert (b.get("rip"), b.get("rsp"), b.peek(0x7FF8)) == (0x1000, 0x8000, 0)


def test_a_return_to_a_non_canonical_address_does_not_pop(bench) -> None:
    b = bench().poke(0x8000, NON_CANONICAL)
    assert b.run("c3") == 13
    assert (b.get("rip"), b.get("rsp")) == (0x1000, 0x8000)


def test_a_relative_jump_over_the_edge_of_the_canonical_space_faults(bench) -> None:
    b = bench().set(rip=0x7FFF_FFFF_FFF0)
    assert b.run("eb20") == 13
    assert b.get("rip") == 0x7FFF_FFFF_FFF0


@pytest.mark.parametrize("code", ["ffe0", "ffd0", "e9fbff0100", "e8fbff0100"])
def test_a_target_beyond_the_code_segments_limit_faults(bench, code: str) -> None:
    b = bench(bits=32).set(cs_limit=0xFFFF, rax=0x1_0000)
    assert b.run(code) == 13
    assert (b.get("rip"), b.get("rsp")) == (0x1000, 0x8000)


def test_16_bit_operand_size_cuts_the_target_to_16_bits(bench) -> None:
    b = bench(bits=32).set(rip=0xFFF0)
    assert b.run("66e90001") is None
    assert b.get("rip") == 0xF4


def test_a_16_bit_call_pushes_two_bytes(bench) -> None:
    b = bench(bits=16)
    assert b.run("e80010") is None
    assert (b.get("rip"), b.get("rsp"), b.peek(0x7FFE, 2)) == (0x2003, 0x7FFE, 0x1003)


def test_64_bit_mode_ignores_the_operand_size_prefix_of_near_branches(bench) -> None:
    b = bench().poke(0x8000, 0x1_2345)
    assert b.run("66c3") is None
    assert (b.get("rip"), b.get("rsp")) == (0x1_2345, 0x8008)


def test_ret_releases_its_parameters(bench) -> None:
    b = bench().poke(0x8000, 0x2000)
    b.run("c21000")
    assert (b.get("rip"), b.get("rsp")) == (0x2000, 0x8018)


def test_call_through_memory_relative_to_rsp_uses_the_old_stack_pointer(bench) -> None:
    b = bench().poke(0x8000, 0x3000)
    b.run("ff1424")  # call [rsp]
    assert (b.get("rip"), b.get("rsp"), b.peek(0x7FF8)) == (0x3000, 0x7FF8, 0x1003)


@pytest.mark.parametrize(("zf", "count", "taken"), [(1, 2, True), (0, 2, False), (1, 1, False)])
def test_loope_needs_both_a_count_and_zf(bench, zf: int, count: int, taken: bool) -> None:
    b = bench().set(rcx=count, zf=zf)
    b.run("e110")
    assert b.get("rcx") == count - 1
    assert b.get("rip") == (0x1012 if taken else 0x1002)


def test_a_loop_that_may_not_jump_does_not_count(bench) -> None:
    b = bench(bits=32).set(cs_limit=0x1001, rcx=5)
    assert b.run("e27f") == 13
    assert b.get("rcx") == 5


def test_loop_counts_at_the_address_size(bench) -> None:
    b = bench().set(rcx=0x5_0000_0001)
    b.run("67e210")
    assert (b.get("rcx"), b.get("rip")) == (0, 0x1003)


def test_a_32_bit_instruction_pointer_wraps(bench) -> None:
    b = bench(bits=32).set(rip=0xFFFF_FFFE)
    b.run("eb10")
    assert b.get("rip") == 0x10
