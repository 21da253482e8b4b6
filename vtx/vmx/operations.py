"""What the VMX instructions do, as routines: operands in, status out (vtx.vmx.status).

The instructions' semantics call these and turn the status into flags; a VMM in Python calls
the same ones through the executor. Exceptions and the VM exits of the instructions are not
known here. Source: SDM 3C, VMX Instruction Reference, the instruction's own page.
"""

from vtx.isa.builder import Builder, Value, routine_
from vtx.isa.key import VMX_OFF, VMX_ROOT
from vtx.isa.program import Flush, Service
from vtx.machine.paging import MAXPHYADDR
from vtx.spec import CONTROLS, MSRS
from vtx.vmx import status
from vtx.vmx.capability import PROFILE_SHIFT, REVISION, VMWRITE_ANY, capability
from vtx.vmx.vmcs import (
    DESCRIPTOR_16,
    DESCRIPTOR_32,
    DESCRIPTOR_HIGH,
    DESCRIPTOR_OFFSET,
    DESCRIPTOR_READ_ONLY,
    ENCODING_BITS,
    FIELD_TABLE,
    LAUNCH_CLEAR,
    NO_VMCS,
    SHADOW_INDICATOR,
    write_launch_state,
)

assert ENCODING_BITS == PROFILE_SHIFT
_PAGE_OFFSET = 0xFFF
_BEYOND = ~((1 << MAXPHYADDR) - 1) & ((1 << 64) - 1)
_LOW_HALF = (1 << 32) - 1
INVEPT_SINGLE, INVEPT_ALL = 1, 2
INVVPID_ADDRESS, INVVPID_SINGLE, INVVPID_ALL, INVVPID_RETAIN_GLOBALS = range(4)
_CAP_INVEPT, _CAP_INVVPID = 1 << 20, 1 << 32
VMCS_SHADOWING = CONTROLS.VMCS_SHADOWING.mask


def _return(b: Builder, code: int) -> None:
    b.return_(b.const(8, code))


def _fail_if(b: Builder, condition: Value, error: int) -> None:
    with b.if_(condition):
        b.return_(status.fail_valid(b, error))


def bad_pointer(pointer: Value) -> Value:
    """Not the address of a 4 KiB region within the physical-address width (1 bit)."""
    return (pointer & (_BEYOND | _PAGE_OFFSET)) != 0


# --- VMX operation and the current VMCS ------------------------------------------------------


@routine_(64, results=(8,))
def vmx_vmxon(b: Builder, region: Value) -> None:
    """Enter VMX root operation with the VMXON region at physical address `region`."""
    with b.if_(b.get("vmx") != VMX_OFF):
        b.return_(status.fail_valid(b, status.VMXON_IN_ROOT))
    with b.if_(bad_pointer(region)):
        _return(b, status.FAIL_INVALID)
    with b.if_(b.load_physical(32, region) != REVISION):
        _return(b, status.FAIL_INVALID)
    b.put("vmxon_pointer", region)
    b.put("vmcs_pointer", NO_VMCS)
    b.put("vmx", VMX_ROOT)
    b.service(Service.CONTEXT)
    b.resync()
    _return(b, status.SUCCEED)


@routine_(results=(8,))
def vmx_vmxoff(b: Builder) -> None:
    """Leave VMX operation."""
    b.put("vmx", VMX_OFF)
    b.service(Service.CONTEXT)
    b.resync()
    _return(b, status.SUCCEED)


@routine_(64, results=(8,))
def vmx_vmclear(b: Builder, region: Value) -> None:
    """Make the VMCS at `region` inactive and its launch state clear."""
    _fail_if(b, bad_pointer(region), status.VMCLEAR_ADDRESS)
    _fail_if(b, region == b.get("vmxon_pointer"), status.VMCLEAR_VMXON_POINTER)
    write_launch_state(b, region, LAUNCH_CLEAR)
    with b.if_(region == b.get("vmcs_pointer")):
        b.put("vmcs_pointer", NO_VMCS)
    _return(b, status.SUCCEED)


