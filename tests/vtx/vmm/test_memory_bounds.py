"""What the native engine remembers does not grow with the instructions it executes."""

import pytest

from asm import assemble_file
from tests.vtx.engines import NEEDS_NATIVE
from vtx.bench.guests import guests_directory
from vtx.engine.native.engine import Native
from vtx.vmm.launch import RunOptions, launch
from vtx.vmm.session import BareSession
from vtx.vmm.virtual import VirtualSession

EARLY, LATE = 200_000, 1_000_000


def sizes(engine: Native) -> dict[str, int]:
    """Entries of everything that is filled while a guest runs, and bytes of code."""
    translations, spaces = engine._translations, list(engine._tlb.spaces())
    return {
        "code": engine._arena.used,
        "places": len(translations._blocks),
        "entries": len(translations._entries),
        "pages of code": len(translations._of_page),
        "links": len(engine._writer.links),
        "watched pages": len(engine.cpu.code.pages),
        "jump caches": len(engine._caches._caches),
        "keys": len(engine._keys),
        "spaces": len(spaces),
        "pages": sum(len(pages) for space in spaces for pages in space.maps()),
        "in Python": len(engine._blocks),
    }


@NEEDS_NATIVE
@pytest.mark.parametrize("style", ["bare", "ept"])
@pytest.mark.parametrize("kernel", ["switch", "syscall", "churn"])
def test_nothing_grows_once_the_guest_repeats_itself(kernel: str, style: str) -> None:
    source = guests_directory() / "bench" / f"{kernel}.s"
    elf = assemble_file(source, include=[guests_directory() / "include"]).elf()
    options = RunOptions(
        image=elf, image_name=kernel, style=style, engine="native", append="2000000000"
    )
    session = launch(options).session
    assert isinstance(session, BareSession | VirtualSession)
    engine = session.engine if isinstance(session, BareSession) else session.vmm.port.engine
    assert isinstance(engine, Native)

    assert session.run(EARLY) is None
    early = sizes(engine)
    assert session.run(LATE) is None
    late = sizes(engine)

    assert late["places"] > 0
    for name, count in early.items():
        assert late[name] <= count + count // 4 + 16, name
