"""`vtx explain`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from tests.vtx.vmx.bench import legal_fields

Cli = Callable[..., Result]


def toml(changes: dict[str, object] | None = None) -> str:
    given = {**{name: hex(value) for name, value in legal_fields().items()}, **(changes or {})}
    return "".join(f'"{name}" = {json.dumps(value)}\n' for name, value in given.items())


@pytest.fixture
def vmcs(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "vmcs.toml"
        path.write_text(text)
        return path

    return write


def test_a_vmcs_that_breaks_no_rule_ends_with_0(cli: Cli, vmcs: Callable[[str], Path]) -> None:
    result = cli("explain", vmcs(toml()))

    assert (result.exit_code, result.stdout) == (0, "no rule of VM entry is broken\n")


def test_a_broken_rule_is_told_with_field_rule_source_and_what_would_pass(
    cli: Cli, vmcs: Callable[[str], Path]
) -> None:
    result = cli("explain", vmcs(toml({"GUEST_RFLAGS": 0, "CR3_TARGET_COUNT": 5})))

    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "control.cr3-target-count: CR3_TARGET_COUNT is at most IA32_VMX_MISC[24:16]",
        "  CR3_TARGET_COUNT  0x5",
        "  passes with  CR3_TARGET_COUNT = 0x4",
        "  passes with  CR3_TARGET_COUNT = 0x1",
        "  otherwise    VMfailValid 7",
        "  see          SDM 3C, VM-Execution Control Fields",
        "",
        "guest.rflags-reserved: reserved bits of GUEST_RFLAGS are 0 and bit 1 is 1",
        "  GUEST_RFLAGS  0x0",
        "  passes with  GUEST_RFLAGS = 0x2",
        "  otherwise    exit 33 qualification 0",
        "  see          SDM 3C, Checks on Guest RIP, RFLAGS, and SSP",
        "",
        "2 rules are broken; VM entry: VMfailValid 7: VM entry found an invalid control field",
    ]


def test_json_has_every_broken_rule(cli: Cli, vmcs: Callable[[str], Path]) -> None:
    result = cli("explain", "--json", vmcs(toml({"GUEST_RFLAGS": 0})))

    assert result.exit_code == 1
    (broken,) = json.loads(result.stdout)["broken"]
    assert broken["id"] == "guest.rflags-reserved"
    assert broken["fields"] == {"GUEST_RFLAGS": "0x0"}
    assert broken["nearest"] == [{"GUEST_RFLAGS": "0x2"}]


def test_json_on_standard_input_is_read_too(cli: Cli) -> None:
    text = json.dumps({**legal_fields(), "GUEST_RFLAGS": 0})

    result = cli("explain", "-", stdin=text.encode())

    assert result.exit_code == 1
    assert "guest.rflags-reserved" in result.stdout


def test_profile_state_and_memory_stand_in_the_file(cli: Cli, vmcs: Callable[[str], Path]) -> None:
    link = {"VMCS_LINK_POINTER": 0x9000, "vmcs_pointer": 0x7000}
    revision = '[memory]\n"0x9000" = "01585456"\n'

    assert cli("explain", vmcs(toml(link) + revision)).exit_code == 0
    assert cli("explain", vmcs(toml({**link, "vmcs_pointer": 0x9000}) + revision)).exit_code == 1
    missing = cli("explain", vmcs(toml(link)))
    assert "memory 0x9000      0x0  (not given)" in missing.stdout
    smap = {"GUEST_CR4": 0x20_2020}
    assert cli("explain", vmcs(toml(smap))).exit_code == 1
    assert cli("explain", "--cpu", "max", vmcs(toml(smap))).exit_code == 0
    assert cli("explain", vmcs(toml({**smap, "profile": "max"}))).exit_code == 0
    assert cli("explain", vmcs(toml({"efer": 0}))).exit_code == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("GUEST_RIPP = 1", "did you mean GUEST_RIP"),
        ("GUEST_RIP = 1.5", "GUEST_RIP is 1.5, which is no whole number"),
        ("GUEST_RIP = true", "which is no whole number"),
        ('GUEST_RIP = "rip"', "which is no whole number"),
        ("GUEST_CS_SELECTOR = 0x10000", "does not fit into 16 bits"),
        ("efer = 0x10000000000000000", "does not fit into 64 bits"),
        ("profile = 3", "the name of a CPU profile"),
        ('profile = "pentium"', "no CPU profile is called 'pentium'"),
        ("memory = 3", "memory has to be a table"),
        ('memory = { 0 = "xy" }', "hexadecimal digits"),
        ('memory = { abc = "00" }', "no whole number"),
        ("GUEST_RIP", "vmcs.toml: "),
        ("{", "vmcs.toml: "),
        ("[[" * 5000, "vmcs.toml: "),
        ('{"a":' * 5000, "vmcs.toml: "),
    ],
)
def test_input_that_cannot_be_used_is_one_line_and_2(
    cli: Cli, vmcs: Callable[[str], Path], text: str, said: str
) -> None:
    result = cli("explain", vmcs(text))

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("vtx: error: ")
    assert result.stderr.count("\n") == 1
    assert said in result.stderr


def test_bytes_and_files_that_cannot_be_read_are_one_line_too(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "vmcs.toml"
    path.write_bytes(b"\xff\xfe\x00")

    for result in (cli("explain", path), cli("explain", tmp_path / "none.toml")):
        assert result.exit_code == 2
        assert result.stderr.count("\n") == 1
