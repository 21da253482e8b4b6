"""`vtx spec`."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from click.testing import Result

from vtx import spec

Cli = Callable[..., Result]


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        ("field", "GUEST_RIP", spec.describe_field("GUEST_RIP")),
        ("field", "0x681e", spec.describe_field("GUEST_RIP")),
        ("exit", "48", spec.describe_exit("EPT_VIOLATION")),
        ("control", "ENABLE_EPT", spec.describe_control("sec.ENABLE_EPT")),
        ("msr", "0x480", spec.describe_msr("IA32_VMX_BASIC")),
        ("check", "control.cr3-target-count", spec.describe_check("control.cr3-target-count")),
        ("feature", "SMEP", spec.describe_feature("SMEP")),
        ("error", "7", spec.describe_error(7)),
    ],
)
def test_a_row_is_printed_in_words(cli: Cli, kind: str, name: str, said: list[str]) -> None:
    result = cli("spec", kind, name)

    assert result.exit_code == 0
    assert result.stdout.splitlines() == said


@pytest.mark.parametrize(
    ("kind", "name", "key", "value"),
    [
        ("field", "GUEST_RIP", "encoding", 0x681E),
        ("exit", "EPT_VIOLATION", "number", 48),
        ("control", "HLT_EXITING", "mask", 1 << 7),
        ("msr", "IA32_EFER", "index", 0xC0000080),
        ("check", "control.cr3-target-count", "stage", "control"),
        ("feature", "SMEP", "bit", 7),
        ("error", "7", "number", 7),
    ],
)
def test_json_is_the_row(cli: Cli, kind: str, name: str, key: str, value: object) -> None:
    assert json.loads(cli("spec", kind, name, "--json").stdout)[key] == value


def test_json_of_an_exit_has_the_bits_of_its_qualification_and_information(cli: Cli) -> None:
    violation = json.loads(cli("spec", "exit", "48", "--json").stdout)
    vmread = json.loads(cli("spec", "exit", "VMREAD", "--json").stdout)
    cpuid = json.loads(cli("spec", "exit", "CPUID", "--json").stdout)

    assert [part["name"] for part in violation["qualification_bits"]][:2] == ["read", "write"]
    assert vmread["info_bits"] and not violation["info_bits"]
    assert cpuid["qualification_bits"] == []


def test_every_row_of_every_table_can_be_asked_for(cli: Cli) -> None:
    for kind in ("field", "exit", "control", "msr", "check", "feature", "error"):
        names = cli("spec", kind).stdout.splitlines()
        assert names == json.loads(cli("spec", kind, "--json").stdout)
        assert len(names) > 5
        for name in (names[0], names[len(names) // 2], names[-1]):
            assert cli("spec", kind, name).exit_code == 0


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        ("field", "GUEST_RIPP", "did you mean GUEST_RIP"),
        ("field", "0x1", "no VMCS field has encoding"),
        ("exit", "999", "no exit reason has number 999"),
        ("control", "LOAD_PAT", "exit.LOAD_PAT"),
        ("error", "seven", "no VM-instruction error number"),
        ("error", "99", "99"),
    ],
)
def test_a_name_no_table_has_is_one_line(cli: Cli, kind: str, name: str, said: str) -> None:
    result = cli("spec", kind, name)

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("vtx: error: ")
    assert result.stderr.count("\n") == 1
    assert said in result.stderr
