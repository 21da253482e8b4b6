"""Values are written into code as the ELF ABIs say, and refused where they do not fit."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vtx.engine.native.objects import EM_AARCH64, EM_X86_64, Relocation, Stencil
from vtx.engine.native.relocate import (
    RULES,
    RelocationError,
    patch,
    place,
    prepare,
    rule,
    veneer,
    without_final_jump,
)

HVA = 0x7F00_0000_1000

NUMBERS = {
    rule.name: (machine, kind) for machine, kinds in RULES.items() for kind, rule in kinds.items()
}


def _patched(
    name: str, value: int, *, addend: int = 0, code: bytes = bytes(8), at: int = 0
) -> bytes:
    machine, kind = NUMBERS[name]
    buffer = bytearray(bytes(at) + code)
    patch(buffer, 0, HVA, Relocation(at, kind, "S", addend), value, machine)
    return bytes(buffer[at:])


@pytest.mark.parametrize(
    ("name", "value", "addend", "expected"),
    [
        ("R_X86_64_64", 0xFEDC_BA98_7654_3210, 0, "<Q"),
        ("R_X86_64_64", -1, 3, "<Q"),
        ("R_X86_64_32", 0xFFFF_FFFF, 0, "<I"),
        ("R_X86_64_32S", -(1 << 31), 0, "<i"),
        ("R_X86_64_32S", (1 << 64) - 8, 0, "<i"),
        ("R_X86_64_16", 0xFFFF, 0, "<H"),
        ("R_X86_64_8", 127, 0, "<b"),
        ("R_X86_64_8", 0, -128, "<b"),
    ],
)
def test_x86_64_absolute_fields(name: str, value: int, addend: int, expected: str) -> None:
    size = struct.calcsize(expected)
    wanted = (value + addend) % (1 << 64) % (1 << 8 * size)
    assert _patched(name, value, addend=addend) == wanted.to_bytes(size, "little") + bytes(8 - size)


@pytest.mark.parametrize("name", ["R_X86_64_PC32", "R_X86_64_PLT32"])
@given(distance=st.integers(-(1 << 31), (1 << 31) - 1), at=st.integers(0, 100))
def test_x86_64_relative_fields_count_from_their_place(name: str, distance: int, at: int) -> None:
    code = _patched(name, HVA + at + distance + 4, addend=-4, at=at)
    assert struct.unpack_from("<i", code) == (distance,)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("R_X86_64_32", 1 << 32),
        ("R_X86_64_32", -1),
        ("R_X86_64_32S", 1 << 31),
        ("R_X86_64_32S", 0xFFFF_FFFF),
        ("R_X86_64_16", 1 << 16),
        ("R_X86_64_8", 128),
        ("R_X86_64_PC32", HVA + (1 << 31)),
        ("R_X86_64_PLT32", HVA - (1 << 31) - 1),
        ("R_AARCH64_CALL26", HVA + (1 << 27)),
        ("R_AARCH64_CALL26", HVA + 2),
        ("R_AARCH64_JUMP26", HVA - (1 << 27) - 4),
        ("R_AARCH64_CONDBR19", HVA + (1 << 20)),
        ("R_AARCH64_TSTBR14", HVA + (1 << 15)),
        ("R_AARCH64_ADR_PREL_PG_HI21", HVA + (1 << 32)),
        ("R_AARCH64_LDST64_ABS_LO12_NC", 0x1234),
        ("R_AARCH64_MOVW_UABS_G0", 1 << 16),
        ("R_AARCH64_MOVW_UABS_G2", 1 << 48),
    ],
)
def test_a_value_that_does_not_fit_is_refused_in_one_line_that_names_it(
    name: str, value: int
) -> None:
    with pytest.raises(RelocationError, match=name) as caught:
        _patched(name, value)
    assert "\n" not in str(caught.value) and hex(value) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "instruction", "value", "expected"),
    [
        ("R_AARCH64_CALL26", 0x9400_0000, HVA + 8, 0x9400_0002),  # bl .+8
        ("R_AARCH64_JUMP26", 0x1400_0000, HVA - 4, 0x17FF_FFFF),  # b .-4
        ("R_AARCH64_CONDBR19", 0xB400_0000, HVA + 8, 0xB400_0040),  # cbz x0, .+8
        ("R_AARCH64_TSTBR14", 0x3600_0000, HVA + 8, 0x3600_0040),  # tbz w0, #0, .+8
        ("R_AARCH64_ADR_PREL_LO21", 0x1000_0000, HVA + 5, 0x3000_0020),  # adr x0, .+5
        ("R_AARCH64_ADR_PREL_PG_HI21", 0x9000_0000, HVA + 0x1FFF, 0xB000_0000),  # adrp x0, .+1
        ("R_AARCH64_ADR_PREL_PG_HI21", 0x9000_0001, HVA - 1, 0xF0FF_FFE1),  # adrp x1, .-1
        ("R_AARCH64_ADD_ABS_LO12_NC", 0x9100_0000, 0xABC_D234, 0x9108_D000),  # add x0, x0, #0x234
        ("R_AARCH64_LDST8_ABS_LO12_NC", 0x3940_0000, 0x1FFF, 0x397F_FC00),  # ldrb w0, [x0, 4095]
        ("R_AARCH64_LDST16_ABS_LO12_NC", 0x7940_0000, 0x1002, 0x7940_0400),  # ldrh w0, [x0, 2]
        ("R_AARCH64_LDST32_ABS_LO12_NC", 0xB940_0000, 0x1004, 0xB940_0400),  # ldr w0, [x0, 4]
        ("R_AARCH64_LDST64_ABS_LO12_NC", 0xF940_0000, 0x1008, 0xF940_0400),  # ldr x0, [x0, 8]
        ("R_AARCH64_LDST128_ABS_LO12_NC", 0x3DC0_0000, 0x1010, 0x3DC0_0400),  # ldr q0, [x0, 16]
        ("R_AARCH64_MOVW_UABS_G0", 0xD280_0000, 0x1234, 0xD282_4680),  # movz x0, 0x1234
        ("R_AARCH64_MOVW_UABS_G1_NC", 0xF2A0_0000, 0x9_1234_0000, 0xF2A2_4680),  # movk lsl 16
        ("R_AARCH64_MOVW_UABS_G2_NC", 0xF2C0_0000, 0x1234_0000_0000, 0xF2C2_4680),  # movk lsl 32
        ("R_AARCH64_MOVW_UABS_G3", 0xF2E0_0000, 0xFFFF_0000_0000_0000, 0xF2FF_FFE0),  # lsl 48
        ("R_AARCH64_ABS64", 0, 5, 5),
    ],
)
def test_aarch64_instructions_come_out_as_the_architecture_encodes_them(
    name: str, instruction: int, value: int, expected: int
) -> None:
    code = _patched(name, value, code=struct.pack("<II", instruction, 0))
    assert struct.unpack("<II", code) == (expected, 0)


@given(value=st.integers(0, (1 << 64) - 1))
def test_four_aarch64_moves_hold_all_of_a_value(value: int) -> None:
    fields = [
        struct.unpack_from("<I", _patched(f"R_AARCH64_MOVW_UABS_G{part}", value))[0] >> 5
        for part in ("0_NC", "1_NC", "2_NC", "3")
    ]
    assert sum(field << 16 * part for part, field in enumerate(fields)) == value


@pytest.mark.parametrize(("machine", "kind"), [(EM_X86_64, 9), (EM_AARCH64, 311), (40, 1)])
def test_an_unknown_type_is_refused(machine: int, kind: int) -> None:
    with pytest.raises(RelocationError, match=f"type {kind} of ELF machine {machine}"):
        rule(kind, machine)


STENCIL = Stencil(
    EM_X86_64,
    bytes(range(24)) + b"\xe9\0\0\0\0",
    (
        Relocation(1, 1, "wide", 2),
        Relocation(9, 11, "signed", 0),
        Relocation(13, 10, "unsigned", 1),
        Relocation(18, 4, "call", -4),
        Relocation(25, 4, "next", -4),
    ),
)
VALUES = {
    "wide": 0xFFFF_0000_1111_2222,
    "signed": -77,
    "unsigned": 0xFFFF_FFF0,
    "call": HVA - 1000,
    "next": HVA + 5000,
}


def test_placing_a_prepared_stencil_writes_what_patching_writes() -> None:
    expected = bytearray(100)
    expected[32 : 32 + len(STENCIL.code)] = STENCIL.code
    for relocation in STENCIL.relocations:
        patch(expected, 32, HVA + 32, relocation, VALUES[relocation.symbol], EM_X86_64)
    placed = bytearray(100)
    place(prepare(STENCIL), memoryview(placed), 32, HVA + 32, VALUES)
    assert placed == expected


def test_placing_pages_writes_what_patching_writes() -> None:
    stencil = Stencil(
        EM_AARCH64, struct.pack("<II", 0, 0x9000_0000), (Relocation(4, 275, "S", 16),)
    )
    expected, placed = bytearray(stencil.code), bytearray(8)
    patch(expected, 0, HVA, stencil.relocations[0], HVA + 0x5FF8, EM_AARCH64)
    place(prepare(stencil), placed, 0, HVA, {"S": HVA + 0x5FF8})
    assert placed == expected and placed[4:] != stencil.code[4:]


@pytest.mark.parametrize(
    "change", [{"signed": 1 << 31}, {"unsigned": -2}, {"wide": -3}, {"call": HVA + (1 << 40)}]
)
def test_placing_a_value_that_does_not_fit_names_the_symbol(change: dict[str, int]) -> None:
    with pytest.raises(RelocationError, match=next(iter(change))):
        place(prepare(STENCIL), bytearray(100), 0, HVA, VALUES | change)


def test_placing_without_a_value_names_the_symbol() -> None:
    with pytest.raises(RelocationError, match="symbol next has no value"):
        place(
            prepare(STENCIL),
            bytearray(100),
            0,
            HVA,
            {k: v for k, v in VALUES.items() if k != "next"},
        )


def test_the_final_jump_is_cut_off() -> None:
    cut = without_final_jump(STENCIL)
    assert cut == (Stencil(EM_X86_64, bytes(range(24)), STENCIL.relocations[:-1]), "next")
    assert without_final_jump(cut[0]) is None


@pytest.mark.parametrize(
    "stencil",
    [
        Stencil(EM_X86_64, b"\xc3", ()),
        Stencil(EM_X86_64, b"\xe8\0\0\0\0", (Relocation(1, 4, "S", -4),)),
        Stencil(EM_X86_64, b"\xe9\0\0\0\0\xc3", (Relocation(1, 4, "S", -4),)),
        Stencil(EM_X86_64, b"\xe9\0\0\0\0", (Relocation(1, 10, "S", -4),)),
        Stencil(EM_X86_64, b"\0\0\0\0", (Relocation(0, 4, "S", -4),)),
    ],
)
def test_what_is_not_a_final_jump_stays(stencil: Stencil) -> None:
    assert without_final_jump(stencil) is None


def test_a_veneer_of_either_machine_holds_the_whole_target() -> None:
    for machine in (EM_X86_64, EM_AARCH64):
        code = veneer(0x1234_5678_9ABC_DEF0, machine)
        assert len(code) == 16 and struct.unpack_from("<Q", code, 8) == (0x1234_5678_9ABC_DEF0,)
