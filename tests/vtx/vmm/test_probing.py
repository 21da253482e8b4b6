"""Probes: each retired instruction at a probed place is in the trace once, in every style."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from vtx.engine.choice import native_problem
from vtx.machine.loader.symbols import read_symbols
from vtx.trace import Event, Exit, Probe
from vtx.vmm.launch import RunOptions, launch, run
from vtx.vmm.styles import LaunchError

STYLES = ("bare", "ept", "shadow")
ENGINES = ["reference", "evaluate", *(["native"] if native_problem() is None else [])]
ALIAS = 0x1_0000_0000
TASK_BASE = 0x20_0000
"""Where unpaged32 copies its task, whose segments begin there."""
EXPECTED = [
    "faulting", "string", "no_string", "port_string", "identity", "software", "breakpoint",
    "stepped", "around", "around", "around", "new_space", "in_new_space", "old_space", "twice",
    "alias", "asleep", "last_of_page",
]  # fmt: skip
"""Every place of probed.s, as often as its instruction retires. `undefined` never does."""
SKIPPING = """
from vtx.vmm import Action, Ept, Exit, Skip

class SkipsCpuid(Ept):
    def handle_cpuid(self, exit: Exit) -> Action:
        for name in ("rax", "rbx", "rcx", "rdx"):
            self.port.set_register(name, 0)
        return Skip()
"""

Options = Callable[..., RunOptions]


@pytest.fixture(scope="module")
def image(assemble_source: Callable[[str], bytes]) -> bytes:
    """The guest probed.s."""
    return assemble_source((Path(__file__).parent / "probed.s").read_text())


@pytest.fixture(scope="module")
def alias(image: bytes) -> int:
    """The second address of `twice`."""
    address = read_symbols(image).address_of("twice")
    assert address is not None
    return ALIAS + address


@pytest.fixture(scope="module")
def places(alias: int) -> tuple[str, ...]:
    """Everything there is to probe in probed.s."""
    named = [name for name, _ in groupby(EXPECTED) if name != "alias"]
    return (*named, "undefined", f"{alias:#x}")


def traced(options: RunOptions) -> list[Event]:
    """The events of a whole run."""
    events: list[Event] = []
    run(RunOptions(**{**vars(options), "trace": events.append}))
    return events


def probes(options: RunOptions) -> list[Probe]:
    return [event for event in traced(options) if isinstance(event, Probe)]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("style", STYLES)
def test_each_instruction_that_retires_is_told_of_once(
    style: str, engine: str, image: bytes, places: tuple[str, ...], alias: int, options: Options
) -> None:
    found = probes(options(image, style, engine=engine, probes=places))

    assert [hit.symbol for hit in found] == [hex(alias) if n == "alias" else n for n in EXPECTED]


def test_the_hits_are_equal_in_every_style_and_under_both_readers(
    image: bytes, places: tuple[str, ...], options: Options
) -> None:
    first = probes(options(image, "bare", probes=places))

    assert [hit.retired for hit in first] == sorted({hit.retired for hit in first})
    for style in STYLES:
        for engine in ENGINES:
            assert probes(options(image, style, engine=engine, probes=places)) == first


@pytest.mark.parametrize("style", STYLES)
def test_of_two_addresses_of_the_same_code_only_the_probed_one_counts(
    style: str, image: bytes, alias: int, options: Options
) -> None:
    for place, gva in (("twice", alias - ALIAS), (hex(alias), alias)):
        found = probes(options(image, style, probes=(place,)))

        assert [(hit.symbol, hit.rip) for hit in found] == [(place, gva)]


@pytest.mark.parametrize("style", STYLES)
def test_cr3_is_the_guests_own_where_the_instruction_began(
    style: str, image: bytes, options: Options
) -> None:
    wanted = ("identity", "new_space", "in_new_space", "old_space", "asleep")
    found = {hit.symbol: hit.cr3 for hit in probes(options(image, style, probes=wanted))}
    new = read_symbols(image).address_of("pml4")

    assert found["in_new_space"] == found["old_space"] == new
    assert found["identity"] == found["new_space"] == found["asleep"] != new


@pytest.mark.parametrize("style", STYLES)
def test_probes_change_nothing_else(
    style: str, image: bytes, places: tuple[str, ...], options: Options
) -> None:
    plain = traced(options(image, style))
    probed = traced(options(image, style, probes=places))

    assert [event for event in probed if not isinstance(event, Probe)] == plain


@pytest.mark.parametrize("style", STYLES)
def test_running_in_pieces_tells_the_same(
    style: str, image: bytes, places: tuple[str, ...], options: Options
) -> None:
    events: list[Event] = []
    given = options(image, style, probes=places)
    session = launch(options(image, style, probes=places, trace=events.append)).session
    while session.run(session.retired + 3) is None:
        pass

    assert [event for event in events if isinstance(event, Probe)] == probes(given)


@pytest.mark.parametrize("place", ["identity", "software"])
@pytest.mark.parametrize("style", ["ept", "shadow"])
def test_a_hit_that_a_vmm_completed_stands_behind_its_exit(
    style: str, place: str, image: bytes, options: Options
) -> None:
    events = traced(options(image, style, probes=(place,)))
    at = next(n for n, event in enumerate(events) if isinstance(event, Probe))
    exit, hit = events[at - 1], events[at]

    assert isinstance(exit, Exit)
    assert isinstance(hit, Probe)
    assert (exit.rip, exit.retired) == (hit.rip, hit.retired)


def test_an_instruction_that_a_vmm_skips_has_retired(
    image: bytes, places: tuple[str, ...], options: Options, tmp_path: Path
) -> None:
    (tmp_path / "skips.py").write_text(SKIPPING)

    found = probes(options(image, f"{tmp_path / 'skips.py'}:SkipsCpuid", probes=places))

    assert found == probes(options(image, "bare", probes=places))


def test_outside_64_bit_mode_a_place_is_a_linear_address(
    guest_image: Callable[[str], bytes], options: Options
) -> None:
    symbols = read_symbols(guest_image("unpaged32"))
    start, entry = symbols.address_of("task_start"), symbols.address_of("task_entry")
    assert start is not None
    assert entry is not None
    inside = entry - start

    def found(style: str, engine: str) -> list[Probe]:
        limit: Any = {"max_instructions": 6_000, "engine": engine}
        places = ("serial_init", hex(TASK_BASE + inside))
        return probes(options(guest_image("unpaged32"), style, probes=places, **limit))

    first = found("bare", "reference")

    assert [(hit.symbol, hit.rip) for hit in first] == [
        ("serial_init", symbols.address_of("serial_init")),
        (hex(TASK_BASE + inside), inside),
    ]
    assert all(found(style, engine) == first for style in STYLES for engine in ENGINES)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("identiti", "the image has no such symbol; close: identity"),
        ("qqqqqqqqq", "the image has no such symbol"),
        ("0x", "not a number in hex"),
        ("0x1" + 16 * "0", "more than 64 bits"),
    ],
)
@pytest.mark.parametrize("style", STYLES)
def test_a_place_that_does_not_exist_is_refused_in_one_line(
    style: str, text: str, said: str, image: bytes, options: Options
) -> None:
    with pytest.raises(LaunchError) as caught:
        launch(options(image, style, probes=("identity", text), trace=lambda event: None))

    assert str(caught.value) == f"--probe {text}: {said}"
