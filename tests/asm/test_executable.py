"""Executables: segments, entry, symbols and line numbers as other tools read them."""

from __future__ import annotations

import io
import struct

import pytest
from elftools.elf.elffile import ELFFile

import asm

SOURCE = """
.globl _start, shared
.set PORT, 0xe9
helper: ret
_start:
    lea rsi, [rip + message]
    mov al, byte ptr [counter]
    call helper
.macro twice
    out PORT, al
    out PORT, al
.endm
    twice
1:  jmp 1b
.type _start, @function
.size _start, . - _start
.section .rodata
message: .asciz "hello"
.data
.balign 16
shared: .quad _start, message, end_of_data - shared
end_of_data:
.bss
.lcomm counter, 8192
"""


def elf_of(source: str, **options: int) -> ELFFile:
    return ELFFile(io.BytesIO(asm.assemble(source, name="t.s", **options).elf()))


def test_sections_of_equal_rights_share_page_aligned_segments() -> None:
    loads = [s for s in elf_of(SOURCE).iter_segments() if s["p_type"] == "PT_LOAD"]

    assert [segment["p_flags"] for segment in loads] == [5, 4, 6, 6]
    assert loads[0]["p_vaddr"] == 0x100000
    for segment in loads:
        assert segment["p_vaddr"] % 4096 == 0 == segment["p_offset"] % 4096
        assert segment["p_paddr"] == segment["p_vaddr"]
    assert (loads[3]["p_filesz"], loads[3]["p_memsz"]) == (0, 8192)


def test_the_entry_is_start_or_else_the_beginning_of_text() -> None:
    assert elf_of(SOURCE)["e_entry"] == 0x100001
    assert elf_of("nop")["e_entry"] == 0x100000
    assert asm.assemble("nop", name="t.s", base=0x200000).entry == 0x200000


def test_relocated_fields_hold_addresses() -> None:
    result = asm.assemble(SOURCE, name="t.s")
    data = ELFFile(io.BytesIO(result.elf())).get_section_by_name(".data").data()
    shared = result.address_of("shared")

    assert struct.unpack("<QQQ", data) == (0x100001, result.address_of("message"), 24)
    text = ELFFile(io.BytesIO(result.elf())).get_section_by_name(".text").data()
    offset = result.address_of("message") - (0x100001 + 7)
    assert text[1:8] == b"\x48\x8d\x35" + struct.pack("<i", offset)
    assert shared % 16 == 0


def test_symbols_carry_binding_type_size_and_section() -> None:
    file = elf_of(SOURCE)
    table = file.get_section_by_name(".symtab")
    symbols = {s.name: s for s in table.iter_symbols()}

    start = symbols["_start"]
    assert start["st_info"] == {"bind": "STB_GLOBAL", "type": "STT_FUNC"}
    assert start["st_size"] == file.get_section_by_name(".text")["sh_size"] - 1
    assert file.get_section(start["st_shndx"]).name == ".text"
    assert symbols["helper"]["st_info"]["bind"] == "STB_LOCAL"
    assert symbols["PORT"]["st_shndx"] == "SHN_ABS"
    assert symbols["counter"]["st_size"] == 8192
    assert file.get_section(symbols["counter"]["st_shndx"]).name == ".bss"
    bindings = [s["st_info"]["bind"] for s in table.iter_symbols()]
    assert bindings.index("STB_GLOBAL") == table["sh_info"]
    assert "1" not in symbols


def line_of(file: ELFFile) -> dict[int, tuple[str, int]]:
    rows = {}
    for unit in file.get_dwarf_info().iter_CUs():
        program = file.get_dwarf_info().line_program_for_CU(unit)
        names = [entry.name.decode() for entry in program["file_entry"]]
        for entry in program.get_entries():
            if entry.state and not entry.state.end_sequence:
                rows[entry.state.address] = (names[entry.state.file - 1], entry.state.line)
    return rows


