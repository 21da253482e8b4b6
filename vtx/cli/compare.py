"""`vtx compare`: one guest in several styles, and whether they end in the same state.

Must not know how states are compared.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from vtx.cli.console import progress_by_style
from vtx.cli.errors import as_input_errors, enough_memory
from vtx.cli.guest import guest_from, guest_options
from vtx.cli.sizes import in_words


@click.command(no_args_is_help=True)
@guest_options
@click.option(
    "--vmm",
    default="bare,ept,shadow",
    show_default=True,
    metavar="STYLE,STYLE...",
    help="The styles to compare; the first is what the others must equal.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def compare(image: Path | None, kernel: Path | None, vmm: str, as_json: bool, **guest: Any) -> int:
    """Run IMAGE in several styles of virtualization and compare everything the guest can see.

    With the style firmware among them, the VMMs' exits are aligned as well.

    Ends with 0 when console, memory, registers, retired instructions and exit status are the
    same in all of them, with 1 when they differ, 2 for input that cannot be used, 130 after
    Ctrl-C.
    """
    styles = [style.strip() for style in vmm.split(",") if style.strip()]
    if len(styles) < 2:
        raise click.UsageError(f"--vmm {vmm}: comparing takes two styles or more")
    options = guest_from(image, kernel, guest).load(styles[0])
    from vtx.view.comparisons import comparison_as_dict, show_comparison
    from vtx.view.text import json_line
    from vtx.vmm.compare import compare as compare_styles
    from vtx.vmm.styles import FIRMWARE, LaunchError

    title = Path(options.image_name).name
    with (
        as_input_errors(LaunchError),
        enough_memory(in_words(options.memory)),
        progress_by_style(title, options.max_instructions) as on_progress,
    ):
        found = compare_styles(
            options, styles, on_progress=on_progress, with_exits=FIRMWARE in styles
        )
    if any(run.ended == "interrupted" for run in found.runs):
        raise KeyboardInterrupt
    if as_json:
        click.echo(json_line(comparison_as_dict(found)))
    else:
        show_comparison(found, sys.stdout)
    return 0 if found.same else 1
