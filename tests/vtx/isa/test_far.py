"""Far jumps, calls and returns: code segments, call gates, other code sizes."""

import pytest

GP, NP, SS, TS = 13, 11, 12, 10
CODE, STACK, INNER, USER_STACK, GDT, TSS = 0x10000, 0x20000, 0x30000, 0x28000, 0x1000, 0x3000


def pointer(bench, selector: int, offset: int, place: int = 0x6000, size: int = 4) -> None:
    bench.write(place, offset, size)
    bench.write(place + size, selector, 2)


def gate(bench, selector: int, target: int, dpl: int = 3, count: int = 0, kind: int = 12) -> None:
    """A call gate at selector 58H; 16 bytes, whose upper half is read in IA-32e mode only."""
    low = target & 0xFFFF | selector << 16 | count << 32 | (0x80 | dpl << 5 | kind) << 40
    bench.write(GDT + 0x58, low | (target >> 16 & 0xFFFF) << 48)
    bench.write(GDT + 0x60, target >> 32)


def test_a_far_jump_changes_cs_and_drops_to_cpl_in_the_selector(long):
    pointer(long, 0x50, 0x6100)
    long.run("jmp fword ptr [0x6000]", most=1)
    assert (long["cs_sel"], long["rip"]) == (0x50, 0x6100)


@pytest.mark.parametrize(
    ("selector", "vector", "error"),
    [(0, GP, 0), (0x1230, GP, 0x1230), (0x10, GP, 0x10), (0x33, GP, 0x30), (0x0B, GP, 0x08),
     (0x38, GP, 0x38)],
)  # fmt: skip
def test_a_far_jump_checks_the_code_segment(long, selector, vector, error):
    pointer(long, selector, 0x6100)
    assert long.fault("jmp fword ptr [0x6000]") == (vector, error)


def test_an_absent_code_segment_is_not_present(protected):
    protected.write(GDT + 0x4D, 0x1A, 1)
    assert protected.fault("jmp 0x48:0x6000") == (NP, 0x48)


def test_a_far_jump_beyond_the_limit_faults(protected):
    protected.write(GDT + 0x48, 0x00409A000000FFFF)
    assert protected.fault("jmp 0x48:0x10000") == (GP, 0)


def test_a_far_call_pushes_cs_and_the_return_address_and_retf_pops_them(protected):
    protected.load("retf 8", 0x6100)
    protected.run("push 1\npush 2\ncall 0x50:0x6100", most=3)
    assert (protected["rip"], protected["cs_sel"]) == (0x6100, 0x50)
    assert (protected.frame(0), protected.frame(1)) == (CODE + 11, 8)
    protected.runner.run(protected.cpu.now() + 1)
    assert (protected["rip"], protected["cs_sel"], protected["rsp"]) == (CODE + 11, 8, STACK)


def test_a_far_call_that_cannot_push_changes_nothing(protected):
    protected.state.write_segment("ss", 0x10, 0, 0xFFFF, 0x4093)
    protected["rsp"] = 0x10004
    protected.write(0x2000 + 8 * SS, 0)
    protected.run("call 8:0x6100", most=1)
    assert (protected["cs_sel"], protected["rsp"]) == (8, 0x10004)


def test_long_mode_goes_to_compatibility_mode_and_back(long):
    pointer(long, 0x18, 0x6100)
    pointer(long, 0x08, 0x6200, 0x6008)
    long.load("inc eax\njmp fword ptr [0x6008]", 0x6100, 32)
    long.load("inc rax", 0x6200)
    long["rax"] = 0x1_FFFF_FFFF
    long.run("jmp fword ptr [0x6000]", most=4)
    assert (long["rax"], long["cs_sel"]) == (1, 8)


def test_a_64_bit_far_pointer_has_ten_bytes(long):
    pointer(long, 8, 0x6100, size=8)
    long.run("rex.w call fword ptr [0x6000]", most=1)
    assert long["rip"] == 0x6100
    assert (long["rsp"], long.frame(1)) == (STACK - 16, 8)


