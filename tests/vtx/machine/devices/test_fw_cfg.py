"""fw_cfg: items by selector, byte by byte, and the file directory."""

import struct

from vtx.machine.devices.fw_cfg import FwCfg


def read(device, key, count):
    device.port_out(0x510, 16, key)
    return bytes(device.port_in(0x511, 8) for _ in range(count))


def test_well_known_items_tell_signature_ram_and_cpus():
    device = FwCfg(ram_size=0x1_2345_6000, cpu_count=3)

    assert read(device, 0x00, 6) == b"QEMU\0\0"
    assert read(device, 0x01, 4) == b"\x01\0\0\0"
    assert int.from_bytes(read(device, 0x03, 8), "little") == 0x1_2345_6000
    assert int.from_bytes(read(device, 0x05, 2), "little") == 3


def test_selecting_again_starts_over_and_unknown_keys_are_zero():
    device = FwCfg(ram_size=1 << 20, cpu_count=1)
    assert read(device, 0x00, 2) == b"QE"
    assert read(device, 0x00, 2) == b"QE"
    assert read(device, 0x1234, 3) == bytes(3)


def test_the_directory_names_files_and_where_to_select_them():
    device = FwCfg(ram_size=1 << 20, cpu_count=1)
    assert read(device, 0x19, 4) == bytes(4)
    device.add_file("opt/b", b"bee")
    device.add_file("opt/a", b"ay")

    count = int.from_bytes(read(device, 0x19, 4), "big")
    directory = read(device, 0x19, 4 + 64 * count)
    files = {}
    for index in range(count):
        size, key, _, name = struct.unpack_from(">IHH56s", directory, 4 + 64 * index)
        files[name.rstrip(b"\0")] = read(device, key, size)
    assert files == {b"opt/a": b"ay", b"opt/b": b"bee"}