@routine_(64, results=(8,))
def vmx_vmptrld(b: Builder, region: Value) -> None:
    """Make the VMCS at `region` current."""
    _fail_if(b, bad_pointer(region), status.VMPTRLD_ADDRESS)
    _fail_if(b, region == b.get("vmxon_pointer"), status.VMPTRLD_VMXON_POINTER)
    # Without VMCS shadowing the shadow indicator must be 0 like the rest of a wrong revision.
    shadowing = ((capability(b, MSRS.IA32_VMX_PROCBASED_CTLS2) >> 32) & VMCS_SHADOWING) != 0
    ignored = shadowing.select(b.const(32, SHADOW_INDICATOR), b.const(32, 0))
    revision = b.load_physical(32, region) & ~ignored
    _fail_if(b, revision != REVISION, status.VMPTRLD_REVISION)
    b.put("vmcs_pointer", region)
    _return(b, status.SUCCEED)


@routine_(results=(64,))
def vmx_vmptrst(b: Builder) -> None:
    """The current-VMCS pointer; all ones when there is none."""
    b.return_(b.get("vmcs_pointer"))


# --- fields ----------------------------------------------------------------------------------


def field_descriptor(b: Builder, encoding: Value) -> Value:
    """What the field table says of an encoding; 0 where the CPU has no such field."""
    key = (b.get("cpu_profile") << PROFILE_SHIFT) | encoding
    known = b.lookup(64, FIELD_TABLE, key, 0)
    return ((encoding >> ENCODING_BITS) == 0).select(known, b.const(64, 0))


def _width_mask(b: Builder, descriptor: Value) -> Value:
    narrow = ((descriptor & DESCRIPTOR_16) != 0).select(b.const(64, 0xFFFF), b.const(64, NO_VMCS))
    return ((descriptor & DESCRIPTOR_32) != 0).select(b.const(64, _LOW_HALF), narrow)


def refuses_write(b: Builder, descriptor: Value) -> Value:
    """The field is VM-exit information, and the CPU does not let that be written (1 bit)."""
    read_only = (descriptor & DESCRIPTOR_READ_ONLY) != 0
    return read_only & ((capability(b, MSRS.IA32_VMX_MISC) & VMWRITE_ANY) == 0)


def read_described(b: Builder, region: Value, descriptor: Value) -> Value:
    """A field of the VMCS at `region`, zero-extended."""
    whole = b.load_physical(64, region + (descriptor & DESCRIPTOR_OFFSET))
    high = (descriptor & DESCRIPTOR_HIGH) != 0
    return high.select(whole >> 32, whole & _width_mask(b, descriptor))


def write_described(b: Builder, region: Value, descriptor: Value, value: Value) -> None:
    """Write a field of the VMCS at `region`, cut to its width."""
    place = region + (descriptor & DESCRIPTOR_OFFSET)
    with b.if_((descriptor & DESCRIPTOR_HIGH) != 0):
        b.store_physical(place + 4, value.trunc(32))
    with b.else_():
        b.store_physical(place, value & _width_mask(b, descriptor))


@routine_(64, results=(64, 8))
def vmx_vmread(b: Builder, encoding: Value) -> None:
    """Value of the field `encoding` of the current VMCS, zero-extended, and the status."""
    none = b.const(64, 0)
    pointer = b.get("vmcs_pointer")
    with b.if_(pointer == NO_VMCS):
        b.return_(none, b.const(8, status.FAIL_INVALID))
    descriptor = field_descriptor(b, encoding)
    with b.if_(descriptor == 0):
        b.return_(none, status.fail_valid(b, status.UNSUPPORTED_FIELD))
    b.return_(read_described(b, pointer, descriptor), b.const(8, status.SUCCEED))


