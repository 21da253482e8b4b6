"""A VMCS given as JSON or TOML: fields by name or encoding, and what VM entry looks at besides.

Must not know any rule.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from vtx.cli.errors import InputError, one_line

_STATE = ("profile", "efer", "vmcs_pointer", "memory")


@dataclass(frozen=True)
class VmcsFile:
    """What the file says; what it leaves out is None, or empty."""

    fields: dict[str | int, int]
    profile: str | None = None
    efer: int | None = None
    vmcs_pointer: int | None = None
    memory: dict[int, bytes] = field(default_factory=dict)


def parse_vmcs(data: bytes, name: str) -> VmcsFile:
    """The content of the file `name`. Raises InputError."""
    table = _table(data, name)
    profile = table.get("profile")
    if profile is not None and not isinstance(profile, str):
        raise InputError(f"{name}: profile has to be the name of a CPU profile, in quotes")
    return VmcsFile(
        fields={key: _number(v, f"{name}: {key}") for key, v in table.items() if key not in _STATE},
        profile=profile,
        efer=_optional(table, "efer", name),
        vmcs_pointer=_optional(table, "vmcs_pointer", name),
        memory=_memory(table.get("memory", {}), name),
    )


def _table(data: bytes, name: str) -> Mapping[str, Any]:
    """JSON where it begins with a brace, as no TOML does; else TOML."""
    try:
        text = data.decode("utf-8-sig")
        table = msgspec.json.decode(text) if text.lstrip()[:1] == "{" else tomllib.loads(text)
    except UnicodeDecodeError:
        raise InputError(f"{name}: not text; a VMCS is given as JSON or TOML") from None
    except (msgspec.DecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"{name}: {one_line(str(error))}") from None
    except ValueError as error:  # an integer of too many digits
        raise InputError(f"{name}: {one_line(str(error))}") from None
    if not isinstance(table, dict):
        raise InputError(f"{name}: no table of VMCS fields")
    return table


def _optional(table: Mapping[str, Any], key: str, name: str) -> int | None:
    if key not in table:
        return None
    number = _number(table[key], f"{name}: {key}")
    if not 0 <= number < 1 << 64:
        raise InputError(f"{name}: {key} = {number:#x} does not fit into 64 bits")
    return number


def _number(value: object, where: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str):
        try:
            return int(value, 0)
        except ValueError:
            pass
    raise InputError(f"{where} is {one_line(repr(value))[:40]}, which is no whole number")


def _memory(value: object, name: str) -> dict[int, bytes]:
    """Host-physical address -> bytes written as hexadecimal digits."""
    if not isinstance(value, dict):
        raise InputError(f'{name}: memory has to be a table: address = "hexadecimal bytes"')
    found = {}
    for key, text in value.items():
        address = _number(key, f"{name}: memory address")
        try:
            found[address] = bytes.fromhex(text)
        except (TypeError, ValueError):
            raise InputError(f"{name}: memory {key} has to be hexadecimal digits") from None
    return found
