"""Walks of the completing CPU that are remembered are those that would be made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from vtx.isa.layout import SLOTS
from vtx.machine.paging import FETCH
from vtx.vmm.launch import launch

WRITE = 1


@pytest.fixture
def soft(teeth: bytes, options: Callable[..., Any]) -> Any:
    """A completing CPU whose guest runs with paging."""
    session: Any = launch(options(teeth, "ept", engine="reference")).session
    assert session.run(50) is None
    session.vmm.read_guest_state()
    return session.vm.soft


def entries(soft: Any, gva: int, access: int) -> list[int]:
    """Guest-physical addresses of what a walk reads."""
    read: list[int] = []
    soft.on_walk_load = lambda level, gpa: read.append(gpa)
    soft.translator(gva, access)
    soft.on_walk_load = None
    return read


def test_a_walk_leads_to_the_same_page_again(soft: Any) -> None:
    rip, before = soft.state.read("rip"), soft.walk_references
    first = soft.translator(rip, FETCH)
    once = soft.walk_references - before
    assert first is not None
    assert soft.translator(rip, FETCH) == first
    assert soft.walk_references - before == 2 * once


def test_an_entry_that_has_changed_is_walked_through(soft: Any) -> None:
    rip = soft.state.read("rip")
    assert soft.translator(rip, FETCH) is not None
    leaf = entries(soft, rip, FETCH)[-1]
    soft.bus.store(leaf, 64, soft.bus.load(leaf, 64) & ~1)
    assert soft.translator(rip, FETCH) is None
    assert soft.words[SLOTS["fault_vector"]] == 14


def test_an_accessed_flag_that_was_cleared_is_set_again(soft: Any) -> None:
    rip = soft.state.read("rip")
    soft.translator(rip, FETCH)
    leaf = entries(soft, rip, FETCH)[-1]
    soft.bus.store(leaf, 64, soft.bus.load(leaf, 64) & ~0x20)
    soft.translator(rip, FETCH)
    assert soft.bus.load(leaf, 64) & 0x20


def test_a_write_sets_the_dirty_flag_that_a_fetch_left_clear(soft: Any) -> None:
    rip = soft.state.read("rip")
    leaf = entries(soft, rip, FETCH)[-1]
    soft.bus.store(leaf, 64, soft.bus.load(leaf, 64) & ~0x40)
    soft.translator(rip, FETCH)
    assert not soft.bus.load(leaf, 64) & 0x40
    soft.translator(rip, WRITE)
    assert soft.bus.load(leaf, 64) & 0x40


def test_another_table_is_another_walk(soft: Any) -> None:
    rip = soft.state.read("rip")
    assert soft.translator(rip, FETCH) is not None
    soft.state.write("cr3", 0)  # nothing is mapped there
    top = soft.bus.load((rip >> 39 & 0x1FF) * 8, 64)
    assert top & 1 or soft.translator(rip, FETCH) is None
