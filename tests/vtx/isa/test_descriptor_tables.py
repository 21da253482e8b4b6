"""LGDT LIDT SGDT SIDT LLDT LTR SLDT STR."""

import pytest

GP, NP, UD = 13, 11, 6
CODE, GDT = 0x10000, 0x1000


def test_tables_are_ten_bytes_in_64_bit_mode(long):
    long.write(0x6000, 0xFFFF8000_00002000_0ABC, 10)
    long.run("lidt [0x6000]\nsidt [0x6010]\nsgdt [0x6020]", most=3)
    assert (long["idtr_limit"], long["idtr_base"]) == (0xABC, 0xFFFF8000_00002000)
    assert long.read(0x6010, 10) == 0xFFFF8000_00002000_0ABC
    assert long.read(0x6020, 10) == GDT << 16 | 0x8F


def test_a_base_that_is_not_canonical_is_refused(long):
    long.write(0x6000, (1 << 47) << 16, 10)
    assert long.fault("lgdt [0x6000]") == (GP, 0)
    assert long["gdtr_base"] == GDT


def test_a_16_bit_operand_size_loads_24_bits(protected):
    protected.write(0x6000, 0x12345678_00FF, 6)
    protected.run("data16 lidt [0x6000]", most=1)
    assert (protected["idtr_base"], protected["idtr_limit"]) == (0x345678, 0xFF)


@pytest.mark.parametrize("source", ["lgdt [rax]", "lidt [rax]", "lldt ax", "ltr ax"])
def test_loads_need_ring_0(long, source):
    long.user()
    assert long.fault(source) == (GP, 0)


@pytest.mark.parametrize("source", ["sgdt [rax]", "sidt [rax]", "sldt ax", "str ax", "smsw ax"])
def test_umip_hides_the_tables_from_user_code(long, source):
    long.user()
    long["rax"] = 0x6000
    long.run(source + "\nud2")
    assert long.vector == UD
    long.user()
    long["cr4"], long["rip"], long["activity"] = 0x20 | 1 << 11, CODE, 0
    assert long.fault(source) == (GP, 0)


def test_ltr_loads_a_64_bit_tss_and_marks_it_busy(long):
    long.write(GDT + 0x40, 0xFFFF8000)
    long.run("mov eax, 0x38\nltr ax\nstr ecx", most=3)
    assert (long["tr_base"], long["tr_ar"], long["rcx"]) == (0xFFFF8000_00003000, 0x8B, 0x38)
    assert long.read(GDT + 0x3D, 1) == 0x8B
    long["rip"] = CODE
    assert long.fault("mov eax, 0x38\nltr ax") == (GP, 0x38)


@pytest.mark.parametrize(("selector", "error"), [(0, 0), (0x10, 0x10), (0x1230, 0x1230),
                                                 (0x3C, 0x3C)])  # fmt: skip
def test_ltr_refuses_what_is_no_available_tss(long, selector, error):
    assert long.fault(f"mov eax, {selector}\nltr ax") == (GP, error)


def test_lldt_loads_an_ldt_whose_segments_can_then_be_used(long):
    long.write(0x4008, long.read(GDT + 0x10))
    long.run("mov eax, 0x68\nlldt ax\nmov eax, 0xc\nmov ds, eax\nsldt edx", most=5)
    assert (long["ldtr_base"], long["ldtr_limit"], long["ds_sel"]) == (0x4000, 0xFFF, 0xC)
    assert long["rdx"] == 0x68


def test_a_null_ldt_makes_its_selectors_unusable(long):
    assert long.fault("xor eax, eax\nlldt ax\nmov eax, 0xc\nmov ds, eax") == (GP, 0xC)


def test_lldt_refuses_other_descriptors(long):
    assert long.fault("mov eax, 0x10\nlldt ax") == (GP, 0x10)
