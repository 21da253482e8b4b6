"""Bit layouts: they do not overlap, and take values apart as the manual does."""

import pytest

from vtx import spec

EVERY = [*spec.layouts(), *spec.qualifications()]


@pytest.mark.parametrize("row", EVERY, ids=lambda row: row.name)
def test_ranges_of_a_layout_have_unique_names_and_no_common_bit(row):
    seen = 0
    for bits in row.bits:
        assert bits.lo <= bits.hi
        assert seen & bits.mask == 0, bits.name
        seen |= bits.mask
    assert len({bits.name for bits in row.bits}) == len(row.bits)


@pytest.mark.parametrize("row", EVERY, ids=lambda row: row.name)
def test_settings_fit_their_range_and_conditions_name_ranges(row):
    names = {bits.name for bits in row.bits}
    for bits in row.bits:
        assert all(0 <= int(number) < 1 << bits.width for number in bits.values)
        assert set(bits.when) <= names
        assert not bits.values_of or bits.values


def test_every_exit_reason_has_at_most_one_qualification_layout_for_a_vector():
    keys = [(n, row.vector) for row in spec.qualifications() for n in row.exits]
    assert len(keys) == len(set(keys))
    assert {n for n, _ in keys} <= {row.number for row in spec.exit_reasons()}


@pytest.mark.parametrize(
    ("reason", "value", "words"),
    [
        (48, 0x18A, "write, readable, gva valid, final access"),
        (48, 0x081, "read, gva valid, page-walk access"),
        (48, 0x104, "fetch"),
        ("CR_ACCESS", 0x303, "CR3, MOV to CR, register RBX"),
        ("CR_ACCESS", 0x00050030, "CR0, LMSW, register operand, data 0x5"),
        ("CR_ACCESS", 0x20, "CR0, CLTS"),
        ("IO_INSTRUCTION", 0x03F80030, "1 byte, OUT, string, REP, port in DX, port 0x3f8"),
        ("IO_INSTRUCTION", 0x0080004B, "4 bytes, IN, immediate port, port 0x80"),
        ("DR_ACCESS", 0x217, "DR7, MOV from DR, register RDX"),
        ("TASK_SWITCH", 0xC0000028, "selector 0x28, task gate in IDT"),
        ("ENTRY_FAIL_GUEST_STATE", 4, "VMCS link pointer"),
        ("INVLPG", 0xFFFF800000001000, "gva 0xffff800000001000"),
        ("CPUID", 0, ""),
    ],
)
def test_a_qualification_reads_in_words(reason, value, words):
    assert spec.format_qualification(reason, value) == words


def test_a_qualification_is_taken_apart():
    io = spec.decode_qualification("IO_INSTRUCTION", 0x03F80048)
    assert io == {
        "size": 0,
        "direction": 1,
        "string": 0,
        "rep": 0,
        "operand_encoding": 1,
        "port": 0x3F8,
    }
    assert spec.decode_qualification("CPUID", 5) == {}


def test_an_exceptions_qualification_depends_on_its_vector():
    assert spec.decode_qualification(0, 0x1000, vector=14) == {"gva": 0x1000}
    assert spec.format_qualification(0, 0x4002, vector=1) == "b1, bs"
    assert spec.decode_qualification(0, 0, vector=6) == {}
    assert spec.decode_qualification(0, 0) == {}


def test_interruption_information_reads_in_words():
    assert spec.format_layout("entry-interruption", 0x80000B0E) == (
        "vector 14, hardware exception, deliver error code, valid"
    )
    assert spec.decode_layout("idt-vectoring", 0x80000402)["type"] == 4


def test_instruction_information_shows_memory_or_register_operands_only():
    register = 1 << 28 | 1 << 10 | 3 << 3
    assert spec.format_instruction_info("VMREAD", register) == (
        "register RBX, register operand, field encoding in RCX"
    )
    memory = 1 << 27 | 2 << 7 | 3 << 15 | 2 | 5 << 18
    assert spec.format_instruction_info("VMCLEAR", memory) == (
        "scaled by 4, 64-bit address, segment DS, index RBP"
    )
    assert spec.decode_instruction_info("CPUID", 7) == {}


@pytest.mark.parametrize("kind", ["pml4e", "pdpte-table", "pde-table", "pdpte-page", "pte", "eptp"])
def test_bits_of_an_ept_entry_do_not_overlap_below_maxphyaddr(kind):
    seen = 0
    for bits in spec.ept_bits(kind):
        if not bits.from_maxphyaddr:
            assert seen & bits.mask(39) == 0, bits.name
            seen |= bits.mask(39)


def test_ept_address_bits_beyond_maxphyaddr():
    beyond = next(row for row in spec.ept_bits("pte") if row.from_maxphyaddr)
    assert beyond.mask(39) == (1 << 52) - (1 << 39)
    assert beyond.mask(52) == 0


def test_parts_of_an_area_do_not_overlap():
    ends: dict[str, int] = {}
    for part in spec.area_parts():
        assert part.offset >= ends.get(part.structure, 0), part
        ends[part.structure] = part.offset + (part.size or 0)
    assert [part.offset for part in spec.area_parts("msr-bitmap")] == [0, 0x400, 0x800, 0xC00]
