"""Wires tell changes only; shared lines are high while any input is."""

from vtx.machine.devices.lines import SharedLine, Wire


def test_a_wire_tells_each_change_once():
    levels = []
    wire = Wire(levels.append)
    for level in (False, True, True, False):
        wire.set(level)

    assert levels == [True, False]


def test_a_shared_line_is_high_while_any_input_is():
    wire, inputs = Wire(), []
    first, second = SharedLine(wire, inputs), SharedLine(wire, inputs)
    first.set(True)
    second.set(True)
    first.set(False)
    assert wire.level
    second.set(False)
    assert not wire.level
