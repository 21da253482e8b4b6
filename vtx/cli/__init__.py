"""The command line: `vtx COMMAND ...`. One file per command, imported when it is called.

It parses, reads files and prints; whatever it tells about the machine comes from `vtx.vmm`,
`vtx.view` and `vtx.spec`. Must not know how anything it starts works.
"""

from __future__ import annotations

from collections.abc import Sequence

import click

from vtx.cli.group import COMMANDS, LazyGroup

vtx = click.version_option(package_name="vtx", message="%(prog)s %(version)s")(
    LazyGroup(
        "vtx",
        commands=COMMANDS,
        help="A deterministic x86-64 computer with Intel VT-x: assemble, boot, compare.",
    )
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit status (SystemExit)."""
    vtx.main(arguments)
