"""ACPI tables as an operating system finds and checks them."""

import struct

import pytest

from vtx.machine.bus import Bus
from vtx.machine.firmware_tables import FIRMWARE_TABLES_END, acpi_tables, write_firmware_tables
from vtx.machine.memory import PhysicalMemory


@pytest.fixture
def bus():
    bus = Bus(PhysicalMemory(2 << 20))
    write_firmware_tables(bus, cpu_count=3)
    return bus


def find_rsdp(bus):
    for gpa in range(0xE0000, 0x100000, 16):
        if bus.read_bytes(gpa, 8) == b"RSD PTR ":
            return gpa
    raise AssertionError("no RSDP on a 16-byte boundary of the BIOS area")


def table_at(bus, gpa):
    data = bus.read_bytes(gpa, bus.load(gpa + 4, 32))
    assert sum(data) & 0xFF == 0
    return data


def tables(bus):
    xsdt = table_at(bus, bus.load(find_rsdp(bus) + 24, 64))
    found = [table_at(bus, gpa) for gpa in struct.unpack(f"<{(len(xsdt) - 36) // 8}Q", xsdt[36:])]
    return {data[:4]: data for data in found}


def test_the_rsdp_has_both_checksums(bus):
    rsdp = bus.read_bytes(find_rsdp(bus), 36)
    assert sum(rsdp[:20]) & 0xFF == 0
    assert sum(rsdp) & 0xFF == 0
    assert rsdp[15] == 2
    assert int.from_bytes(rsdp[20:24], "little") == 36


def test_rsdt_and_xsdt_list_the_same_tables(bus):
    rsdp = find_rsdp(bus)
    rsdt = table_at(bus, bus.load(rsdp + 16, 32))
    xsdt = table_at(bus, bus.load(rsdp + 24, 64))
    assert (rsdt[:4], xsdt[:4]) == (b"RSDT", b"XSDT")
    assert struct.unpack("<2I", rsdt[36:]) == struct.unpack("<2Q", xsdt[36:])


def test_the_fadt_leads_to_facs_dsdt_and_the_power_management_ports(bus):
    fadt = tables(bus)[b"FACP"]
    assert len(fadt) == 268
    facs, dsdt = struct.unpack_from("<2I", fadt, 36)
    assert struct.unpack_from("<2Q", fadt, 132) == (facs, dsdt)
    assert facs % 64 == 0
    assert bus.read_bytes(facs, 4) == b"FACS"
    assert table_at(bus, dsdt)[:4] == b"DSDT"
    assert struct.unpack_from("<H", fadt, 46) == (9,)
    assert struct.unpack_from("<I", fadt, 56) == (0x600,)
    assert struct.unpack_from("<I", fadt, 64) == (0x604,)
    assert struct.unpack_from("<I", fadt, 76) == (0x608,)
    assert (fadt[88], fadt[89], fadt[91]) == (4, 2, 4)
    for offset, port, bits in (
        (116, 0xCF9, 8),
        (148, 0x600, 32),
        (172, 0x604, 16),
        (208, 0x608, 32),
    ):
        space, width, _, _, gpa = struct.unpack_from("<4BQ", fadt, offset)
        assert (space, width, gpa) == (1, bits, port)
    assert fadt[128] == 6


def test_the_dsdt_says_sleep_type_0_is_off(bus):
    dsdt = table_at(bus, int.from_bytes(tables(bus)[b"FACP"][40:44], "little"))
    at = dsdt.index(b"_S5_")
    assert dsdt[at - 1] == 0x08  # NameOp
    assert dsdt[at + 4] == 0x12  # PackageOp
    length, count = dsdt[at + 5], dsdt[at + 6]
    assert at + 5 + length == len(dsdt)
    assert (count, dsdt[at + 7 : at + 9]) == (4, b"\0\0")


def test_the_madt_lists_cpus_ioapic_and_overrides(bus):
    madt = tables(bus)[b"APIC"]
    assert struct.unpack_from("<II", madt, 36) == (0xFEE00000, 1)
    entries, at = [], 44
    while at < len(madt):
        kind, size = madt[at], madt[at + 1]
        entries.append((kind, madt[at + 2 : at + size]))
        at += size
    assert at == len(madt)
    cpus = [struct.unpack("<BBI", body) for kind, body in entries if kind == 0]
    assert cpus == [(0, 0, 1), (1, 1, 1), (2, 2, 1)]
    (ioapic,) = (struct.unpack("<BBII", body) for kind, body in entries if kind == 1)
    assert ioapic[2:] == (0xFEC00000, 0)
    overrides = [struct.unpack("<BBIH", body) for kind, body in entries if kind == 2]
    assert (0, 0, 2, 0) in overrides
    assert (0, 9, 9, 0xD) in overrides
    (nmi,) = (struct.unpack("<BHB", body) for kind, body in entries if kind == 4)
    assert nmi == (0xFF, 0, 1)


def test_tables_for_the_largest_machine_stay_in_their_area():
    placed = acpi_tables(255)
    ends = [gpa + len(data) for gpa, data in placed]
    assert max(ends) <= FIRMWARE_TABLES_END
    assert all(end <= gpa for end, (gpa, _) in zip(ends, placed[1:], strict=False))


def test_the_bios_data_area_names_com1_and_the_ebda(bus):
    assert bus.load(0x400, 16) == 0x3F8
    assert bus.load(0x40E, 16) << 4 == 0x9FC00
    assert bus.load(0x413, 16) == 639
