"""Memory regions and I/O ports do not overlap."""

import itertools

import pytest

from vtx import spec


def test_regions_follow_each_other_without_gap_or_overlap():
    rows = spec.regions()
    assert rows[0].start == 0
    for before, after in itertools.pairwise(rows):
        assert after.start == before.end + 1


def test_well_known_places():
    assert spec.region("lapic").start == 0xFEE00000
    assert spec.region("ioapic").start == 0xFEC00000
    assert spec.region("pci_hole").start == 3 << 30
    assert (spec.port_range("com1").first, spec.port_range("com1").irq) == (0x3F8, 4)


def test_ports_do_not_overlap():
    taken = [port for row in spec.port_ranges() for port in range(row.first, row.last + 1)]
    assert len(taken) == len(set(taken))


def test_an_unknown_place_is_refused():
    with pytest.raises(spec.SpecError, match="did you mean com1"):
        spec.port_range("com2")
