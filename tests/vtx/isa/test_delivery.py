"""Exceptions and interrupts reach their handlers as the SDM says."""

import pytest

from vtx.engine.run import Ended
from vtx.isa.descriptors import INTERRUPT_GATE

GP, SS, NP, TS, UD, DF, PF, DB = 13, 12, 11, 10, 6, 8, 14, 1
INNER, IST, USER_SP, CODE, IDT, TSS = 0x30000, 0x38000, 0x28000, 0x10000, 0x2000, 0x3000
ABSENT = 0x40_0000


def test_interrupt_from_ring_3_switches_to_the_tss_stack_and_iret_returns(long):
    long.user()
    long["rflags"] = 0x202
    long.run("nop\nint 0x80\nmov eax, 7\nint 0x80", most=3)
    assert (long.vector, long["rsp"]) == (0x80, INNER - 40)
    assert [long.frame(n) for n in range(5)] == [CODE + 3, 0x33, 0x202, USER_SP, 0x2B]
    assert (long["ss_sel"], long["ss_ar"], long["cs_sel"]) == (0, 0x10000, 8)
    assert long["rflags"] & 0x200 == 0
    long.cpu.bus.write_bytes(long["rip"], b"\x48\xcf")  # IRETQ
    long["activity"] = 0
    long.runner.run(long.cpu.now() + 2)
    assert (long["rip"], long["rsp"], long["cs_sel"]) == (CODE + 8, USER_SP, 0x33)
    assert (long["rax"], long["rflags"]) == (7, 0x202)


def test_a_trap_gate_leaves_if(long):
    long["rflags"] = 0x202
    long.run("int 0x81")
    assert long.vector == 0x81
    assert long["rflags"] & 0x200


def test_ist_is_used_at_the_same_level_too(long):
    long.write(IDT + 16 * UD + 4, 1, 1)
    long.run("ud2")
    assert (long.vector, long["rsp"]) == (UD, IST - 40)


def test_the_stack_is_aligned_to_16_bytes(long):
    long["rsp"] = 0x20008
    long.run("ud2")
    assert (long["rsp"], long.frame(3)) == (0x20000 - 40, 0x20008)


def test_faults_push_rf_and_point_at_the_instruction_and_traps_behind_it(long):
    long.run("nop\nud2")
    assert (long.frame(0), long.frame(2) & 0x10000) == (CODE + 1, 0x10000)


def test_software_interrupts_push_rf_unchanged(long):
    long.run("int3")
    assert (long.vector, long.frame(0), long.frame(2) & 0x10000) == (3, CODE + 1, 0)


@pytest.mark.parametrize(
    ("source", "ring", "error"),
    [
        ("mov eax, [0x400000]", 0, 0),
        ("mov [0x400000], eax", 0, 2),
        ("mov eax, [0x400000]", 3, 4),
        ("mov [0x400000], eax", 3, 6),
    ],
)
def test_page_fault_error_code_and_cr2(long, source, ring, error):
    if ring:
        long.user()
    assert long.fault(source) == (PF, error)
    assert long["cr2"] == ABSENT


def test_error_code_names_the_gate_and_says_external(long):
    long.write(IDT + 16 * UD + 5, 0x0E, 1)  # #UD's gate is not present
    assert long.fault("ud2") == (NP, UD << 3 | 2 | 1)


def test_software_interrupt_errors_are_not_external(long):
    long.write(IDT + 16 * 0x80 + 5, 0x6E, 1)
    assert long.fault("int 0x80") == (NP, 0x80 << 3 | 2)


def test_software_interrupt_needs_the_gates_dpl(long):
    long.user()
    assert long.fault("int 0x82") == (GP, 0x82 << 3 | 2)


def test_int1_ignores_the_gates_dpl(long):
    long.user()
    long.run("int1")
    assert (long.vector, long.frame(0)) == (DB, CODE + 1)


def test_a_vector_beyond_the_idt_is_a_general_protection_fault(long):
    long["idtr_limit"] = 16 * 0x20 - 1
    assert long.fault("int 0x80") == (GP, 0x80 << 3 | 2)


def test_stack_outside_the_tss_is_an_invalid_tss(long):
    long.user()
    long["tr_limit"] = 8
    long["idtr_limit"] = 0xFFF
    # The handler of #TS needs a stack as well: it is found through the IST.
    long.write(IDT + 16 * TS + 4, 1, 1)
    long["tr_limit"] = 0x2B
    long.write(IDT + 16 * 0x80 + 4, 7, 1)
    assert long.fault("int 0x80") == (TS, 0x38)


def test_contributory_exceptions_make_a_double_fault(long):
    long.write(IDT + 16 * GP + 5, 0x0E, 1)
    assert long.fault("mov ax, 0x1230\nmov ds, ax") == (DF, 0)


def test_page_fault_on_a_page_faults_way_makes_a_double_fault(long):
    long.write(IDT + 16 * DF + 4, 1, 1)
    long["rsp"] = ABSENT + 0x100
    assert long.fault("mov eax, [0x400800]") == (DF, 0)
    assert long["cr2"] == ABSENT + 0xF8


def test_a_benign_exception_is_followed_by_the_second_one(long):
    long.write(IDT + 16 * PF + 4, 1, 1)
    long["rsp"] = ABSENT + 0x100
    assert long.fault("ud2") == (PF, 2)


