"""Whole pages are reused where nothing they depend on differs, and never otherwise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from vtx.engine.choice import native_problem
from vtx.engine.native import page_cache
from vtx.engine.native.engine import Native
from vtx.engine.native.page_records import PageRecords, Part, Record, is_possible, load
from vtx.engine.native.store import Store
from vtx.vmm.launch import RunOptions, drive, launch

pytestmark = [
    pytest.mark.skipif(native_problem() is not None, reason=str(native_problem())),
    pytest.mark.skipif(
        native_problem() is None and not is_possible(),
        reason="records of pages have the fields of x86-64 only",
    ),
]

PROGRAM = """
        .intel_syntax noprefix
        .code64
        .globl _start
_start: lea rsp, [rip + stack]
        mov ecx, 40
        xor eax, eax
        xor ebx, ebx
again:  push rcx
        add eax, ecx
        mov [rip + word], eax
        call next
        pop rcx
        loop again
        CHANGE
        mov esi, 2
twice:  call patched
        mov byte ptr [rip + patched + 1], 9
        dec esi
        jnz twice
        mov al, 0x10
        out 0xf4, al
next:   imul ebx, ebx, NUMBER
        add ebx, [rip + word]
        ret
patched: mov dl, 1
        add edi, edx
        ret
        .bss
        .skip 256
stack:
word:   .skip 8
"""
CHANGED = "mov byte ptr [rip + next + 2], 11\n xor ecx, ecx\n call next"
Outcome = tuple[object, int, int]
Run = Callable[..., Outcome]


@pytest.fixture
def run(assemble_source: Callable[[str], bytes], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the program; registers and memory, blocks reused."""

    def go(records: PageRecords | None, number: int = 3, change: str = "") -> Outcome:
        text = PROGRAM.replace("NUMBER", str(number)).replace("CHANGE", change)
        if records is not None:
            monkeypatch.setattr(page_cache, "page_records", lambda: records)
        engine = "reference" if records is None else "native"
        options = RunOptions(
            assemble_source(text), "pages", engine=engine, style="bare", memory=4 << 20
        )
        session = launch(options).session
        ending = drive(session, 100_000)
        assert ending.how == "debug_exit"
        reused = session.engine._pages.reused if isinstance(session.engine, Native) else 0
        memory = session.memory(0, 4 << 20)
        return (session.registers(), memory), session.retired, reused

    return go


def records_in(directory: Path, limit: int = 1 << 20) -> PageRecords:
    """What a new process would have."""
    return PageRecords(Store(directory, "pages", "version", limit))


def test_a_second_engine_reuses_the_blocks_of_the_first_and_does_the_same(
    run: Run, tmp_path: Path
) -> None:
    records = records_in(tmp_path)
    first, second = run(records), run(records)

    assert second[2] > first[2] + 3
    assert first[:2] == second[:2] == run(None)[:2]


def test_another_process_reuses_what_was_saved(run: Run, tmp_path: Path) -> None:
    records = records_in(tmp_path)
    first = run(records)
    records.save()
    second = run(records_in(tmp_path))

    assert second[2] > first[2] + 3
    assert first[:2] == second[:2]


def test_a_page_with_another_byte_is_not_reused(run: Run, tmp_path: Path) -> None:
    alone = run(records_in(tmp_path / "empty"), number=5)
    records = records_in(tmp_path)
    run(records, number=3)
    other = run(records, number=5)

    assert other[2] == alone[2]
    assert other[:2] == run(None, number=5)[:2]


def test_a_store_into_reused_code_is_noticed(run: Run, tmp_path: Path) -> None:
    records = records_in(tmp_path)
    first = run(records, change=CHANGED)
    again = run(records, change=CHANGED)

    assert again[2] > first[2] + 3
    assert again[:2] == first[:2] == run(None, change=CHANGED)[:2]


@pytest.mark.parametrize("damage", ["gone", "empty", "cut", "changed"])
def test_a_lost_or_damaged_file_costs_time_only(run: Run, tmp_path: Path, damage: str) -> None:
    records = records_in(tmp_path)
    first = run(records)
    records.save()
    path = tmp_path / "pages.cache"
    content = path.read_bytes()
    middle = len(content) // 2
    if damage == "gone":
        path.unlink()
    else:
        flipped = bytes([content[middle] ^ 1])
        path.write_bytes(
            {
                "empty": b"",
                "cut": content[:middle],
                "changed": content[:middle] + flipped + content[middle + 1 :],
            }[damage]
        )
    afterwards = records_in(tmp_path)
    second = run(afterwards)
    assert first[:2] == second[:2]

    afterwards.save()
    assert run(records_in(tmp_path))[2] > first[2] + 3


