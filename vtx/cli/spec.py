"""`vtx spec`: rows of the architecture's tables in words. Must not know any fact itself."""

from __future__ import annotations

from collections.abc import Callable

import click
import msgspec

from vtx.cli.errors import InputError, as_input_errors


@click.group(no_args_is_help=True)
def spec() -> None:
    """Say what a VMCS field, exit reason, control, MSR or VM-entry check is."""


def _add(
    kind: str,
    title: str,
    describe: Callable[[str], list[str]],
    row: Callable[[str], object],
    names: Callable[[], list[str]],
) -> None:
    @spec.command(kind, help=f"Describe {title}. Without NAME: list all names.")
    @click.argument("name", required=False)
    @click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    def command(name: str | None, as_json: bool) -> None:
        from vtx.spec import SpecError, to_dict

        with as_input_errors(SpecError):
            if name is None:
                known = names()
                text = msgspec.json.encode(known).decode() if as_json else "\n".join(known)
            elif as_json:
                text = msgspec.json.encode(to_dict(row(name))).decode()
            else:
                text = "\n".join(describe(name))
        click.echo(text)


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
        tables.field,
        lambda: [row.name for row in tables.fields()],
    )
    _add(
        "exit",
        "an exit reason by name or number",
        tables.describe_exit,
        tables.exit_reason,
        lambda: [row.name for row in tables.exit_reasons()],
    )
    _add(
        "control",
        "a VMX control by name (word.NAME where words share one)",
        tables.describe_control,
        tables.control,
        lambda: [row.id for row in tables.controls()],
    )
    _add(
        "msr",
        "a model-specific register by name or index",
        tables.describe_msr,
        tables.msr,
        lambda: [row.name for row in tables.msrs()],
    )
    _add(
        "check",
        "a VM-entry check by its id",
        tables.describe_check,
        tables.entry_check,
        lambda: [row.id for row in tables.entry_checks()],
    )
    _add(
        "feature",
        "a CPUID feature bit by name",
        tables.describe_feature,
        tables.feature,
        lambda: [row.name for row in tables.features()],
    )
    _add(
        "error",
        "a VM-instruction error by number",
        lambda text: tables.describe_error(_number(text)),
        lambda text: tables.instruction_error(_number(text)),
        lambda: [str(row.number) for row in tables.instruction_errors()],
    )


_add_all()
