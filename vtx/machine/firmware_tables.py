"""What firmware leaves in low memory: ACPI tables and the BIOS data area.

A pure function of RAM size and CPU count. It must not know the devices that the tables
describe; only their places and interrupt wiring, which memory_map and the PC fix.
Source: ACPI Specification, System Description Tables (RSDP, RSDT, XSDT, FADT, FACS, MADT).
"""

from __future__ import annotations

import struct
from typing import Final

from vtx.machine.bus import Bus
from vtx.machine.memory_map import BDA_BASE, BIOS_BASE, EBDA_BASE, IOAPIC_BASE, LAPIC_BASE
from vtx.spec.places import port_range

OEM_ID: Final = b"VTX   "
OEM_TABLE_ID: Final = b"VTXPC   "
CREATOR_ID: Final = b"VTX "

RSDP_GPA: Final = 0xF_0000
TABLES_GPA: Final = BIOS_BASE
FIRMWARE_TABLES_END: Final = RSDP_GPA + 0x1000

SCI_IRQ: Final = port_range("acpi_pm1a").irq or 0
PM1_EVENT_PORT: Final = port_range("acpi_pm1a").first
PM1_CONTROL_PORT: Final = PM1_EVENT_PORT + 4
PM_TIMER_PORT: Final = port_range("acpi_pm_timer").first
RESET_PORT: Final = port_range("pci_config").first + 1
RESET_VALUE: Final = 0x06
IOAPIC_ID: Final = 0
CMOS_CENTURY_INDEX: Final = 0x32

# FADT flags: WBINVD works, C1 works, RTC wake is not fixed-feature, reset register, 32-bit timer.
FADT_WBINVD, FADT_PROC_C1, FADT_TIMER_32BIT, FADT_RESET = 1 << 0, 1 << 2, 1 << 8, 1 << 10
# Boot architecture flags: legacy devices and an 8042 exist, no VGA.
BOOT_LEGACY, BOOT_8042, BOOT_NO_VGA = 1 << 0, 1 << 1, 1 << 2
MADT_PC_AT: Final = 1  # the dual 8259 exists too

# MPS INTI flags of interrupt source overrides: polarity in 1:0, trigger mode in 3:2.
CONFORMING, ACTIVE_HIGH_LEVEL = 0x0, 0xD

ADDRESS_SPACE_IO: Final = 1

# DSDT in AML: Name (_S5, Package (4) {0, 0, 0, 0}), so the sleep type for power-off is 0.
DSDT_AML: Final = b"\x08_S5_\x12\x06\x04" + b"\x00" * 4


def checksum(data: bytes) -> int:
    """The byte that makes the sum of `data` and itself zero modulo 256."""
    return -sum(data) & 0xFF


def _table(signature: bytes, revision: int, body: bytes) -> bytes:
    length = 36 + len(body)
    head = struct.pack(
        "<4sIBB6s8sI4sI", signature, length, revision, 0, OEM_ID, OEM_TABLE_ID, 1, CREATOR_ID, 1
    )
    table = head + body
    return table[:9] + bytes([checksum(table)]) + table[10:]


def _io_address(port: int, bits: int) -> bytes:
    """A generic address structure for a port of `bits`; access size matches (1 = byte)."""
    access = {8: 1, 16: 2, 32: 3}[bits]
    return struct.pack("<BBBBQ", ADDRESS_SPACE_IO, bits, 0, access, port)


def _facs() -> bytes:
    return struct.pack("<4sI", b"FACS", 64).ljust(32, b"\0") + b"\x02".ljust(32, b"\0")


