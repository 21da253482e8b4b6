"""Shadow page tables never say more than the guest's own tables, at any VM exit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import shadow_oracle

from tests.vtx.engines import QUICK_ENGINES
from vtx.vmm import Complete, Resume
from vtx.vmm.compare import compare
from vtx.vmm.launch import launch

HERE = Path(__file__).parent


@QUICK_ENGINES
@pytest.mark.parametrize(
    ("name", "instructions", "every", "leaves"),
    [
        ("kernel", None, 3, 10_000),
        ("pagetables", None, 6, 10_000),
        ("multiboot32", None, 1, 1000),
        ("unpaged32", 20_000, 1, 100),
        ("faults", 20_000, 4, 100),
    ],
)
def test_at_every_exit_each_leaf_is_composed_and_has_no_right_the_guest_does_not_give(
    name: str, instructions: int, every: int, leaves: int, engine: str,
    guest_image: Callable[[str], bytes], options: Callable[..., Any],
) -> None:  # fmt: skip
    image = guest_image(name)
    session: Any = launch(options(image, "shadow", memory=16 << 20, engine=engine)).session
    watch = shadow_oracle.Watch(session, every)
    ending = session.run(instructions)

    assert (ending is None) == (instructions is not None)
    assert watch.checks > 20
    assert watch.leaves > leaves


@pytest.mark.parametrize("name", ["kernel", "pagetables", "multiboot32", "unpaged32"])
@pytest.mark.parametrize("write", [False, True], ids=["read", "write"])
def test_touching_a_page_that_the_guest_maps_succeeds(
    name: str, write: bool, guest_image: Callable[[str], bytes], options: Callable[..., Any]
) -> None:
    session: Any = launch(options(guest_image(name), "shadow", memory=16 << 20)).session
    assert session.run(20_000) is None
    vmm = session.vmm
    pages = shadow_oracle.present_pages(session.vm, 600)
    tables = {gpn for page in pages for gpn in page.tables}
    touched = {}
    for page in pages:
        gpn = page.frame >> 12
        if write and (not page.writable or gpn in tables or vmm.sources.tracked(gpn)):
            continue
        action = shadow_oracle.touch(vmm, page.page, write)
        assert isinstance(action, Resume), (hex(page.page), action)
        touched[page.page] = page
    space = vmm.spaces[vmm._current]
    leaves = {
        leaf.page: leaf for leaf in shadow_oracle.hardware_leaves(vmm.port, space.root, space.pae)
    }

    for number, page in touched.items():
        assert leaves[number].frame == session.vm.frames.frame_of(page.frame >> 12)
        assert leaves[number].writable or not write
    assert len(touched) > 50
    assert shadow_oracle.check(vmm) >= len(touched)


def test_the_oracle_has_teeth(teeth: bytes, options: Callable[..., Any]) -> None:
    faulty = str(shadow_oracle.__file__).replace("shadow_oracle", "faulty_vmms")
    for fault, rule in {
        "LostDirty": "dirty flag clear", "LostAccessed": "accessed flag", "ExtraRight": "writ",
        "NoNx": "execute right", "WrongShadowFrame": "frame", "UnseenWrites": ".",
        "StaleShadow": ".",
    }.items():  # fmt: skip
        session: Any = launch(options(teeth, f"{faulty}:{fault}")).session
        shadow_oracle.Watch(session)
        with pytest.raises(AssertionError, match=rule):
            session.run(None)


def test_a_write_to_a_page_table_is_completed_and_not_resumed(
    teeth: bytes, options: Callable[..., Any]
) -> None:
    session: Any = launch(options(teeth, "shadow")).session
    actions = []
    apply = session.vmm._apply
    session.vmm._apply = lambda action, exit: (actions.append(action), apply(action, exit))
    shadow_oracle.Watch(session)
    session.run(None)

    assert Complete("write to a guest page table") in actions
    assert session.shadow_statistics()["write_protect_exits"] > 5


def test_pae_page_directory_pointers_count_from_when_they_are_loaded(
    assemble_source: Callable[[str], bytes], options: Callable[..., Any]
) -> None:
    image = assemble_source((HERE / "pae.s").read_text())
    found = compare(options(image, max_instructions=1000), ["bare", "ept", "shadow"])
    session: Any = launch(options(image, "shadow")).session
    watch = shadow_oracle.Watch(session)
    session.run(None)

    assert found.differences == []
    assert [run.ended for run in found.runs] == ["power_off"] * 3
    assert watch.leaves > 10
