"""Shadow paging."""

from vtx.vmm.base import Vmm


class Shadow(Vmm):
    """Shadow paging."""

    name = "shadow"