def _fadt(facs: int, dsdt: int) -> bytes:
    """Revision 5 layout, 268 bytes."""
    nothing = bytes(12)
    body = struct.pack("<IIBBHI4B", facs, dsdt, 0, 0, SCI_IRQ, 0, 0, 0, 0, 0)
    body += struct.pack("<8I", PM1_EVENT_PORT, 0, PM1_CONTROL_PORT, 0, 0, PM_TIMER_PORT, 0, 0)
    # Register lengths; C2 and C3 latencies above the limits that would make them usable.
    body += struct.pack("<8B", 4, 2, 0, 4, 0, 0, 0, 0) + struct.pack("<HH", 0x0FFF, 0x0FFF)
    body += struct.pack("<HHBBBBB", 0, 0, 0, 0, 0, 0, CMOS_CENTURY_INDEX)
    flags = FADT_WBINVD | FADT_PROC_C1 | FADT_TIMER_32BIT | FADT_RESET
    body += struct.pack("<HBI", BOOT_LEGACY | BOOT_8042 | BOOT_NO_VGA, 0, flags)
    body += _io_address(RESET_PORT, 8) + struct.pack("<BHB", RESET_VALUE, 0, 1)
    body += struct.pack("<QQ", facs, dsdt)
    body += _io_address(PM1_EVENT_PORT, 32) + nothing
    body += _io_address(PM1_CONTROL_PORT, 16) + nothing + nothing
    body += _io_address(PM_TIMER_PORT, 32) + nothing + nothing + nothing + nothing
    return _table(b"FACP", 5, body)


def _madt(cpu_count: int) -> bytes:
    body = struct.pack("<II", LAPIC_BASE, MADT_PC_AT)
    for cpu in range(cpu_count):
        body += struct.pack("<BBBBI", 0, 8, cpu, cpu, 1)  # a usable processor and its LAPIC
    body += struct.pack("<BBBBII", 1, 12, IOAPIC_ID, 0, IOAPIC_BASE, 0)
    body += struct.pack("<BBBBIH", 2, 10, 0, 0, 2, CONFORMING)  # ISA IRQ 0 is pin 2
    body += struct.pack("<BBBBIH", 2, 10, 0, SCI_IRQ, SCI_IRQ, ACTIVE_HIGH_LEVEL)
    body += struct.pack("<BBBHB", 4, 6, 0xFF, CONFORMING, 1)  # LINT1 is NMI everywhere
    return _table(b"APIC", 3, body)


def _rsdp(rsdt: int, xsdt: int) -> bytes:
    first = struct.pack("<8sB6sBI", b"RSD PTR ", 0, OEM_ID, 2, rsdt)
    first = first[:8] + bytes([checksum(first)]) + first[9:]
    whole = first + struct.pack("<IQB3x", 36, xsdt, 0)
    return whole[:32] + bytes([checksum(whole)]) + whole[33:]


def acpi_tables(cpu_count: int) -> list[tuple[int, bytes]]:
    """All ACPI tables as (gpa, contents), RSDP last; every pointer below 4 GiB."""
    placed: list[tuple[int, bytes]] = []
    free = TABLES_GPA

    def place(table: bytes) -> int:
        nonlocal free
        gpa = free
        placed.append((gpa, table))
        free = gpa + len(table) + 63 & ~63  # FACS must be 64-byte aligned, the others may
        return gpa

    facs = place(_facs())
    dsdt = place(_table(b"DSDT", 2, DSDT_AML))
    tables = (place(_fadt(facs, dsdt)), place(_madt(cpu_count)))
    rsdt = place(_table(b"RSDT", 1, struct.pack("<2I", *tables)))
    xsdt = place(_table(b"XSDT", 1, struct.pack("<2Q", *tables)))
    placed.append((RSDP_GPA, _rsdp(rsdt, xsdt)))
    return placed


def bios_data_area() -> list[tuple[int, bytes]]:
    """The few BIOS data that systems look for: COM1's port, EBDA segment, base memory in KiB."""
    return [
        (BDA_BASE, struct.pack("<H", port_range("com1").first)),
        (BDA_BASE + 0x0E, struct.pack("<H", EBDA_BASE >> 4)),
        (BDA_BASE + 0x13, struct.pack("<H", EBDA_BASE // 1024)),
        (EBDA_BASE, b"\x01"),  # the EBDA begins with its own size in KiB
    ]


def write_firmware_tables(bus: Bus, *, cpu_count: int = 1) -> None:
    """Put everything into the RAM behind `bus`, as firmware would before it starts a kernel."""
    for gpa, data in [*acpi_tables(cpu_count), *bios_data_area()]:
        bus.write_bytes(gpa, data)
