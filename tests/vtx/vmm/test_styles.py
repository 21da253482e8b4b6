"""Choosing a style: auto, by name, and a user's own VMM from a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vtx.vmm.launch import RunOptions, launch, run
from vtx.vmm.styles import LaunchError

NO_EPT = "haswell-noept"
COUNTING = """
from vtx.vmm import Action, Ept, Exit

class CountsCpuid(Ept):
    counted = 0

    def handle_cpuid(self, exit: Exit) -> Action:
        self.counted += 1
        return super().handle_cpuid(exit)
"""


@pytest.fixture
def hello(guest_image: Callable[[str], bytes], options: Callable[..., RunOptions]) -> Any:
    """Run hello in a style on a CPU."""
    return lambda style, cpu="haswell": run(options(guest_image("hello"), style, cpu=cpu))


def refusal(call: Callable[[], object]) -> str:
    """The one line with which a launch is refused."""
    with pytest.raises(LaunchError) as caught:
        call()
    message = str(caught.value)
    assert message
    assert "\n" not in message
    return message


def test_auto_takes_ept_where_the_cpu_has_it(hello: Any) -> None:
    found = hello("auto")

    assert (found.style, found.notes) == ("ept", [])
    assert found.exits["EPT_VIOLATION"] > 0


def test_auto_takes_shadow_with_a_note_where_there_is_no_ept(hello: Any) -> None:
    found = hello("auto", NO_EPT)

    assert found.style == "shadow"
    assert found.notes == [f"CPU {NO_EPT} has no EPT: using shadow paging"]
    assert found.ended == "power_off"
    assert "EPT_VIOLATION" not in found.exits


def test_ept_without_ept_is_refused_with_what_to_do(hello: Any) -> None:
    message = refusal(lambda: hello("ept", NO_EPT))

    assert NO_EPT in message
    assert "shadow" in message


def test_a_users_nested_paging_without_ept_is_refused(hello: Any, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(COUNTING)

    message = refusal(lambda: hello(f"{tmp_path / 'mine.py'}:CountsCpuid", NO_EPT))

    assert "does not allow sec control ENABLE_EPT" in message


def test_a_users_vmm_in_ten_lines_counts_cpuid_exits(
    teeth: bytes, options: Callable[..., RunOptions], tmp_path: Path
) -> None:
    assert len(COUNTING.strip().splitlines()) <= 10
    (tmp_path / "mine.py").write_text(COUNTING)
    session: Any = launch(options(teeth, f"{tmp_path / 'mine.py'}:CountsCpuid")).session

    assert session.run(None).how == "power_off"
    assert session.vmm.counted == session.exits()["CPUID"] == 2


@pytest.mark.parametrize(
    ("text", "class_name", "told"),
    [
        ("def broken(:", "X", "SyntaxError"),
        ("raise ValueError('not today\\nnor tomorrow')", "X", "ValueError: not today"),
        ("import no_such_module", "X", "no_such_module"),
        ("", "X", "X is not a subclass of vtx.vmm.Vmm"),
        ("X = 5", "X", "not a subclass"),
        ("class X: pass", "X", "not a subclass"),
        ("X = 5", "", "not a subclass"),
    ],
)
def test_a_file_without_a_usable_vmm_is_refused(
    text: str, class_name: str, told: str, hello: Any, tmp_path: Path
) -> None:
    path = tmp_path / "mine.py"
    path.write_text(text)

    message = refusal(lambda: hello(f"{path}:{class_name}"))

    assert told in message
    assert message.startswith(f"--vmm {path}:{class_name}: ")


@pytest.mark.parametrize("style", ["nothing.py:X", "turbo", "", ":", "EPT"])
def test_a_style_that_does_not_exist_is_refused(style: str, hello: Any) -> None:
    assert refusal(lambda: hello(style)).startswith(f"--vmm {style}: ")


@pytest.mark.parametrize("changes", [{"cpu": "z80"}, {"engine": "warp"}, {"memory": 12345}])
def test_a_machine_that_does_not_exist_is_refused(
    changes: dict[str, Any], guest_image: Callable[[str], bytes], options: Callable[..., RunOptions]
) -> None:
    image = guest_image("hello")

    for style in ("bare", "ept"):
        refusal(lambda style=style: run(options(image, style, **changes)))