def test_the_file_stays_within_its_limit(run: Run, tmp_path: Path) -> None:
    records = records_in(tmp_path, limit=8192)
    for number in range(3, 9):
        run(records, number=number)
    records.save()

    assert (tmp_path / "pages.cache").stat().st_size <= 8192


@pytest.mark.parametrize("raw", [b"", b"nothing", b"i\x01\x00\x00\x00", b")\x00"])
def test_what_is_no_record_is_no_record(raw: bytes) -> None:
    assert load(raw) is None


BEYOND = (1 << 20).to_bytes(4, "little")


@pytest.mark.parametrize(
    "damage",
    [
        lambda part: part._replace(calls=BEYOND + part.calls[4:]),
        lambda part: part._replace(calls=part.calls[:4] + BEYOND + part.calls[8:]),
        lambda part: part._replace(links=BEYOND + part.links[4:]),
        lambda part: part._replace(links=part.links[:12] + BEYOND + part.links[16:]),
        lambda part: part._replace(blocks=BEYOND + part.blocks[4:]),
        lambda part: part._replace(blocks=part.blocks[:4] + BEYOND + part.blocks[8:]),
        lambda part: part._replace(blocks=part.blocks[:20] + BEYOND + part.blocks[24:]),
        lambda part: part._replace(names=()),
        lambda part: part._replace(blocks=b""),
    ],
)
def test_a_part_that_leads_outside_itself_is_not_used(
    run: Run, tmp_path: Path, damage: Callable[[Part], Part]
) -> None:
    class Damaged(PageRecords):
        def get(self, name: bytes) -> Record | None:
            record = super().get(name)
            return None if record is None else tuple(map(damage, record))

    store = Store(tmp_path, "pages", "version", 1 << 20)
    first = run(PageRecords(store))
    links = [part.links for raw in stored(store) for part in load(raw) or ()]
    second = run(Damaged(store))

    assert second[:2] == first[:2] == run(None)[:2]
    assert second[2] <= first[2] or not all(links)


def stored(store: Store) -> list[bytes]:
    """What it holds."""
    return [bytes(value) for value, _ in store._loaded().records.values()]


def test_what_a_jump_leads_to_is_translated_before_it_is_run(
    assemble_source: Callable[[str], bytes],
) -> None:
    text = """
        .intel_syntax noprefix
        .code64
        .globl _start
_start: call inner
        xor eax, eax
        jz taken
        add ebx, 5
        jmp taken
inner:  ret
taken:  mov al, 0x10
        out 0xf4, al
        """
    # Whoever runs it first lets native code know its instructions; the second knows them.
    for _ in range(2):
        options = RunOptions(assemble_source(text), "x", engine="native", style="bare")
        session = launch(options).session
        assert drive(session, 1000).how == "debug_exit"
    engine = session.engine
    assert isinstance(engine, Native)
    (views,) = engine._pages._views.values()
    blocks = [batch.blocks for view in views.values() for batch in view.batches]
    assert len(blocks) < sum(len(words) // 8 for words in blocks)
    assert len(engine._translations._blocks) < sum(len(words) // 8 for words in blocks)


BESIDE = """
        .intel_syntax noprefix
        .code64
        .globl _start
_start: xor ebx, ebx
first:  inc ebx
        cmp ebx, 3
        jae out
        mov dword ptr [rip + datum], 7
        lea rax, [rip + second]
        jmp rax
out:    mov al, 0x10
        out 0xf4, al
        .balign 64
datum:  .long INITIAL
        .balign 64
second: add esi, 1
        add esi, 2
        add esi, 3
        add esi, 4
        add esi, 5
        add esi, 6
        add esi, 7
        add esi, 8
        jmp first
"""


def test_a_jump_to_code_that_its_record_does_not_have_waits_for_it(
    assemble_source: Callable[[str], bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # `second` is met once the datum beside it has changed: its record has nothing of `first`.
    records = records_in(tmp_path)
    monkeypatch.setattr(page_cache, "page_records", lambda: records)
    ends = []
    for engine, initial in (("native", 1), ("native", 1), ("native", 7), ("reference", 7)):
        image = assemble_source(BESIDE.replace("INITIAL", str(initial)))
        session = launch(RunOptions(image, "x", engine=engine, style="bare")).session
        assert drive(session, 1000).how == "debug_exit"
        ends.append((session.registers(), session.retired))
    assert ends[1:] == ends[:-1]
