"""VMCS shadowing: VMREAD and VMWRITE of a guest, made in the VMCS that the link pointer names.

A field's encoding bits 14:0 are its bit in the VMREAD and VMWRITE bitmaps; a bit that is 1, and
an encoding with higher bits, exits. The shadow VMCS has the format of any other.
Source: SDM 3C, VMREAD; VMWRITE; VMCS Shadowing Bitmap Addresses; Shadow and Ordinary VMCSs.
"""

from vtx.isa.builder import Builder, Value, routine_
from vtx.vmx import status
from vtx.vmx.operations import field_descriptor, read_described, refuses_write, write_described
from vtx.vmx.vmcs import NO_VMCS, OFFSETS, read_field

BITMAP_BITS = 15


@routine_(64, 1, results=(1,))
def shadow_access_exits(b: Builder, encoding: Value, writes: Value) -> None:
    """Whether the bitmaps make VMREAD (`writes` 0) or VMWRITE of this field exit."""
    with b.if_((encoding >> BITMAP_BITS) != 0):
        b.return_(b.const(1, 1))
    read, write = read_field(b, "VMREAD_BITMAP_ADDR"), read_field(b, "VMWRITE_BITMAP_ADDR")
    byte = b.load_physical(8, writes.select(write, read) + (encoding >> 3))
    b.return_((byte >> (encoding.trunc(8) & 7)).bit(0))


def _fail(b: Builder, shadow: Value, error: int) -> Value:
    """VMfailValid: the error number is the shadow VMCS's."""
    b.store_physical(shadow + OFFSETS["VM_INSTRUCTION_ERROR"], b.const(64, error))
    return b.const(8, status.FAIL_VALID)


@routine_(64, results=(64, 8))
def shadow_vmread(b: Builder, encoding: Value) -> None:
    """Value of a field of the shadow VMCS, zero-extended, and the status."""
    none, shadow = b.const(64, 0), read_field(b, "VMCS_LINK_POINTER")
    with b.if_(shadow == NO_VMCS):
        b.return_(none, b.const(8, status.FAIL_INVALID))
    descriptor = field_descriptor(b, encoding)
    with b.if_(descriptor == 0):
        b.return_(none, _fail(b, shadow, status.UNSUPPORTED_FIELD))
    b.return_(read_described(b, shadow, descriptor), b.const(8, status.SUCCEED))


@routine_(64, 64, results=(8,))
def shadow_vmwrite(b: Builder, encoding: Value, value: Value) -> None:
    """Write a field of the shadow VMCS; the status."""
    shadow = read_field(b, "VMCS_LINK_POINTER")
    with b.if_(shadow == NO_VMCS):
        b.return_(b.const(8, status.FAIL_INVALID))
    descriptor = field_descriptor(b, encoding)
    with b.if_(descriptor == 0):
        b.return_(_fail(b, shadow, status.UNSUPPORTED_FIELD))
    with b.if_(refuses_write(b, descriptor)):
        b.return_(_fail(b, shadow, status.READ_ONLY_FIELD))
    write_described(b, shadow, descriptor, value)
    b.return_(b.const(8, status.SUCCEED))
