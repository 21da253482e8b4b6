"""From image bytes to a machine ready to start: choose the protocol, fill memory.

Protocols, tried in this order: Multiboot 1 (its header in the first 8 KiB), PVH (an ELF note),
plain ELF64 (long mode, identity-mapped), plain ELF32 (the same 32-bit state as Multiboot).
What ends up in memory depends on the image and the options alone, never on who runs it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from vtx.machine.bus import Bus
from vtx.machine.loader.boot_state import (
    CR0_ET,
    CR0_NE,
    CR0_PE,
    CR0_PG,
    CR0_WP,
    CR4_PAE,
    EFER_LMA,
    EFER_LME,
    RFLAGS_FIXED,
    BootState,
    SegmentState,
    TableRegister,
)
from vtx.machine.loader.cpu_modes import (
    CODE32,
    CODE64,
    flat_segments,
    write_gdt,
    write_identity_page_tables,
)
from vtx.machine.loader.elf import ELF_MAGIC, ElfImage, Segment, read_elf
from vtx.machine.loader.errors import ImageError
from vtx.machine.loader.multiboot import (
    BOOT_MAGIC,
    find_header,
    segment_by_addresses,
    write_boot_information,
)
from vtx.machine.loader.placement import (
    BootArea,
    PlacedModule,
    check_segments,
    place_modules,
    write_segments,
)
from vtx.machine.loader.pvh import physical_entry_note, write_start_info
from vtx.machine.loader.symbols import LineTable, read_symbols
from vtx.machine.memory_map import BOOT_STACK_TOP, HIGH_RAM_BASE, MIN_RAM_SIZE

Protocol = Literal["multiboot1", "pvh", "elf64", "elf32"]
NO_TABLE = TableRegister(0, 0)


def load_image(
    image: bytes | str | Path,
    bus: Bus,
    *,
    command_line: str = "",
    modules: Sequence[tuple[bytes, str]] = (),
    ram_size: int,
    name: str = "image",
) -> BootState:
    """Put `image` (its bytes, or a path) into the RAM behind `bus` and say how to start it.

    `modules` are (contents, command line) pairs; the first is what other loaders call initrd.
    `ram_size` is in bytes; `name` is used in errors when the image is given as bytes.
    Firmware tables are not written here but by `firmware_tables`. Raises ImageError.
    """
    image, name = _contents(image, name)
    if ram_size < MIN_RAM_SIZE:
        raise ImageError(name, f"{ram_size:#x} bytes of RAM are too few; at least 1 MiB is needed")
    return _Loading(image, name, bus, command_line, tuple(modules), ram_size).boot()


def _contents(image: bytes | str | Path, name: str) -> tuple[bytes, str]:
    if isinstance(image, bytes):
        return image, name
    try:
        return Path(image).read_bytes(), str(image)
    except OSError as error:
        raise ImageError(str(image), f"cannot be read: {error.strerror or error}") from None
    except ValueError as error:  # a path with a zero byte in it
        raise ImageError(str(image), f"cannot be read: {error}") from None


class _Loading:
    """One image on its way into one machine."""

    def __init__(
        self,
        image: bytes,
        name: str,
        bus: Bus,
        command_line: str,
        modules: tuple[tuple[bytes, str], ...],
        ram_size: int,
    ) -> None:
        self.image = image
        self.name = name
        self.bus = bus
        self.command_line = command_line
        self.modules = modules
        self.ram_size = ram_size

    def boot(self) -> BootState:
        header = find_header(self.image, self.name)
        if header is not None and header.addresses is not None:
            segment, entry = segment_by_addresses(self.image, header, self.name)
            return self._multiboot((segment,), entry)
        if not self.image.startswith(ELF_MAGIC) and self.image[0x202:0x206] == b"HdrS":
            raise ImageError(self.name, "a Linux bzImage; boot the vmlinux ELF it was made from")
        elf = read_elf(self.image, self.name)
        if header is not None:
            return self._multiboot(elf.segments, self._entry32(elf))
        pvh_entry = physical_entry_note(elf)
        if pvh_entry is not None:
            return self._pvh(elf, pvh_entry)
        if elf.bits == 64:
            return self._long_mode(elf)
        return self._multiboot(elf.segments, self._entry32(elf), plain=True)

    def _multiboot(
        self, segments: tuple[Segment, ...], entry: int, *, plain: bool = False
    ) -> BootState:
        modules = self._fill(segments)
        area = BootArea(self.bus, self.name)
        info = write_boot_information(area, self.command_line, modules, self.ram_size)
        registers = {"rax": BOOT_MAGIC, "rbx": info, "rsp": BOOT_STACK_TOP}
        return self._protected32("elf32" if plain else "multiboot1", entry, registers)

    def _pvh(self, elf: ElfImage, entry: int) -> BootState:
        if not any(s.paddr <= entry < s.paddr + s.memsz for s in elf.segments):
            raise ImageError(self.name, f"PVH entry point {entry:#x} is not in any segment")
        modules = self._fill(elf.segments)
        area = BootArea(self.bus, self.name)
        info = write_start_info(area, self.command_line, modules, self.ram_size)
        return self._protected32("pvh", entry, {"rbx": info, "rsp": BOOT_STACK_TOP})

    def _long_mode(self, elf: ElfImage) -> BootState:
        entry = self._entry(elf)
        modules = self._fill(elf.segments)
        area = BootArea(self.bus, self.name)
        info = write_boot_information(area, self.command_line, modules, self.ram_size)
        cr3 = write_identity_page_tables(self.bus)
        return self._state(
            "long64",
            "elf64",
            entry,
            {"rdi": info, "rsp": BOOT_STACK_TOP},
            cr0=CR0_PG | CR0_WP | CR0_NE | CR0_ET | CR0_PE,
            cr3=cr3,
            cr4=CR4_PAE,
            efer=EFER_LMA | EFER_LME,
            code=CODE64,
        )

    def _protected32(self, protocol: Protocol, entry: int, registers: dict[str, int]) -> BootState:
        return self._state(
            "protected32",
            protocol,
            entry,
            registers,
            cr0=CR0_ET | CR0_PE,
            cr3=0,
            cr4=0,
            efer=0,
            code=CODE32,
        )

    def _state(
        self,
        mode: Literal["protected32", "long64"],
        protocol: Protocol,
        entry: int,
        registers: dict[str, int],
        *,
        cr0: int,
        cr3: int,
        cr4: int,
        efer: int,
        code: SegmentState,
    ) -> BootState:
        return BootState(
            mode=mode,
            protocol=protocol,
            entry=entry,
            registers=MappingProxyType(registers),
            rflags=RFLAGS_FIXED,
            cr0=cr0,
            cr3=cr3,
            cr4=cr4,
            efer=efer,
            gdt=write_gdt(self.bus),
            idt=NO_TABLE,
            segments=flat_segments(code),
            symbols=read_symbols(self.image),
            lines=LineTable(self.image),
        )

    def _fill(self, segments: tuple[Segment, ...]) -> tuple[PlacedModule, ...]:
        """Write the image and its modules, once everything is known to fit."""
        check_segments(segments, self.ram_size, self.name)
        write_segments(segments, self.bus)
        return place_modules(self.modules, segments, self.bus, self.ram_size, self.name)

    def _entry(self, elf: ElfImage) -> int:
        entry = elf.physical_entry()
        if entry is None:
            raise ImageError(self.name, f"entry point {elf.entry:#x} is not in any segment")
        return entry

    def _entry32(self, elf: ElfImage) -> int:
        entry = self._entry(elf)
        if entry >= HIGH_RAM_BASE:
            raise ImageError(self.name, f"entry point {entry:#x} does not fit in 32 bits")
        return entry