def test_retfq_to_an_outer_level_loads_the_stack(long):
    long["rsp"] = 0x7000
    for n, value in enumerate((0x6100, 0x33, USER_STACK, 0x2B)):
        long.write(0x7000 + 8 * n, value)
    long.run("retfq", most=1)
    assert (long["rip"], long["rsp"], long["ss_sel"]) == (0x6100, USER_STACK, 0x2B)
    assert long["ds_ar"] == 0x10000


def test_retf_to_an_inner_level_faults(long):
    long.user()
    long["rsp"] = 0x7000
    long.write(0x7000, 0x6100)
    long.write(0x7008, 8)
    assert long.fault("retfq") == (GP, 8)


# --- call gates ------------------------------------------------------------------------------


def test_a_64_bit_call_gate_switches_to_the_tss_stack(long):
    gate(long, 8, 0x6100)
    pointer(long, 0x5B, 0)
    long.user()
    long.run("call fword ptr [0x6000]", most=1)
    assert (long["rip"], long["cs_sel"], long["ss_sel"]) == (0x6100, 8, 0)
    assert [long.frame(n) for n in range(4)] == [CODE + 7, 0x33, USER_STACK, 0x2B]
    assert long["rsp"] == INNER - 32


def test_a_64_bit_call_gate_at_the_same_level_pushes_two(long):
    gate(long, 8, 0x6100, 0)
    pointer(long, 0x58, 0)
    long.run("call fword ptr [0x6000]", most=1)
    assert (long["rip"], long["rsp"], long.frame(0)) == (0x6100, STACK - 16, CODE + 7)


def test_a_gate_needs_dpl_at_least_cpl(long):
    gate(long, 8, 0x6100, 0)
    pointer(long, 0x58, 0)
    long.user()
    assert long.fault("call fword ptr [0x6000]") == (GP, 0x58)


def test_a_jump_through_a_gate_stays_at_its_level(long):
    gate(long, 8, 0x6100)
    pointer(long, 0x58, 0)
    long.run("jmp fword ptr [0x6000]", most=1)
    assert long["rip"] == 0x6100
    long.user()
    long["rip"] = CODE
    assert long.fault("jmp fword ptr [0x6000]") == (GP, 8)


def test_a_64_bit_gate_must_lead_to_64_bit_code(long):
    gate(long, 0x18, 0x6100)
    pointer(long, 0x58, 0)
    assert long.fault("call fword ptr [0x6000]") == (GP, 0x18)


def test_a_32_bit_call_gate_copies_parameters(protected):
    gate(protected, 8, 0x6100, count=2)
    protected.user()
    protected.run("push 11\npush 22\ncall 0x5b:0", most=3)
    assert (protected["rip"], protected["rsp"], protected["ss_sel"]) == (0x6100, INNER - 24, 0x10)
    expected = [CODE + 11, 0x33, 22, 11, USER_STACK - 8, 0x2B]
    assert [protected.frame(n) for n in range(6)] == expected
    protected.load("retf 8", 0x6100)
    protected.runner.run(protected.cpu.now() + 1)
    assert (protected["rip"], protected["cs_sel"], protected["rsp"]) == (
        CODE + 11, 0x33, USER_STACK,
    )  # fmt: skip


def test_the_gates_stack_segment_must_fit(protected):
    gate(protected, 8, 0x6100)
    protected.write(TSS + 8, 0x2B, 2)
    protected.user()
    protected.write(0x2000 + 8 * TS + 2, 0x50, 2)  # a handler that needs no other stack
    assert protected.fault("call 0x5b:0") == (TS, 0x28)


def test_real_mode_far_calls_shift_the_selector(real):
    real.run("call 0x600:0x10", most=1)
    assert (real["cs_base"], real["rip"], real["rsp"]) == (0x6000, 0x10, 0x7FFC)
    assert (real.read(0x7FFC, 2), real.read(0x7FFE, 2)) == (5, CODE >> 4)
