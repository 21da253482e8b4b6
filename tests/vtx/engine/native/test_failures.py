"""What goes wrong inside the native engine costs speed and one remark, and nothing else."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from vtx.engine.native import engine as native_engine
from vtx.engine.native import library, stencils, templates
from vtx.engine.native.arena import Arena
from vtx.engine.native.compiler import CompileError, host_compiler
from vtx.engine.native.kept import Kept, kept
from vtx.engine.native.library import ROOM
from vtx.engine.native.objects import ObjectError, parse_object
from vtx.engine.native.relocate import RelocationError
from vtx.engine.native.store import Store
from vtx.vmm.launch import RunOptions, RunResult, drive, finish, launch, run
from vtx.vmm.session import BareSession

PROGRAM = """
        .intel_syntax noprefix
        .code64
        .globl _start
_start: mov ecx, 50
        mov eax, 0x12345678
again:  lea ebx, [rax + rcx]
        bswap eax                       # what cannot be compiled below
        add eax, ebx
        xor ebx, 0x55
        dec ecx
        jnz again
        test eax, eax
        mov edx, eax
        mov al, 0x10
        out 0xf4, al
"""
LONG = (
    """
        .intel_syntax noprefix
        .code64
        .globl _start
_start: mov ebp, 4
again:  xor eax, eax
        mov ebx, 1
"""
    + "".join(
        f"add eax, {n}\n lea ebx, [rbx + rax * 2 + {n}]\n test ebx, {1 << n % 20}\n jz 1f\n"
        f"imul eax, ebx, {n}\n 1: ror ebx, 3\n"
        for n in range(3, 700)
    )
    + """
        dec ebp
        jnz again
        mov edx, eax
        mov al, 0x10
        out 0xf4, al
"""
)


class Picky:
    """A compiler that refuses some texts."""

    def __init__(self, refuses: Callable[[str], bool]) -> None:
        self._refuses = refuses
        self.refused = 0
        self.latest = ""

    def compile(self, text: str, **options: Any) -> bytes:
        self.latest = text
        if self._refuses(text):
            self.refused += 1
            raise CompileError("refused")
        return host_compiler().compile(text, **options)


class Forgetful:
    """What is kept, less some names."""

    def __init__(self, *names: bytes) -> None:
        self._names = names

    def get(self, kind: str, name: bytes) -> Any:
        return None if name in self._names else kept().get(kind, name)

    def put(self, kind: str, name: bytes, value: Any) -> None:
        kept().put(kind, name, value)


@pytest.fixture
def no_stencils(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in a process that has no stencils, nor finds any on disk."""
    empty = Kept(Store(None, "none", "", 1 << 30))
    for module in (stencils, templates):
        monkeypatch.setattr(module, "kept", lambda: empty)
    monkeypatch.setattr(stencils, "_failures", {})
    templates.templates_for.cache_clear()
    yield
    templates.templates_for.cache_clear()


def _options(image: bytes, engine: str) -> RunOptions:
    return RunOptions(image, "failures", style="bare", engine=engine, memory=4 << 20)


def _run(image: bytes, engine: str) -> RunResult:
    return run(_options(image, engine))


def _same(one: RunResult, other: RunResult) -> bool:
    names = ("retired", "ended", "exit_status", "memory_sha256", "registers", "console")
    return all(getattr(one, name) == getattr(other, name) for name in names)


@pytest.mark.parametrize("error", ["refused", "object", "relocation"])
def test_a_form_that_does_not_compile_runs_in_python_and_is_reported_once(
    assemble_source: Callable[[str], bytes],
    monkeypatch: pytest.MonkeyPatch,
    no_stencils: None,
    error: str,
) -> None:
    image = assemble_source(PROGRAM)
    picky = Picky(lambda text: "@llvm.bswap.i32" in text and error == "refused")
    monkeypatch.setattr(stencils, "host_compiler", lambda: picky)
    if error != "refused":
        _break_objects(monkeypatch, picky, error)

    result = _run(image, "native")

    assert _same(result, _run(image, "reference"))
    (note,) = result.notes
    assert note.startswith("some code runs slowly: ")
    assert "\n" not in note
    if error == "refused":
        assert picky.refused == 2  # with its block, and alone; not again for every execution


def _break_objects(monkeypatch: pytest.MonkeyPatch, picky: Picky, error: str) -> None:
    """Let every object with a BSWAP be found damaged, or be more than can be relocated."""
    raised = {
        "object": ObjectError("damaged"),
        "relocation": RelocationError("not understood"),
    }[error]

    def parse(data: bytes) -> Any:
        if "@llvm.bswap.i32" in picky.latest:
            raise raised
        return parse_object(data)

    monkeypatch.setattr(stencils, "parse_object", parse)


def test_a_runtime_that_does_not_compile_leaves_the_reference_engine(
    assemble_source: Callable[[str], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = assemble_source(PROGRAM)
    monkeypatch.setattr(library, "kept", lambda: Forgetful(b"runtime"))
    monkeypatch.setattr(library, "host_compiler", lambda: Picky(lambda text: True))

    result = _run(image, "native")

    assert _same(result, _run(image, "reference"))
    assert result.notes == ["some code runs slowly: runtime: refused"]


def test_a_routine_that_does_not_compile_runs_in_python(
    assemble_source: Callable[[str], bytes], monkeypatch: pytest.MonkeyPatch, no_stencils: None
) -> None:
    far_return = "mov edx, cs\n push rdx\n lea rdx, [rip + 1f]\n push rdx\n retfq\n 1:"
    image = assemble_source(
        PROGRAM.replace("test eax, eax", f"lea rsp, [rip + stack]\n {far_return}")
        + ".bss\n .skip 256\n stack:"
    )
    monkeypatch.setattr(library, "kept", lambda: Forgetful(b"routine_return_code_segment"))
    monkeypatch.setattr(library, "host_compiler", lambda: Picky(lambda text: True))

    launched = launch(_options(image, "native"))
    ending = drive(launched.session, None)
    result = finish(launched, ending, None)

    assert isinstance(launched.session, BareSession)
    assert isinstance(launched.session.engine, native_engine.Native)
    assert _same(result, _run(image, "reference"))
    assert result.notes == ["some code runs slowly: routine_return_code_segment: refused"]


def test_an_arena_that_is_always_full_changes_no_result(
    assemble_source: Callable[[str], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = assemble_source(LONG)
    emptied = []
    real = native_engine.Native.forget_blocks

    def forget_blocks(engine: native_engine.Native) -> None:
        emptied.append(engine)
        real(engine)

    monkeypatch.setattr(native_engine.Native, "forget_blocks", forget_blocks)
    monkeypatch.setattr(native_engine, "Arena", lambda size: Arena(ROOM + (48 << 10)))

    result = _run(image, "native")

    assert len(emptied) >= 8
    assert _same(result, _run(image, "reference"))
