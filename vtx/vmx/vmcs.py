"""The VMCS region: where in its 4096 bytes each field lives, and access to fields by name.

The format is this machine's own (SDM 3C, Format of the VMCS Region, fixes only the first eight
bytes): revision identifier and shadow-VMCS indicator, VMX-abort indicator, launch state, then
eight bytes a field, in order of encoding. Nothing is cached: a region edited by plain stores
while it is current just takes effect. This module must not know what any field means.
"""

from collections.abc import Iterator

from vtx.isa.builder import Builder, Value
from vtx.isa.tables import register_table
from vtx.spec import VmcsField, field, fields, profiles
from vtx.vmx.capability import REGION_SIZE, allowed_controls

NO_VMCS = (1 << 64) - 1
"""The current-VMCS pointer while there is no current VMCS."""

SHADOW_INDICATOR = 1 << 31
ABORT_OFFSET, LAUNCH_OFFSET, _FIRST_FIELD = 4, 8, 16
LAUNCH_CLEAR, LAUNCH_LAUNCHED = 0, 1

OFFSETS: dict[str, int] = {row.name: _FIRST_FIELD + 8 * n for n, row in enumerate(fields())}
"""Field name -> byte offset in the region."""
VMCS_BYTES = _FIRST_FIELD + 8 * len(OFFSETS)
"""Bytes of a region that mean something."""
assert VMCS_BYTES <= REGION_SIZE, "the fields do not fit the region"

# What the table says of an encoding: offset, how the access is made, and how wide it is.
DESCRIPTOR_OFFSET = 0xFFF
DESCRIPTOR_HIGH = 1 << 12
DESCRIPTOR_READ_ONLY = 1 << 13
DESCRIPTOR_32, DESCRIPTOR_16 = 1 << 14, 1 << 15
FIELD_TABLE = "vmcs_fields"
ENCODING_BITS = 16


def _descriptor(row: VmcsField, high: bool) -> int:
    width = {16: DESCRIPTOR_16, 32: DESCRIPTOR_32, 64: 0}[row.bits]
    flags = DESCRIPTOR_HIGH * high | DESCRIPTOR_READ_ONLY * row.read_only
    return OFFSETS[row.name] | width | flags


def _descriptors() -> Iterator[tuple[int, int]]:
    for number, profile in enumerate(profiles()):
        allowed = allowed_controls(profile)
        for row in fields():
            if row.exists(allowed):
                base = number << ENCODING_BITS
                yield base | row.encoding, _descriptor(row, False)
                if row.high_encoding is not None:
                    yield base | row.high_encoding, _descriptor(row, True)


register_table(FIELD_TABLE, lambda: dict(_descriptors()))


def field_place(b: Builder, name: str) -> Value:
    """Physical address of a field of the current VMCS."""
    return b.get("vmcs_pointer") + OFFSETS[name]


def read_field(b: Builder, name: str) -> Value:
    """The field `name` of the current VMCS, in the field's own width."""
    return b.load_physical(field(name).bits, field_place(b, name))


def write_field(b: Builder, name: str, value: Value | int) -> None:
    """Store `value`, cut or zero-extended to the field's width, in the current VMCS."""
    wide = value.to(field(name).bits).zext(64) if isinstance(value, Value) else b.const(64, value)
    b.store_physical(field_place(b, name), wide)


def read_launch_state(b: Builder) -> Value:
    """LAUNCH_CLEAR or LAUNCH_LAUNCHED, of the current VMCS (64 bits)."""
    return b.load_physical(64, b.get("vmcs_pointer") + LAUNCH_OFFSET)


def write_launch_state(b: Builder, region: Value, state: int) -> None:
    """Set the launch state of the VMCS region at physical address `region`."""
    b.store_physical(region + LAUNCH_OFFSET, b.const(64, state))


def write_abort(b: Builder, indicator: int) -> None:
    """Set the VMX-abort indicator of the current VMCS (SDM 3C, VMX Aborts)."""
    b.store_physical(b.get("vmcs_pointer") + ABORT_OFFSET, b.const(32, indicator))
