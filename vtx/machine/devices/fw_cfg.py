"""QEMU's firmware configuration device in its plain I/O port form (no DMA).

It carries numbers and files that the machine's maker gives it and must not know their use.
Source: QEMU's fw_cfg specification (selector, data register, well-known keys, file directory).
"""

from __future__ import annotations

import struct
from typing import Final

from vtx.spec.places import port_range

SELECTOR_PORT: Final = port_range("fw_cfg").first
DATA_PORT: Final = SELECTOR_PORT + 1
KEY_SIGNATURE, KEY_ID, KEY_RAM_SIZE, KEY_CPU_COUNT = 0x00, 0x01, 0x03, 0x05
KEY_MAX_CPUS, KEY_FILE_DIRECTORY, KEY_FIRST_FILE = 0x0F, 0x19, 0x20
ID_TRADITIONAL: Final = 1
KEY_FLAGS: Final = 0xC000  # write channel and architecture-local bits of a selector


class FwCfg:
    """Items by key, read byte by byte from the start after each selection; past the end, and
    for keys that do not exist, bytes are zero."""

    def __init__(self, *, ram_size: int, cpu_count: int) -> None:
        self.files: dict[str, bytes] = {}
        self.items: dict[int, bytes] = {
            KEY_SIGNATURE: b"QEMU",
            KEY_ID: struct.pack("<I", ID_TRADITIONAL),
            KEY_RAM_SIZE: struct.pack("<Q", ram_size),
            KEY_CPU_COUNT: struct.pack("<H", cpu_count),
            KEY_MAX_CPUS: struct.pack("<H", cpu_count),
        }
        self.key = 0
        self.position = 0
        self._rebuild_directory()

    def add_file(self, name: str, contents: bytes) -> None:
        """Offer a named file (at most 55 bytes of name) through the directory."""
        self.files[name] = contents
        self._rebuild_directory()

    def _rebuild_directory(self) -> None:
        entries = []
        for key, name in enumerate(sorted(self.files), KEY_FIRST_FILE):
            self.items[key] = self.files[name]
            entries.append(struct.pack(">IHH56s", len(self.files[name]), key, 0, name.encode()))
        self.items[KEY_FILE_DIRECTORY] = struct.pack(">I", len(entries)) + b"".join(entries)

    def port_in(self, port: int, width_bits: int) -> int:
        if port == SELECTOR_PORT:
            return 0
        item = self.items.get(self.key, b"")
        value = item[self.position] if self.position < len(item) else 0
        self.position += 1
        return value

    def port_out(self, port: int, width_bits: int, value: int) -> None:
        if port == SELECTOR_PORT:
            self.key = value & ~KEY_FLAGS & 0xFFFF
            self.position = 0
        # Data has been read-only since QEMU 2.4: writes are dropped.
