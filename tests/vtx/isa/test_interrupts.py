"""Software interrupts, the interrupt flag, and IRET."""

import pytest

GP, NP, SS, TS, UD, BR, OF = 13, 11, 12, 10, 6, 5, 4
CODE = 0x10000


def test_sti_blocks_interrupts_for_one_instruction_only_if_if_was_clear(long):
    long.run("sti", most=1)
    assert (long["interruptibility"] & 1, long["rflags"] & 0x200) == (1, 0x200)
    long.run("nop\nsti", most=1)
    assert long["interruptibility"] & 1 == 0


@pytest.mark.parametrize("source", ["cli", "sti"])
def test_cli_and_sti_need_cpl_within_iopl(long, source):
    long.user()
    assert long.fault(source) == (GP, 0)
    long["activity"] = 0
    long["rflags"] = 0x3002
    long.user()
    long["rip"] = CODE
    long.run(source + "\nud2")
    assert long.vector == UD


def test_into_raises_overflow_only_with_of(protected):
    protected["of"] = 1
    protected.run("into")
    assert (protected.vector, protected.frame(0)) == (OF, CODE + 1)
    protected["of"], protected["activity"], protected["rip"] = 0, 0, CODE
    protected.run("into\nud2")
    assert protected.vector == UD


@pytest.mark.parametrize(("index", "vector"), [(5, UD), (-3, UD), (6, BR), (-4, BR)])
def test_bound_compares_signed_bounds_inclusively(protected, index, vector):
    protected.write(0x6800, -3 & 0xFFFFFFFF, 4)
    protected.write(0x6804, 5, 4)
    protected.run(f"mov eax, {index}\nbound eax, [0x6800]\nud2")
    assert protected.vector == vector


def push_frame(bench, *values: int) -> None:
    size = bench.bits // 8
    bench["rsp"] = bench["rsp"] - size * len(values)
    for n, value in enumerate(values):
        bench.write(bench["rsp"] + size * n, value, size)


def test_iretq_pops_ss_and_rsp_at_the_same_level_too(long):
    push_frame(long, 0x6000, 8, 0x602, 0x7000, 0x10)
    long.run("iretq", most=1)
    assert (long["rip"], long["rsp"], long["ss_sel"]) == (0x6000, 0x7000, 0x10)
    assert long["rflags"] == 0x602


def test_iretq_to_ring_0_may_load_a_null_stack_segment(long):
    push_frame(long, 0x6000, 8, 2, 0x7000, 0)
    long.run("iretq", most=1)
    assert (long["rip"], long["ss_ar"]) == (0x6000, 0x10000)


def test_iretq_to_ring_3_may_not_load_a_null_stack_segment(long):
    push_frame(long, 0x6000, 0x33, 2, 0x7000, 3)
    assert long.fault("iretq") == (GP, 0)


@pytest.mark.parametrize(
    ("selector", "vector", "error"),
    [(0, GP, 0), (0x1230, GP, 0x1230), (0x10, GP, 0x10), (0x30, GP, 0x30), (0x38, GP, 0x38)],
)
def test_iretq_checks_the_code_segment(long, selector, vector, error):
    push_frame(long, 0x6000, selector, 2, 0x7000, 0x10)
    assert long.fault("iretq") == (vector, error)


def test_iretq_to_a_target_that_is_not_canonical_faults_before_it(long):
    push_frame(long, 1 << 47, 8, 2, 0x7000, 0x10)
    assert long.fault("iretq") == (GP, 0)


def test_iretq_to_compatibility_mode_runs_32_bit_code(long):
    push_frame(long, CODE + 2, 0x23, 2, 0x7000, 0x2B)
    long.load("inc eax\nud2", CODE + 2, 32)
    long.run("iretq", most=2)
    assert (long["cs_sel"], long["rax"]) == (0x23, 1)


def test_iret_with_nt_is_a_general_protection_fault_in_long_mode(long):
    long["rflags"] = 0x4002
    push_frame(long, 0x6000, 8, 2, 0x7000, 0x10)
    assert long.fault("iretq") == (GP, 0)


def test_iret_at_ring_3_leaves_if_and_iopl_alone(long):
    long.user()
    long["rflags"] = 0x202
    push_frame(long, 0x6000, 0x33, 0x3002, 0x7000, 0x2B)
    long.run("iretq", most=1)
    assert long["rflags"] == 0x202


def test_iret_ends_blocking_by_nmi_even_when_it_faults(long):
    long["interruptibility"] = 8
    push_frame(long, 0x6000, 0, 2, 0x7000, 0x10)
    assert long.fault("iretq") == (GP, 0)
    assert long["interruptibility"] == 0


def test_protected_iret_to_an_outer_level_empties_segments_it_may_not_keep(protected):
    push_frame(protected, 0x6000, 0x33, 0x202, 0x7000, 0x2B)
    protected.state.write_segment("es", 0x2B, 0, 0xFFFFFFFF, 0xC0F3)
    protected.run("iretd", most=1)
    assert (protected["rsp"], protected["ss_sel"], protected["rip"]) == (0x7000, 0x2B, 0x6000)
    assert (protected["ds_ar"], protected["es_ar"]) == (0x10000, 0xC0F3)


def test_protected_iret_at_the_same_level_pops_three(protected):
    push_frame(protected, 0x6000, 8, 0x202)
    protected.run("iretd", most=1)
    assert (protected["rsp"], protected["rip"]) == (0x20000, 0x6000)


def test_protected_iret_enters_virtual_8086_mode(protected):
    push_frame(protected, 0x10, 0x1000, 0x23202, 0x800, 0x2000, 1, 2, 3, 4)
    protected.run("iretd", most=1)
    assert protected["rflags"] & 0x20000
    assert (protected["cs_base"], protected["ss_base"], protected["rip"]) == (0x10000, 0x20000, 16)
    assert [protected[f"{n}_sel"] for n in ("es", "ds", "fs", "gs")] == [1, 2, 3, 4]
    assert protected["ss_ar"] == 0xF3


def test_protected_iret_beyond_the_code_segment_faults(protected):
    protected.write(0x1000 + 0x50, 0x00409A000000FFFF)
    push_frame(protected, 0x10000, 0x50, 2)
    assert protected.fault("iretd") == (GP, 0)


def test_real_mode_iret_pops_words(real):
    real["rsp"] = 0x7000
    for n, value in enumerate((0x123, 0x600, 0x3202)):
        real.write(0x7000 + 2 * n, value, 2)
    real.run("iret", most=1)
    assert (real["rip"], real["cs_base"], real["rsp"]) == (0x123, 0x6000, 0x7006)
    assert real["rflags"] == 0x3202


@pytest.mark.parametrize("source", ["ud0 eax, eax", "ud1 eax, eax", "ud2", "rsm"])
def test_undefined_instructions_are_undefined(long, source):
    long.run(source)
    assert long.vector == UD
