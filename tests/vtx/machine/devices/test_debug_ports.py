"""debugcon prints and is recognized; debug-exit hands over its value."""

from vtx.machine.devices.debug_ports import DebugConsole, DebugExit


def test_debugcon_prints_bytes_and_reads_its_own_number():
    printed = bytearray()
    console = DebugConsole(printed.extend)
    for byte in b"ok":
        console.port_out(0xE9, 8, byte)

    assert printed == b"ok"
    assert console.port_in(0xE9, 8) == 0xE9


def test_debug_exit_passes_its_value_on():
    values = []
    device = DebugExit(values.append)
    device.port_out(0xF4, 32, 0x12345678)

    assert values == [0x12345678]
    assert device.port_in(0xF4, 8) == 0
