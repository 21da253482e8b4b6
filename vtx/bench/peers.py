"""The peers that this machine has, and why others are not among them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vtx.bench.bochs import Bochs, bochs_problem
from vtx.bench.clock import WALL, Clock
from vtx.bench.contestant import Contestant
from vtx.bench.host import Host, host_problem
from vtx.bench.qemu import Qemu, qemu_problem
from vtx.bench.unicorn import Unicorn, unicorn_problem

_KNOWN: dict[str, tuple[Callable[[], str | None], Callable[[bytes, Clock], Contestant]]] = {
    "unicorn": (unicorn_problem, lambda _, clock: Unicorn(clock)),
    "qemu": (qemu_problem, lambda _, clock: Qemu(clock)),
    "bochs": (bochs_problem, Bochs),
    "host": (host_problem, lambda _, clock: Host(clock)),
}
PEERS = tuple(_KNOWN)


@dataclass(frozen=True)
class Peers:
    """Contestants that are here, and for every other the reason why not."""

    present: tuple[Contestant, ...]
    absent: dict[str, str]


def find_peers(names: Sequence[str], boot_sector: bytes, clock: Clock = WALL) -> Peers:
    """Look for the peers called `names`, each one of PEERS.

    `boot_sector` is the assembled guests/bench/bootsector.s, for those who boot from a disk.
    """
    problems = {name: _KNOWN[name][0]() for name in names}
    present = tuple(
        _KNOWN[name][1](boot_sector, clock) for name, problem in problems.items() if problem is None
    )
    return Peers(present, {name: why for name, why in problems.items() if why is not None})
