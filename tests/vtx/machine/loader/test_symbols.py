"""Names and lines come from the image, and a broken table costs only the names."""

import shutil
import subprocess

import pytest

from vtx.machine.bus import Bus
from vtx.machine.loader import LineTable, Symbol, SymbolTable, load_image
from vtx.machine.memory import PhysicalMemory

RAM_SIZE = 4 << 20


def test_the_nearest_symbol_before_an_address_names_it():
    table = SymbolTable(
        [Symbol("b", 0x200, 0), Symbol("a", 0x100, 0x10), Symbol("alias", 0x200, 0)]
    )

    assert table.describe(0x100) == "a"
    assert table.describe(0x10F) == "a+0xf"
    assert table.describe(0x110) is None
    assert table.describe(0x2FF) == "b+0xff"
    assert table.describe(0xFF) is None
    assert table.address_of("alias") == 0x200
    assert table.address_of("c") is None


def test_symbols_are_read_from_the_image(elf, load, bus):
    symbols = [("start", 0x100000, 8), ("loop", 0x100008, 0)]
    for bits in (32, 64):
        image = elf([load(0x100000, bytes(64))], 0x100000, bits=bits, symbols=symbols)
        table = load_image(image, bus, ram_size=RAM_SIZE).symbols
        assert table.address_of("loop") == 0x100008
        assert table.describe(0x100004) == "start+0x4"


def test_a_broken_symbol_table_does_not_keep_an_image_from_booting(elf, load, bus):
    image = elf([load(0x100000, bytes(64))], 0x100000, symbols=[("start", 0x100000, 8)])
    broken = image[:-64] + b"\xff" * 64

    assert load_image(broken, bus, ram_size=RAM_SIZE).entry == 0x100000


def test_an_image_without_dwarf_has_no_lines(elf, load):
    assert LineTable(elf([load(0x100000, bytes(64))], 0x100000)).lookup(0x100000) is None
    assert LineTable().lookup(0) is None
    assert LineTable(b"\x7fELF garbage").lookup(0) is None


@pytest.mark.skipif(shutil.which("as") is None, reason="GNU as is not installed")
@pytest.mark.skipif(shutil.which("ld") is None, reason="GNU ld is not installed")
@pytest.mark.parametrize("dwarf", [4, 5])
def test_lines_come_from_the_line_program_of_gnu_as(tmp_path, dwarf):
    (tmp_path / "a.s").write_text(".globl _start\n_start:\n nop\n nop\n\n hlt\n")
    run = lambda *command: subprocess.run(command, cwd=tmp_path, check=True)  # noqa: E731
    run("as", f"--gdwarf-{dwarf}", "-o", "a.o", "a.s")
    run("ld", "-Ttext=0x100000", "-o", "a.elf", "a.o")

    bus = Bus(PhysicalMemory(RAM_SIZE))
    state = load_image(tmp_path / "a.elf", bus, ram_size=RAM_SIZE)

    assert state.symbols.describe(0x100001) == "_start+0x1"
    assert state.lines.lookup(0x100001).line == 4
    assert str(state.lines.lookup(0x100002)) == "a.s:6"
    assert state.lines.lookup(0x100003) is None
    assert state.lines.lookup(0xFFFFF) is None
