"""`vtx bench`: speeds on this host. Must not know how one measures."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from vtx.cli.assembled import assemble_source
from vtx.cli.errors import InputError, as_input_errors

if TYPE_CHECKING:
    from vtx.bench.kernels import Kernel
    from vtx.bench.reference import Row as ReferenceRow
    from vtx.bench.suite import Effort, Images

STYLES = ("bare", "ept", "shadow")
PEERS = ("unicorn", "qemu", "bochs", "host")


class _NamedAsParent(click.Context):
    """Messages call the command by its group's name, which is what was typed."""

    @property
    def command_path(self) -> str:
        return self.parent.command_path if self.parent else super().command_path


class SuiteCommand(click.Command):
    """The command that runs when no other is named."""

    context_class = _NamedAsParent


class SuiteByDefault(click.Group):
    """`vtx bench reference` is a command of its own; everything else belongs to the suite."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or args[0] not in self.commands:
            args = ["suite", *args]
        return super().parse_args(ctx, args)


@click.group(cls=SuiteByDefault)
def bench() -> None:
    """Measure how fast vtx runs guests on this host."""


class Names(click.ParamType[tuple[str, ...]]):
    """Names with commas between them, each one of a few; `none` where that is allowed."""

    name = "names"

    def __init__(self, known: tuple[str, ...], none: bool = False) -> None:
        self.known, self.none = known, none

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        if self.none and value == "none":
            return ()
        names = tuple(dict.fromkeys(value.split(",")))
        for name in names:
            if name not in self.known:
                more = " or none" if self.none else ""
                self.fail(f"{name!r} is not one of {', '.join(self.known)}{more}", param, ctx)
        return names


@bench.command(name="suite", cls=SuiteCommand)
@click.argument("kernel", nargs=-1)
@click.option(
    "--engine",
    type=click.Choice(["auto", "native", "reference"]),
    default="auto",
    show_default=True,
)
@click.option(
    "--style", "styles", type=Names(STYLES), default=",".join(STYLES), show_default=True,
    metavar="STYLE,...",
)  # fmt: skip
@click.option(
    "--peers", type=Names(PEERS, none=True), default=",".join(PEERS), show_default=True,
    metavar="PEER,...|none", help="Who to compare with, where it is found.",
)  # fmt: skip
@click.option("--rounds", type=click.IntRange(min=1), help="Rounds of all runs.  [default: 5]")
@click.option(
    "--clock", type=click.Choice(["wall", "cpu"]), default="wall", show_default=True,
    help="Time by the clock on the wall, or by CPU time: steadier on a busy host.",
)  # fmt: skip
@click.option("--quick", is_flag=True, help="Short runs and one round: a first impression.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--list", "listing", is_flag=True, help="Show the kernels, and run nothing.")
def suite(
    kernel: tuple[str, ...],
    engine: str,
    styles: tuple[str, ...],
    peers: tuple[str, ...],
    rounds: int | None,
    clock: str,
    quick: bool,
    as_json: bool,
    listing: bool,
) -> None:
    """Run the kernels (all, or each KERNEL) in every style and on the peers of this machine.

    Every kernel runs with few and with many iterations; the difference is what counts. Runs are
    interleaved, and figures are medians over the rounds. `vtx bench reference` compares the
    readers of the reference engine.
    """
    from vtx.bench.kernels import KERNELS, UnknownKernelError, kernels_named

    with as_input_errors(UnknownKernelError):
        kernels = kernels_named(kernel)
    if listing:
        _print_kernels(kernels if kernel else KERNELS, as_json=as_json)
        return
    from vtx.bench.suite import Effort

    effort = Effort(0.1, 1) if quick else Effort()
    effort = Effort(effort.seconds, rounds or effort.rounds)
    _measure_suite(kernels, engine, styles, peers, effort, clock, as_json=as_json)


def _print_kernels(kernels: Sequence[Kernel], *, as_json: bool) -> None:
    from vtx.view.text import Table, json_line, print_table

    if as_json:
        known = [
            {"name": k.name, "kind": k.kind, "styles": k.styles, "title": k.title} for k in kernels
        ]
        click.echo(json_line({"kernels": known}))
        return
    cells = tuple((k.name, k.kind, " ".join(k.styles), k.title) for k in kernels)
    print_table(Table(("kernel", "kind", "styles", "what it does"), cells), sys.stdout)


def _measure_suite(
    kernels: Sequence[Kernel],
    engine: str,
    styles: tuple[str, ...],
    peers: tuple[str, ...],
    effort: Effort,
    clock_name: str,
    *,
    as_json: bool,
) -> None:
    from vtx.bench.clock import CLOCKS
    from vtx.bench.contestants import vtx_contestants
    from vtx.bench.machine import engine_meant
    from vtx.bench.peers import find_peers
    from vtx.bench.suite import run_suite
    from vtx.cli.bench_tables import print_json, print_suite
    from vtx.vmm.styles import LaunchError

    with as_input_errors(LaunchError):
        engine = engine_meant(engine)
    images, boot_sector = _assemble(kernels), _assemble_boot_sector()
    clock = CLOCKS[clock_name]
    found = find_peers(peers, boot_sector, clock)
    contestants = [*vtx_contestants(styles, engine, images, clock), *found.present]
    with _progress() as on_progress:
        done = run_suite(kernels, contestants, images, effort, on_progress)
    if not done.rows:
        raise InputError("nothing to run: " + "; ".join(sorted({why for *_, why in done.skipped})))
    show = print_json if as_json else print_suite
    show(
        done,
        base=styles[0],
        engine=engine,
        clock=clock_name,
        rounds=effort.rounds,
        absent=found.absent,
    )
    problems = [row.problem for row in done.rows if row.problem is not None]
    if len(problems) == len(done.rows):
        raise InputError(problems[0])


def _assemble(kernels: Sequence[Kernel]) -> Images:
    """All variants of the kernels. Raises InputError when the sources are not there."""
    from vtx.bench.guests import NoGuestsError, guests_directory
    from vtx.bench.image import KernelImage

    with as_input_errors(NoGuestsError):
        directory = guests_directory()
    images = {}
    for kernel in kernels:
        for variant, defines in kernel.defines.items():
            path = directory / "bench" / f"{kernel.name}.s"
            elf = assemble_source(path, (directory / "include",), defines).elf()
            images[kernel.name, variant] = KernelImage(kernel, elf, variant)
    return images


def _assemble_boot_sector() -> bytes:
    from vtx.bench.guests import guests_directory
    from vtx.bench.image import loaded_bytes

    path = guests_directory() / "bench" / "bootsector.s"
    return loaded_bytes(assemble_source(path, (guests_directory() / "include",), {}).elf())


@bench.command()
@click.option(
    "--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="Runs of each row."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def reference(rounds: int, as_json: bool) -> None:
    """Instructions per second of the reference engine.

    Guests that compute, in every style, read by the quick path and by the plain evaluator. Rounds
    are interleaved; a speed is the median over the rounds, in retired guest instructions per
    second of CPU time on one core. Ratios are to the first row.
    """
    from vtx.bench.guests import MEASURED, NoGuestsError, guest_source, guests_directory
    from vtx.bench.reference import measure

    with as_input_errors(NoGuestsError):
        include = (guests_directory() / "include",)
        images = {name: assemble_source(guest_source(name), include, {}).elf() for name in MEASURED}
    with _progress() as on_progress:
        rows = measure(images, rounds=rounds, on_progress=on_progress)
    _print_reference(rows, as_json=as_json)


def _print_reference(rows: Sequence[ReferenceRow], *, as_json: bool) -> None:
    from vtx.view.text import Table, json_line, print_table

    if as_json:
        click.echo(json_line({"rows": [_reference_dict(row, rows[0]) for row in rows]}))
        return
    titles = ("guest", "style", "reader", "retired", "instr/s", "spread", "ratio")
    cells = tuple(
        (
            row.guest, row.style, row.reader, f"{row.retired:,}", f"{row.speed:,.0f}",
            f"{row.spread:.0%}", f"{row.speed / rows[0].speed:.2f}",
        )
        for row in rows
    )  # fmt: skip
    print_table(Table(titles, cells, frozenset({3, 4, 5, 6})), sys.stdout)


def _reference_dict(row: ReferenceRow, first: ReferenceRow) -> dict[str, Any]:
    return {
        "guest": row.guest, "style": row.style, "reader": row.reader, "retired": row.retired,
        "instructions_per_second": round(row.speed), "spread": round(row.spread, 4),
        "ratio": round(row.speed / first.speed, 4), "rounds": [round(x) for x in row.speeds],
    }  # fmt: skip


@contextmanager
def _progress() -> Iterator[Callable[[int, int, str], None] | None]:
    """A bar of the runs done on stderr, None where that is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("")
        yield lambda done, total, what: bar.update(
            task, completed=done, total=total, description=what
        )