@pytest.mark.parametrize("elf_class", [32, 64])
def test_line_numbers_lead_from_addresses_to_source_lines(elf_class: int) -> None:
    source = "nop\n\n mov eax, 5\n.macro two\n nop\n nop\n.endm\n two\n.rept 2\n cli\n.endr\n hlt\n"
    rows = line_of(elf_of(source, elf_class=elf_class))

    base = 0x100000
    assert rows == {
        base: ("t.s", 1),
        base + 1: ("t.s", 3),
        base + 6: ("t.s", 8),
        base + 7: ("t.s", 8),
        base + 8: ("t.s", 10),
        base + 9: ("t.s", 10),
        base + 10: ("t.s", 12),
    }


def test_line_numbers_cover_long_gaps_and_every_code_section() -> None:
    source = 'nop\n.skip 5000\nhlt\n.section .text.more,"ax"\ncli\n'
    rows = line_of(elf_of(source))

    assert rows == {0x100000: ("t.s", 1), 0x101389: ("t.s", 3), 0x10138A: ("t.s", 5)}


@pytest.mark.parametrize(
    ("source", "bits"),
    [
        ("nop", 64),
        (".code32\nnop", 32),
        (".long 1\n.code32\n.long 2\nnop", 32),
        (".code32\nnop\n.code64\nnop", 64),
        (".code16\nnop\n.code32\nnop", 32),
        (".long 1", 64),
    ],
)
def test_the_file_is_elf32_when_no_instruction_is_64_bit_code(source: str, bits: int) -> None:
    file = elf_of(source)

    assert file.elfclass == bits
    assert file["e_machine"] == ("EM_386" if bits == 32 else "EM_X86_64")


def test_an_explicit_class_wins_and_forbids_64_bit_code() -> None:
    assert elf_of(".code32\nnop", elf_class=64).elfclass == 64
    assert elf_of("push eax", elf_class=32).elfclass == 32
    with pytest.raises(asm.AssemblyErrors, match="64-bit code cannot stand in a 32-bit file"):
        elf_of(".code64\nnop", elf_class=32)


def test_a_boot_header_stands_in_the_first_8_kib_of_the_file() -> None:
    source = """
    .skip 20000, 0x90
    .section .multiboot, "a"
    .balign 4
    .long 0x1badb002, 0, -0x1badb002
    """
    image = asm.assemble(source, name="t.s").elf()

    assert 0 <= image.find(struct.pack("<I", 0x1BADB002)) < 8192 - 12


def test_a_note_gets_a_note_segment() -> None:
    source = '.section .note.Xen, "a", @note\n.long 4, 4, 18\n.asciz "Xen"\n.long 0\n.text\nnop\n'
    notes = [s for s in elf_of(source).iter_segments() if s["p_type"] == "PT_NOTE"]

    assert [note["n_type"] for segment in notes for note in segment.iter_notes()] == [18]


def test_the_linker_names_are_defined_when_they_are_used() -> None:
    source = (
        "mov eax, offset _end - 0x100000\n.data\n.quad __bss_start, _edata, etext\n.bss\n.skip 16"
    )
    result = asm.assemble(source, name="t.s")
    data = ELFFile(io.BytesIO(result.elf())).get_section_by_name(".data").data()

    assert struct.unpack("<QQQ", data) == (0x102000, 0x101018, 0x100005)
    table = ELFFile(io.BytesIO(result.object())).get_section_by_name(".symtab")
    assert table.get_symbol_by_name("_end")[0]["st_shndx"] == "SHN_UNDEF"


def test_a_symbol_outside_the_field_is_an_error() -> None:
    with pytest.raises(asm.AssemblyErrors, match=r"t\.s:1:1: error: value 0x100000 does not fit"):
        asm.assemble("x: .word x", name="t.s").elf()


def test_a_weak_undefined_symbol_is_zero() -> None:
    data = elf_of("nop\n.weak none\n.data\n.quad none").get_section_by_name(".data").data()

    assert data == bytes(8)


def test_an_object_can_be_written_before_and_after_the_executable() -> None:
    result = asm.assemble(SOURCE, name="t.s")
    before, executable = result.object(), result.elf()

    assert result.object() == before
    assert result.elf() == executable
    assert asm.assemble(SOURCE, name="t.s").elf() == executable


def test_the_listing_shows_address_bytes_and_source() -> None:
    listing = asm.assemble(SOURCE, name="t.s").listing()

    assert "0000000000100008  8a 04 25 00 30 10 00     t.s:7: mov al, byte ptr [counter]" in listing
    assert "00000000000000e9  PORT" in listing
