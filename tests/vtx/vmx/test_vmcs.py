"""The VMCS region: every field has a place, an access of its width, and two ways in."""

from itertools import pairwise

from tests.vtx.engines import EVERY_ENGINE
from tests.vtx.vmx.bench import VMCS, Bench
from vtx.isa.tables import table
from vtx.spec import VmcsField, fields, profiles
from vtx.vmx.capability import allowed_controls
from vtx.vmx.vmcs import OFFSETS, REGION_SIZE

PATTERN = 0xFEDC_BA98_7654_3210


def existing() -> list[VmcsField]:
    return [row for row in fields() if row.exists(allowed_controls(profiles()[0]))]


def test_no_two_fields_share_a_place() -> None:
    offsets = sorted(OFFSETS.values())
    assert all(b - a >= 8 for a, b in pairwise(offsets))
    assert offsets[0] >= 16
    assert offsets[-1] + 8 <= REGION_SIZE


@EVERY_ENGINE
def test_every_writable_field_reads_back_cut_to_its_width(engine: str) -> None:
    bench = Bench(engine)
    rows = [row for row in existing() if not row.read_only]
    assert len(rows) > 100
    for n, row in enumerate(rows):
        assert bench.call("vmx_vmwrite", row.encoding, PATTERN + n) == (0,)
    for n, row in enumerate(rows):
        assert bench.call("vmx_vmread", row.encoding) == ((PATTERN + n) & row.mask, 0), row.name


@EVERY_ENGINE
def test_high_access_reaches_bits_63_to_32_alone(engine: str) -> None:
    bench = Bench(engine)
    for row in existing():
        if row.high_encoding is None or row.read_only:
            continue
        bench.vmwrite(row.name, PATTERN)
        assert bench.call("vmx_vmread", row.high_encoding) == (PATTERN >> 32, 0)
        assert bench.call("vmx_vmwrite", row.high_encoding, 0xFFFF_FFFF_0000_0001) == (0,)
        assert bench.vmread(row.name) == 1 << 32 | PATTERN & 0xFFFF_FFFF


@EVERY_ENGINE
def test_a_field_whose_control_is_not_built_does_not_exist(engine: str) -> None:
    bench = Bench(engine)
    absent = [row for row in fields() if row not in existing()]
    assert absent
    for row in absent:
        assert bench.call("vmx_vmread", row.encoding) == (0, 2)
        assert bench.error == 12


@EVERY_ENGINE
def test_vmread_writes_nothing_but_the_error_of_a_failure(engine: str) -> None:
    bench = Bench(engine)
    before = bench.cpu.bus.read_bytes(VMCS, REGION_SIZE)
    for row in existing():
        bench.call("vmx_vmread", row.encoding)
    assert bench.cpu.bus.read_bytes(VMCS, REGION_SIZE) == before


def test_the_table_knows_each_encoding_once_per_profile() -> None:
    known = table("vmcs_fields")
    for number, profile in enumerate(profiles()):
        rows = [row for row in fields() if row.exists(allowed_controls(profile))]
        encodings = sum(1 + (row.high_encoding is not None) for row in rows)
        assert sum(key >> 16 == number for key in known) == encodings