def test_a_fault_while_double_faulting_shuts_down(long):
    long["idtr_limit"] = 0
    assert long.run("ud2") is Ended.SHUTDOWN
    assert long["activity"] == 2


def test_a_failed_delivery_leaves_registers_as_they_were(long):
    long["idtr_limit"] = 0
    long.run("ud2")
    assert (long["rsp"], long["rip"], long["cs_sel"]) == (0x20000, CODE, 8)


def test_single_step_traps_behind_the_instruction(long):
    long["rflags"] = 0x102
    long.run("nop\nnop")
    assert (long.vector, long.frame(0), long["dr6"] & 0x4000) == (DB, CODE + 1, 0x4000)
    assert long["rflags"] & 0x100 == 0


def test_a_software_interrupt_is_not_single_stepped(long):
    long["rflags"] = 0x102
    long.run("int 0x81")
    assert (long.vector, long.frame(0), long["pending_debug"]) == (0x81, CODE + 2, 0)


def test_interrupts_retire_nothing_and_software_interrupts_one(long):
    before = long["retired"]
    long.run("int 0x81")
    assert long["retired"] == before + 2  # INT and the handler's HLT


# --- protected mode --------------------------------------------------------------------------


def test_protected_interrupt_from_ring_3_takes_ss0_esp0(protected):
    protected.user()
    protected.run("int 0x80")
    assert (protected.vector, protected["rsp"], protected["ss_sel"]) == (0x80, INNER - 20, 0x10)
    assert [protected.frame(n) for n in range(5)] == [CODE + 2, 0x33, 2, USER_SP, 0x2B]


def test_protected_exception_at_the_same_level_pushes_four_elements(protected):
    assert protected.fault("mov ax, 0x1230\nmov ds, ax") == (GP, 0x1230)
    assert protected["rsp"] == 0x20000 - 16


def test_a_16_bit_gate_pushes_words(protected):
    low = 0x5000 + 16 * 0x80
    protected.write(IDT + 8 * 0x80, low | 8 << 16 | 0x86 << 40)
    protected.run("int 0x80")
    assert (protected.vector, protected["rsp"]) == (0x80, 0x20000 - 6)
    assert protected.read(protected["rsp"], 2) == 2


@pytest.mark.parametrize(
    ("selector", "vector", "error"),
    [(0, TS, 0), (0x2B, TS, 0x28), (0x1230, TS, 0x1230), (0x48, SS, 0x48), (0x80, TS, 0x80)],
)
def test_the_inner_stack_segment_must_fit(protected, selector, vector, error):
    protected.user()
    protected.write(TSS + 8, selector, 2)
    # The handler of the fault would need the same stack: make it conforming code.
    for n in (TS, SS):
        protected.write(IDT + 8 * n + 2, 0x50, 2)
    assert protected.fault("int 0x80") == (vector, error)


def test_no_room_on_the_inner_stack_is_a_stack_fault(protected):
    protected.user()
    protected.write(TSS + 8, 0x88, 2)  # limit FFFH
    protected.write(TSS + 4, 8, 4)
    protected.write(IDT + 8 * SS + 2, 0x50, 2)
    assert protected.fault("int 0x80") == (SS, 0x88)


def test_a_gate_that_is_no_interrupt_gate_is_refused(protected):
    protected.write(IDT + 8 * 0x80 + 5, 0xEC, 1)
    assert protected.fault("int 0x80") == (GP, 0x80 << 3 | 2)
    assert INTERRUPT_GATE == 14


# --- virtual-8086 and real mode --------------------------------------------------------------


def enter_v86(bench, iopl: int) -> None:
    bench["rflags"] = 0x20002 | iopl << 12
    for name in ("cs", "ss", "ds", "es", "fs", "gs"):
        base = 0x1000 if name == "cs" else 0x2000
        bench.state.write_segment(name, base, base << 4, 0xFFFF, 0xF3)
    bench["rip"], bench["rsp"] = 0, 0x1000


def test_interrupt_from_v86_mode_pushes_and_empties_the_data_segments(protected):
    enter_v86(protected, 3)
    protected.run("int 0x80", bits=16)
    assert (protected.vector, protected["rsp"]) == (0x80, INNER - 36)
    values = [protected.frame(n) for n in range(9)]
    assert values == [2, 0x1000, 0x23002, 0x1000, 0x2000, 0x2000, 0x2000, 0x2000, 0x2000]
    assert all(protected[f"{name}_ar"] == 0x10000 for name in ("ds", "es", "fs", "gs"))
    assert protected["rflags"] & 0x20000 == 0


def test_int_n_in_v86_mode_needs_iopl_3(protected):
    enter_v86(protected, 0)
    assert protected.fault("int 0x80", bits=16) == (GP, 0)


def test_real_mode_uses_the_vector_table_and_pushes_three_words(real):
    real["rflags"] = 0x202
    real.run("int 0x21")
    assert (real.vector, real["rsp"]) == (0x21, 0x8000 - 6)
    assert [real.frame(n) for n in range(3)] == [2, CODE >> 4, 0x202]
    assert real["rflags"] & 0x200 == 0


def test_real_mode_exceptions_push_no_error_code(real):
    real.run("mov bx, 0xffff\nmov ax, [bx]")
    assert (real.vector, real["rsp"]) == (GP, 0x8000 - 6)
