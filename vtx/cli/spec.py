"""`vtx spec`: rows of the architecture's tables in words. Must not know any fact itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
import msgspec

from vtx.cli.conformance import conformance
from vtx.cli.errors import InputError, as_input_errors


@click.group(no_args_is_help=True)
def spec() -> None:
    """Say what a VMCS field, exit reason, control, MSR or VM-entry check is."""


def _add(
    kind: str,
    title: str,
    describe: Callable[[str], list[str]],
    as_dict: Callable[[str], dict[str, Any]],
    names: Callable[[], list[str]],
) -> None:
    @spec.command(kind, help=f"Describe {title}. Without NAME: list all names.")
    @click.argument("name", required=False)
    @click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    def command(name: str | None, as_json: bool) -> None:
        from vtx.spec import SpecError

        with as_input_errors(SpecError):
            if name is None:
                known = names()
                text = msgspec.json.encode(known).decode() if as_json else "\n".join(known)
            elif as_json:
                text = msgspec.json.encode(as_dict(name)).decode()
            else:
                text = "\n".join(describe(name))
        click.echo(text)


def _row(find: Callable[[str], object]) -> Callable[[str], dict[str, Any]]:
    from vtx.spec import to_dict

    return lambda name: to_dict(find(name))


def _exit(name: str) -> dict[str, Any]:
    """An exit reason with the bit ranges of its qualification and instruction information."""
    from vtx import spec as tables

    row = tables.exit_reason(name)
    found = tables.qualification(row.number)
    info = tables.layout(row.info_layout).bits if row.info_layout else ()
    return {
        **tables.to_dict(row),
        "qualification_bits": [tables.to_dict(part) for part in (found.bits if found else ())],
        "info_bits": [tables.to_dict(part) for part in info],
    }


def _number(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise InputError(f"{text!r} is no VM-instruction error number") from None


def _add_all() -> None:
    from vtx import spec as tables

    _add(
        "field",
        "a VMCS field by name or encoding",
        tables.describe_field,
        _row(tables.field),
        lambda: [row.name for row in tables.fields()],
    )
    _add(
        "exit",
        "an exit reason by name or number",
        tables.describe_exit,
        _exit,
        lambda: [row.name for row in tables.exit_reasons()],
    )
    _add(
        "control",
        "a VMX control by name (word.NAME where words share one)",
        tables.describe_control,
        _row(tables.control),
        lambda: [row.id for row in tables.controls()],
    )
    _add(
        "msr",
        "a model-specific register by name or index",
        tables.describe_msr,
        _row(tables.msr),
        lambda: [row.name for row in tables.msrs()],
    )
    _add(
        "check",
        "a VM-entry check by its id",
        tables.describe_check,
        _row(tables.entry_check),
        lambda: [row.id for row in tables.entry_checks()],
    )
    _add(
        "feature",
        "a CPUID feature bit by name",
        tables.describe_feature,
        _row(tables.feature),
        lambda: [row.name for row in tables.features()],
    )
    _add(
        "error",
        "a VM-instruction error by number",
        lambda text: tables.describe_error(_number(text)),
        lambda text: tables.to_dict(tables.instruction_error(_number(text))),
        lambda: [str(row.number) for row in tables.instruction_errors()],
    )


_add_all()
spec.add_command(conformance)
