"""Every promise of spec/CONFORMANCE.md names a test that exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROMISES = re.findall(
    r"`(tests/[\w/]+\.py)(?:::(\w+))?`", (ROOT / "spec/CONFORMANCE.md").read_text()
)


def test_there_are_promises() -> None:
    assert len(PROMISES) > 20


@pytest.mark.parametrize(("file", "name"), PROMISES)
def test_a_promise_names_a_test_that_exists(file: str, name: str) -> None:
    source = (ROOT / file).read_text()
    assert not name or re.search(rf"^def {name}\(", source, re.MULTILINE), f"{file} has no {name}"
