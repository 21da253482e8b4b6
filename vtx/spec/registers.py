"""Bits of the system registers as masks by name: `CR0.PG == 0x8000_0000`.

Must not know what any bit does.
"""

from collections.abc import Mapping

from vtx.spec.features import profiles
from vtx.spec.tables import Names, read_table


def _masks(register: str) -> Mapping[str, int]:
    return {name: 1 << bit for name, bit in read_table("registers")[register].items()}


def _names(register: str) -> Names[int]:
    return Names(f"{register} bit", lambda: _masks(register))


CR0, CR4, EFER, RFLAGS = _names("CR0"), _names("CR4"), _names("EFER"), _names("RFLAGS")
DR6, DR7 = _names("DR6"), _names("DR7")
ACCESS_RIGHTS = _names("ACCESS_RIGHTS")

(MAXPHYADDR,) = {profile.maxphyaddr for profile in profiles()}
"""Physical-address width of the modelled processors, in bits; all profiles agree."""
