"""A small ELF writer for loader tests."""

import struct
from dataclasses import dataclass

import pytest

from vtx.machine.bus import Bus
from vtx.machine.memory import PhysicalMemory

RAM_SIZE = 4 << 20


@dataclass
class Load:
    """One program header with its contents."""

    paddr: int
    data: bytes
    memsz: int | None = None
    vaddr: int | None = None
    kind: int = 1
    align: int = 1


def write_elf(loads, entry, *, bits=64, machine=None, kind=2, symbols=()):
    """An ELF executable: header, program headers, contents, then symbol and string tables."""
    wide = bits == 64
    header_size, entry_size = (64, 56) if wide else (52, 32)
    machine = machine if machine is not None else (62 if wide else 3)
    position = header_size + entry_size * len(loads)
    headers, contents = b"", b""
    for load in loads:
        offset = position + len(contents)
        memsz = len(load.data) if load.memsz is None else load.memsz
        vaddr = load.paddr if load.vaddr is None else load.vaddr
        if wide:
            headers += struct.pack(
                "<IIQQQQQQ",
                *(load.kind, 7, offset, vaddr, load.paddr, len(load.data), memsz, load.align),
            )
        else:
            headers += struct.pack(
                "<8I",
                *(load.kind, offset, vaddr, load.paddr, len(load.data), memsz, 7, load.align),
            )
        contents += load.data
    body = headers + contents
    sections, count = _sections(symbols, header_size + len(body), wide)
    section_at = header_size + len(body) + len(sections) - count * (64 if wide else 40)
    ident = b"\x7fELF" + bytes([2 if wide else 1, 1, 1]) + bytes(9)
    header = ident + struct.pack(
        "<HHIQQQIHHHHHH" if wide else "<HHIIIIIHHHHHH",
        *(kind, machine, 1, entry, header_size, section_at if count else 0, 0),
        *(
            header_size,
            entry_size,
            len(loads),
            64 if wide else 40,
            count,
            count - 1 if count else 0,
        ),
    )
    return header + body + sections


def _sections(symbols, start, wide):
    if not symbols:
        return b"", 0
    names, table = b"\0", bytes(24 if wide else 16)
    for name, value, size in symbols:
        index = len(names)
        names += name.encode() + b"\0"
        if wide:
            table += struct.pack("<IBBHQQ", index, 0x12, 0, 1, value, size)
        else:
            table += struct.pack("<IIIBBH", index, value, size, 0x12, 0, 1)
    names_at = start + len(table)
    form = "<IIQQQQIIQQ" if wide else "<10I"
    headers = struct.pack(form, *[0] * 10)
    headers += struct.pack(form, 0, 2, 0, 0, start, len(table), 2, 1, 8, 24 if wide else 16)
    headers += struct.pack(form, 0, 3, 0, 0, names_at, len(names), 0, 0, 1, 0)
    return table + names + headers, 3


@pytest.fixture(scope="session")
def elf():
    return write_elf


@pytest.fixture(scope="session")
def load():
    return Load


@pytest.fixture
def bus():
    return Bus(PhysicalMemory(RAM_SIZE))
