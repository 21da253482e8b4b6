"""`vtx explain`: which VM-entry rules a VMCS breaks. Must not know any rule."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from vtx.cli.errors import as_input_errors
from vtx.cli.files import read_file
from vtx.cli.vmcs_file import VmcsFile, parse_vmcs

if TYPE_CHECKING:
    from vtx.vmx.explain import BrokenCheck

STDIN = "-"


@click.command(no_args_is_help=True)
@click.argument("file")
@click.option("--cpu", "profile", metavar="PROFILE", help="CPU profile (default: haswell).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def explain(file: str, profile: str | None, as_json: bool) -> int:
    """Say which VM-entry rules the VMCS in FILE (- is standard input) breaks, and what would pass.

    FILE is JSON or TOML: VMCS fields by name or encoding, with their values; a field that is left
    out is 0. Besides, it may have `profile` (the CPU), `efer` (IA32_EFER of the host; default
    0x500), `vmcs_pointer` (where the VMCS is), and `memory`, a table from address to hexadecimal
    bytes, for the rules that look there.

    Ends with 0 when no rule is broken, 1 when some are, 2 for input that cannot be used.
    """
    from vtx.spec import SpecError

    name = "standard input" if file == STDIN else file
    data = sys.stdin.buffer.read() if file == STDIN else read_file(file)
    given = parse_vmcs(data, name)
    with as_input_errors(SpecError):
        broken = _broken(given, profile)
    _print(broken, given, as_json)
    return 1 if broken else 0


def _broken(given: VmcsFile, profile: str | None) -> tuple[BrokenCheck, ...]:
    from vtx.vmx.explain import IA32E_HOST, explain

    return explain(
        given.fields,
        profile=profile or given.profile or "haswell",
        efer=IA32E_HOST if given.efer is None else given.efer,
        vmcs_pointer=given.vmcs_pointer,
        memory=given.memory,
    )


def _print(broken: tuple[BrokenCheck, ...], given: VmcsFile, as_json: bool) -> None:
    from vtx.view.explain import show_broken
    from vtx.view.text import json_line

    if as_json:
        click.echo(json_line({"broken": [rule.as_dict() for rule in broken]}))
    else:
        show_broken(broken, _names(given), sys.stdout)


def _names(given: VmcsFile) -> set[str]:
    """What the file says: fields, state, and addresses of memory."""
    from vtx.spec import field

    names = {field(key).name for key in given.fields}
    names |= {key for key in ("efer", "vmcs_pointer") if getattr(given, key) is not None}
    for start, chunk in given.memory.items():
        names |= {f"{start + n:#x}" for n in range(len(chunk))}
    return names
