"""VM-entry checks on the guest's segment and descriptor-table registers.

Source: SDM 3C, Checks on Guest Segment Registers; Checks on Guest Descriptor-Table Registers.
Outside virtual-8086 mode a rule speaks of CS and of every other register that is usable.
"""

from collections.abc import Callable

from vtx.isa.builder import Value
from vtx.vmx.checks import View, canonical, check, has, high_half_zero, implies

_DATA = ("SS", "DS", "ES", "FS", "GS")
_PLAIN_DATA = ("DS", "ES", "FS", "GS")
_ALL = ("CS", *_DATA)
_UNRESTRICTED, _IA32E = "sec.UNRESTRICTED_GUEST", "entry.IA32E_MODE_GUEST"
_RESERVED_RIGHTS = 0xFFFE_0F00
_V86_RIGHTS = 0xF3


def _rights(v: View, name: str) -> Value:
    return v[f"GUEST_{name}_ACCESS_RIGHTS"]


def _kind(v: View, name: str) -> Value:
    return _rights(v, name) & 0xF


def _dpl(v: View, name: str) -> Value:
    return _rights(v, name).bits(6, 5)


def _rpl(v: View, name: str) -> Value:
    return (v[f"GUEST_{name}_SELECTOR"] & 3).zext(32)


def _usable(v: View, name: str) -> Value:
    return ~_rights(v, name).bit(16)


def _v86(v: View) -> Value:
    return v["GUEST_RFLAGS"].bit(17)


def _counts(v: View, name: str) -> Value:
    """The rules of protected mode apply to the register."""
    usable = v.b.const(1, 1) if name == "CS" else _usable(v, name)
    return usable & ~_v86(v)


def _every(v: View, names: tuple[str, ...], legal: Callable[[str], Value]) -> Value:
    return v.b.all_of(*(implies(_counts(v, name), legal(name)) for name in names))


def _granularity(v: View, name: str) -> Value:
    """G agrees with the limit."""
    limit, g = v[f"GUEST_{name}_LIMIT"], _rights(v, name).bit(15)
    needs_bytes, needs_pages = (limit & 0xFFF) != 0xFFF, (limit >> 20) != 0
    return implies(needs_bytes, ~g) & implies(needs_pages, g)


# --- selectors and bases ---------------------------------------------------------------------


@check("guest.tr-selector-ti")
def tr_selector_ti(v: View) -> Value:
    return ~v["GUEST_TR_SELECTOR"].bit(2)


@check("guest.ldtr-selector-ti")
def ldtr_selector_ti(v: View) -> Value:
    return implies(_usable(v, "LDTR"), ~v["GUEST_LDTR_SELECTOR"].bit(2))


@check("guest.ss-selector-rpl")
def ss_selector_rpl(v: View) -> Value:
    free = _v86(v) | has(v, _UNRESTRICTED)
    return free | (_rpl(v, "SS") == _rpl(v, "CS"))


@check("guest.v86-base")
def v86_base(v: View) -> Value:
    legal = (v[f"GUEST_{n}_BASE"] == v[f"GUEST_{n}_SELECTOR"].zext(64) << 4 for n in _ALL)
    return implies(_v86(v), v.b.all_of(*legal))


@check("guest.v86-limit")
def v86_limit(v: View) -> Value:
    legal = (v[f"GUEST_{name}_LIMIT"] == 0xFFFF for name in _ALL)
    return implies(_v86(v), v.b.all_of(*legal))


@check("guest.v86-access-rights")
def v86_access_rights(v: View) -> Value:
    return implies(_v86(v), v.b.all_of(*(_rights(v, name) == _V86_RIGHTS for name in _ALL)))


@check("guest.tr-base-canonical")
def tr_base_canonical(v: View) -> Value:
    return canonical(v["GUEST_TR_BASE"])


@check("guest.fs-base-canonical")
def fs_base_canonical(v: View) -> Value:
    return canonical(v["GUEST_FS_BASE"])


@check("guest.gs-base-canonical")
def gs_base_canonical(v: View) -> Value:
    return canonical(v["GUEST_GS_BASE"])


@check("guest.ldtr-base-canonical")
def ldtr_base_canonical(v: View) -> Value:
    return implies(_usable(v, "LDTR"), canonical(v["GUEST_LDTR_BASE"]))


@check("guest.cs-base-high")
def cs_base_high(v: View) -> Value:
    return high_half_zero(v["GUEST_CS_BASE"])


@check("guest.ss-base-high")
def ss_base_high(v: View) -> Value:
    return implies(_usable(v, "SS"), high_half_zero(v["GUEST_SS_BASE"]))


@check("guest.ds-base-high")
def ds_base_high(v: View) -> Value:
    return implies(_usable(v, "DS"), high_half_zero(v["GUEST_DS_BASE"]))


