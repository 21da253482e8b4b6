"""An ELF64 executable as ELF32, as kernel makefiles make it with objcopy -O elf32-i386.

Multiboot loaders that know only ELF32 want this of 64-bit kernels. Section headers are dropped.
"""

from __future__ import annotations

import struct

_EHDR64, _PHDR64 = struct.Struct("<16sHHIQQQIHHHHHH"), struct.Struct("<IIQQQQQQ")
_EHDR32, _PHDR32 = struct.Struct("<16sHHIIIIIHHHHHH"), struct.Struct("<IIIIIIII")
_EM_386, _PT_LOAD = 3, 1


def as_elf32(image: bytes) -> bytes:
    """The segments of an ELF64 executable in an ELF32 file; addresses are cut to 32 bits."""
    head = _EHDR64.unpack_from(image)
    entry, table, count = head[4], head[5], head[10]
    rows = [_PHDR64.unpack_from(image, table + n * _PHDR64.size) for n in range(count)]
    loads = [row for row in rows if row[0] == _PT_LOAD]
    ident = b"\x7fELF\x01\x01\x01" + bytes(9)
    start = _EHDR32.size + len(loads) * _PHDR32.size
    body, table32 = b"", b""
    for _, flags, offset, vaddr, paddr, filesz, memsz, _ in loads:
        place = start + len(body)
        low = 0xFFFF_FFFF
        table32 += _PHDR32.pack(
            _PT_LOAD, place, vaddr & low, paddr & low, filesz, memsz, flags, 4
        )  # fmt: skip
        body += image[offset : offset + filesz] + bytes(-filesz % 4)
    header = _EHDR32.pack(
        ident, 2, _EM_386, 1, entry & 0xFFFF_FFFF, _EHDR32.size, 0, 0,
        _EHDR32.size, _PHDR32.size, len(loads), 0, 0, 0,
    )  # fmt: skip
    return header + table32 + body
