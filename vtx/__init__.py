"""vtx: a deterministic x86-64 computer with Intel VT-x.

`vtx.explain(vmcs)` says which VM-entry rules a VMCS breaks; `vtx.vmm.launch` runs guests.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vtx.vmx.explain import BrokenCheck


def explain(
    vmcs: Mapping[str | int, int],
    *,
    profile: str = "haswell",
    efer: int = 0x500,
    vmcs_pointer: int | None = None,
    memory: Callable[[int, int], int] | Mapping[int, bytes] | None = None,
) -> "tuple[BrokenCheck, ...]":
    """Every VM-entry rule that these VMCS fields break, in the order of the manual.

    `vmcs` has values by field name or encoding; see `vtx.vmx.explain.explain` for the rest.
    """
    from vtx.vmx.explain import explain  # not before it is asked for: it is half the machine

    return explain(vmcs, profile=profile, efer=efer, vmcs_pointer=vmcs_pointer, memory=memory)
