"""`vtx run`: boot one guest; its console on stdout, its exit status as ours.

Must not know how a guest runs.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vtx.cli.console import progress, serial
from vtx.cli.errors import as_input_errors, complain, enough_memory, remark
from vtx.cli.guest import guest_from, guest_options
from vtx.cli.inputs import probe_names
from vtx.cli.recording import recording
from vtx.cli.sizes import in_words

if TYPE_CHECKING:
    from vtx.vmm.launch import RunOptions, RunResult

WELL_ENDED = frozenset({"power_off", "halted", "debug_exit", "reset"})
"""Ends that the guest chose; the message of any other is an error."""


@click.command(no_args_is_help=True)
@guest_options
@click.option(
    "--vmm",
    default="auto",
    show_default=True,
    metavar="STYLE",
    help="bare, ept, shadow, firmware, auto or FILE.py:Class.",
)
@click.option("--trace", type=click.Path(path_type=Path), help="Write a trace (.vtxb: binary).")
@click.option(
    "--probe",
    "probes",
    multiple=True,
    metavar="SYMBOL[,SYMBOL...]",
    help="Trace every time the instruction there (or at 0xADDRESS) retires.",
)
@click.option(
    "-serial",
    "--serial",
    "serial_to",
    default="stdio",
    show_default=True,
    metavar="stdio|none|FILE",
    help="Where the console goes (file:FILE too).",
)
@click.option(
    "--stats", type=click.Choice(["text", "json"]), help="Statistics, last on standard error."
)
def run(
    image: Path | None,
    kernel: Path | None,
    vmm: str,
    trace: Path | None,
    probes: tuple[str, ...],
    serial_to: str,
    stats: str | None,
    **guest: Any,
) -> int:
    """Boot IMAGE, an ELF executable or assembly source (.s, .S, .asm).

    Ends with 0 when the guest powers off or halts for good, ((v<<1)|1)&255 when it writes v to
    the debug-exit port, 2 for input that cannot be used, 4 after a triple fault, 6 when VM entry
    fails, 8 when the VMM has no answer to an exit, 124 when the instruction budget ran out, 130
    after Ctrl-C.
    """
    if probes and trace is None:
        raise click.UsageError("--probe writes to a trace; give --trace FILE")
    options = replace(
        guest_from(image, kernel, guest).load(vmm),
        probes=probe_names(probes),
        hash_memory=bool(stats),
    )
    result = _run(options, trace, serial_to)
    _report(result)
    if stats:
        _print_statistics(result, stats)
    return result.exit_status


def _run(options: RunOptions, trace: Path | None, serial_to: str) -> RunResult:
    from vtx.vmm.launch import run as launch
    from vtx.vmm.styles import LaunchError

    # A bar on the terminal that the guest writes to would garble its console.
    shown = serial_to != "stdio" or not sys.stdout.isatty()
    title = Path(options.image_name).name
    with (
        as_input_errors(LaunchError),
        enough_memory(in_words(options.memory)),
        serial(serial_to) as console,
        recording(trace, options) as record,
        progress(title, options.max_instructions, shown=shown) as on_progress,
    ):
        result = launch(
            replace(
                options,
                console=console,
                trace=record.record if record else None,
                on_progress=on_progress,
            )
        )
        if record:
            record.finish(result)
    return result


def _report(result: RunResult) -> None:
    for note in result.notes:
        remark(f"note: {note}")
    if result.message:
        (remark if result.ended in WELL_ENDED else complain)(result.message)


def _print_statistics(result: RunResult, form: str) -> None:
    from vtx.view.runs import show_statistics, statistics
    from vtx.view.text import json_line

    if form == "json":
        click.echo(json_line(statistics(result)), err=True)
    else:
        show_statistics(result, sys.stderr)
