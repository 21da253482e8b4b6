"""`vtx asm`: source to ELF. Must not know the assembler beyond what it writes."""

from __future__ import annotations

from pathlib import Path

import click

from vtx.cli.files import write_file
from vtx.cli.inputs import parse_defines


@click.command(no_args_is_help=True)
@click.argument("source", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="The file to write."
)
@click.option(
    "--listing", type=click.Path(path_type=Path), help="Also write addresses and bytes by line."
)
@click.option(
    "-I",
    "--include",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Search this directory for .include and .incbin.",
)
@click.option("-D", "--define", multiple=True, metavar="NAME=VALUE", help="Set a symbol.")
@click.option("-c", "--object", "relocatable", is_flag=True, help="Write a relocatable object.")
def asm(
    source: Path,
    output: Path,
    listing: Path | None,
    include: tuple[Path, ...],
    define: tuple[str, ...],
    relocatable: bool,
) -> None:
    """Assemble SOURCE (Intel syntax, as GNU as reads it) to an ELF executable or object."""
    from vtx.cli.assembled import assemble_source

    assembled = assemble_source(source, include, parse_defines(define))
    image = assembled.object() if relocatable else assembled.elf()
    text = assembled.listing() if listing else ""
    write_file(output, image)
    if listing:
        write_file(listing, text.encode("utf-8", "surrogateescape"))
