"""Who takes part: vtx in its styles, its special cases, and the peers."""

from collections.abc import Sequence

from vtx.bench.clock import WALL, Clock
from vtx.bench.cold import Cold
from vtx.bench.contestant import Contestant
from vtx.bench.machine import Machine
from vtx.bench.port import PortMachine
from vtx.bench.suite import Images


def vtx_contestants(
    styles: Sequence[str], engine: str, images: Images, clock: Clock = WALL
) -> list[Contestant]:
    """vtx on one engine. `images` has every variant of every kernel that is to run."""
    found: list[Contestant] = [Machine(style, engine, clock) for style in styles]
    found += [Cold(style, engine, "primed", images, clock) for style in styles]
    if engine == "native":  # others keep nothing between processes
        found += [Cold(styles[0], engine, state, images, clock) for state in ("empty", "second")]
    if "ept" in styles:
        found.append(PortMachine(engine, clock))
    return found