@check("guest.es-base-high")
def es_base_high(v: View) -> Value:
    return implies(_usable(v, "ES"), high_half_zero(v["GUEST_ES_BASE"]))


# --- access rights ---------------------------------------------------------------------------


@check("guest.cs-type")
def cs_type(v: View) -> Value:
    kind = _kind(v, "CS")
    accessed_code = (kind & 9) == 9
    return _v86(v) | accessed_code | ((kind == 3) & has(v, _UNRESTRICTED))


@check("guest.ss-type")
def ss_type(v: View) -> Value:
    return _every(v, ("SS",), lambda name: (_kind(v, name) & 0xB) == 3)


@check("guest.data-type")
def data_type(v: View) -> Value:
    def legal(name: str) -> Value:
        kind = _kind(v, name)
        return kind.bit(0) & implies(kind.bit(3), kind.bit(1))

    return _every(v, _PLAIN_DATA, legal)


@check("guest.segment-s")
def segment_s(v: View) -> Value:
    return _every(v, _ALL, lambda name: _rights(v, name).bit(4))


@check("guest.cs-dpl")
def cs_dpl(v: View) -> Value:
    kind, dpl, stack = _kind(v, "CS"), _dpl(v, "CS"), _dpl(v, "SS")
    legal = v.b.all_of(
        implies(kind == 3, dpl == 0),
        implies((kind & 0xD) == 9, dpl == stack),
        implies((kind & 0xD) == 13, dpl.ule(stack)),
    )
    return _v86(v) | legal


@check("guest.ss-dpl-rpl")
def ss_dpl_rpl(v: View) -> Value:
    return v.b.any_of(_v86(v), has(v, _UNRESTRICTED), _dpl(v, "SS") == _rpl(v, "SS"))


@check("guest.ss-dpl-real")
def ss_dpl_real(v: View) -> Value:
    real = (_kind(v, "CS") == 3) | ~v["GUEST_CR0"].bit(0)
    return _v86(v) | implies(real, _dpl(v, "SS") == 0)


@check("guest.data-dpl")
def data_dpl(v: View) -> Value:
    def legal(name: str) -> Value:
        conforming = (_kind(v, name) & 0xC) == 0xC
        return conforming | _rpl(v, name).ule(_dpl(v, name))

    return has(v, _UNRESTRICTED) | _every(v, _PLAIN_DATA, legal)


@check("guest.segment-present")
def segment_present(v: View) -> Value:
    return _every(v, _ALL, lambda name: _rights(v, name).bit(7))


@check("guest.segment-reserved")
def segment_reserved(v: View) -> Value:
    return _every(v, _ALL, lambda name: (_rights(v, name) & _RESERVED_RIGHTS) == 0)


@check("guest.cs-db-l")
def cs_db_l(v: View) -> Value:
    long_code = has(v, _IA32E) & _rights(v, "CS").bit(13)
    return _v86(v) | implies(long_code, ~_rights(v, "CS").bit(14))


@check("guest.segment-granularity")
def segment_granularity(v: View) -> Value:
    return _every(v, _ALL, lambda name: _granularity(v, name))


# --- TR, LDTR, GDTR, IDTR --------------------------------------------------------------------


@check("guest.tr-type")
def tr_type(v: View) -> Value:
    kind = _kind(v, "TR")
    return (kind == 11) | ((kind == 3) & ~has(v, _IA32E))


def _system_segment(v: View, name: str) -> Value:
    """Present, S 0, reserved bits 0, G agreeing with the limit."""
    rights = _rights(v, name)
    clean = (rights & _RESERVED_RIGHTS) == 0
    return v.b.all_of(rights.bit(7), ~rights.bit(4), clean, _granularity(v, name))


@check("guest.tr-access-rights")
def tr_access_rights(v: View) -> Value:
    return _usable(v, "TR") & _system_segment(v, "TR")


@check("guest.ldtr-access-rights")
def ldtr_access_rights(v: View) -> Value:
    legal = (_kind(v, "LDTR") == 2) & _system_segment(v, "LDTR")
    return implies(_usable(v, "LDTR"), legal)


@check("guest.gdtr-base-canonical")
def gdtr_base_canonical(v: View) -> Value:
    return canonical(v["GUEST_GDTR_BASE"])


@check("guest.idtr-base-canonical")
def idtr_base_canonical(v: View) -> Value:
    return canonical(v["GUEST_IDTR_BASE"])


@check("guest.gdtr-limit")
def gdtr_limit(v: View) -> Value:
    return (v["GUEST_GDTR_LIMIT"] >> 16) == 0


@check("guest.idtr-limit")
def idtr_limit(v: View) -> Value:
    return (v["GUEST_IDTR_LIMIT"] >> 16) == 0