@routine_(64, 64, results=(8,))
def vmx_vmwrite(b: Builder, encoding: Value, value: Value) -> None:
    """Write `value`, cut to the field's width, to the field `encoding` of the current VMCS."""
    pointer = b.get("vmcs_pointer")
    with b.if_(pointer == NO_VMCS):
        _return(b, status.FAIL_INVALID)
    descriptor = field_descriptor(b, encoding)
    _fail_if(b, descriptor == 0, status.UNSUPPORTED_FIELD)
    _fail_if(b, refuses_write(b, descriptor), status.READ_ONLY_FIELD)
    write_described(b, pointer, descriptor, value)
    _return(b, status.SUCCEED)


# --- entries ---------------------------------------------------------------------------------


@routine_(8, results=(8,))
def vmx_enter(b: Builder, launch: Value) -> None:
    """VM entry as VMLAUNCH (`launch` 1) or VMRESUME (0) makes it: see vm_entry."""
    b.return_(*b.call("vm_entry", launch))


@routine_(64, results=(64,))
def vmx_capability_msr(b: Builder, index: Value) -> None:
    """Value of the VMX capability MSR `index` on this CPU; 0 where it has none."""
    b.return_(capability(b, index))


# --- invalidation ----------------------------------------------------------------------------


@routine_(64, 64, 64, results=(8,))
def vmx_invept(b: Builder, kind: Value, eptp: Value, reserved: Value) -> None:
    """INVEPT of type `kind` with the descriptor's two halves."""
    has = (capability(b, MSRS.IA32_VMX_EPT_VPID_CAP) & _CAP_INVEPT) != 0
    single = kind == INVEPT_SINGLE
    legal = has & (single | (kind == INVEPT_ALL)) & (reserved == 0)
    _fail_if(b, ~legal, status.INVALID_INVALIDATION)
    _fail_if(b, single & bad_eptp(b, eptp), status.INVALID_INVALIDATION)
    with b.if_(single):
        b.service(Service.FLUSH_TLB, Flush.EPT, eptp, 0)
    with b.else_():
        b.service(Service.FLUSH_TLB, Flush.ALL_EPT, 0, 0)
    _return(b, status.SUCCEED)


def bad_eptp(b: Builder, eptp: Value) -> Value:
    """EPTP value with which VM entry would fail (SDM 3C, VM-Execution Control Fields)."""
    memory_type = eptp & 7
    reserved = _BEYOND | 0xF80
    return b.any_of(
        (memory_type != 0) & (memory_type != 6), eptp.bits(5, 3) != 3, (eptp & reserved) != 0
    )


@routine_(64, 64, 64, results=(8,))
def vmx_invvpid(b: Builder, kind: Value, first: Value, gva: Value) -> None:
    """INVVPID of type `kind`; `first` is the descriptor's low half (VPID in bits 15:0)."""
    has = (capability(b, MSRS.IA32_VMX_EPT_VPID_CAP) & _CAP_INVVPID) != 0
    every = kind == INVVPID_ALL
    address = kind == INVVPID_ADDRESS
    vpid = first & 0xFFFF
    top = gva.sar(47)
    canonical = (top == 0) | (top == NO_VMCS)
    illegal = b.any_of(
        ~has,
        b.const(64, INVVPID_RETAIN_GLOBALS).ult(kind),
        (first >> 16) != 0,
        ~every & (vpid == 0),
        address & ~canonical,
    )
    _fail_if(b, illegal, status.INVALID_INVALIDATION)
    with b.if_(address):
        b.service(Service.FLUSH_TLB, Flush.VPID_PAGE, vpid, gva)
    with b.if_(kind == INVVPID_SINGLE):
        b.service(Service.FLUSH_TLB, Flush.VPID, vpid, 0)
    with b.if_(kind == INVVPID_RETAIN_GLOBALS):
        b.service(Service.FLUSH_TLB, Flush.VPID_LOCAL, vpid, 0)
    with b.if_(every):
        b.service(Service.FLUSH_TLB, Flush.ALL_VPIDS, 0, 0)
    _return(b, status.SUCCEED)
