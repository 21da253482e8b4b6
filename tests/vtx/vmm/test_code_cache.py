"""The bound on native code: it is kept, and changes nothing but speed."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from asm import assemble_file
from tests.vtx.engines import NEEDS_NATIVE
from vtx.bench.guests import guest_source, guests_directory
from vtx.engine.choice import LEAST_CODE_CACHE, MOST_CODE_CACHE
from vtx.engine.native.engine import Native
from vtx.vmm.launch import RunOptions, RunResult, drive, finish, launch
from vtx.vmm.session import BareSession
from vtx.vmm.styles import LaunchError

CALL_SITES = 12_000
"""Blocks of the guest, each executed twice: more code than the smallest cache holds."""


def options(source: Path) -> RunOptions:
    elf = assemble_file(source, include=[guests_directory() / "include"]).elf()
    return RunOptions(image=elf, image_name=source.stem, style="bare", engine="native")


@pytest.fixture
def much_code(tmp_path: Path) -> RunOptions:
    source = tmp_path / "much.s"
    source.write_text(f"""
        .intel_syntax noprefix
        .include "ports.inc"
        .globl _start
_start:
        mov ebx, 2
        xor eax, eax
again:
        .rept {CALL_SITES}
        add eax, ebx
        rol eax, 3
        jmp 1f
1:
        .endr
        dec ebx
        jnz again
        power_off
    """)
    return options(source)


def run_counting(options: RunOptions) -> tuple[RunResult, Native, int]:
    """The result, the engine, and how often all blocks were forgotten."""
    launched = launch(options)
    assert isinstance(launched.session, BareSession)
    engine = launched.session.engine
    assert isinstance(engine, Native)
    forgotten = 0
    forget: Callable[[], None] = engine.forget_blocks

    def counted() -> None:
        nonlocal forgotten
        forgotten += 1
        forget()

    engine.forget_blocks = counted  # type: ignore[method-assign]
    ending = drive(launched.session, None)
    return finish(launched, ending, None), engine, forgotten


@NEEDS_NATIVE
def test_a_small_cache_ends_like_the_default_one(much_code: RunOptions) -> None:
    large, _, never = run_counting(much_code)
    small, engine, often = run_counting(replace(much_code, code_cache=LEAST_CODE_CACHE))

    assert (never, often > 1) == (0, True)
    assert engine._arena.size == LEAST_CODE_CACHE
    assert small == large
    assert large.retired > 6 * CALL_SITES


@NEEDS_NATIVE
def test_every_style_runs_with_the_smallest_cache() -> None:
    hello = options(guest_source("hello"))
    results = [
        finish(launched, drive(launched.session, None), None)
        for style in ("bare", "ept", "shadow")
        for launched in [launch(replace(hello, style=style, code_cache=LEAST_CODE_CACHE))]
    ]
    assert {(r.exit_status, r.console, r.memory_sha256, *r.notes) for r in results} == {
        (results[0].exit_status, results[0].console, results[0].memory_sha256)
    }


@NEEDS_NATIVE
def test_known_places_are_bounded_like_their_code() -> None:
    launched = launch(options(guest_source("hello")))
    assert isinstance(launched.session, BareSession)
    engine = launched.session.engine
    assert isinstance(engine, Native)
    translations = engine._translations
    translations._most = 2
    ending = drive(launched.session, None)

    assert (ending.how, launched.console[:5]) == ("power_off", b"Hello")
    assert 0 < len(translations._blocks) <= 2


@pytest.mark.parametrize("size", [0, LEAST_CODE_CACHE - 4096, MOST_CODE_CACHE + 4096])
def test_a_size_beyond_the_bounds_is_an_error_of_one_line(size: int) -> None:
    with pytest.raises(LaunchError, match=r"^--code-cache: .* from 5M to 1024M$"):
        launch(RunOptions(image=b"", image_name="none", code_cache=size))
