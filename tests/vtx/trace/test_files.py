"""Both forms of a trace file, written and read: whole, cut short, damaged and foreign."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vtx.trace import (
    End,
    Event,
    Exit,
    Header,
    Input,
    Interrupt,
    Module,
    Note,
    Probe,
    Startup,
    TraceError,
    TraceReader,
    TraceWriter,
    binary,
    create_trace,
    jsonl,
    open_trace,
)
from vtx.trace.writer import BATCH

HEADER = Header(
    image_sha256="0" * 64,
    style="ept",
    cpu="haswell",
    memory=64 << 20,
    command_line="quiet",
    modules=(Module("a.bin x", "1" * 64),),
)
EVENTS: tuple[Event, ...] = (
    Input(now=0, data=b"\x00\xffhi"),
    Exit(
        seq=0,
        retired=12,
        vcpu=0,
        reason="EPT_VIOLATION",
        number=48,
        qualification=0x181,
        rip=0xFFFF_8000_0000_1000,
        decoded={"read": 1},
        symbol="main+0x4",
        instruction_bytes="8b07",
        instruction_text="mov eax, [rdi]",
        gla=0,
        gpa=0xFEE0_0000,
        action="complete",
        action_text="LAPIC read",
        vmcs_changes={"GUEST_RIP": 0xFFFF_8000_0000_1002},
        register_changes={"RAX": 0xFFFF_FFFF_FFFF_FFFF},
    ),
    Interrupt(retired=20, vector=0x20, how="injected"),
    Note(retired=21, text="two\nlines"),
    Probe(retired=22, rip=0xFFFF_8000_0000_2000, symbol="fork", cr3=0x10_5000),
    Startup(retired=23, how="init", vcpu=1),
    Startup(retired=23, how="startup", vcpu=1, vector=0x9A),
    End(retired=30, ended="power_off", exit_status=0, memory_sha256="2" * 64),
)
FORMS = pytest.mark.parametrize("suffix", [".jsonl", ".vtxb"])

words = st.integers(0, 2**64 - 1)
names = st.text(max_size=12)
maybe = st.none() | words
changes = st.dictionaries(names, words, max_size=3)
exits = st.builds(
    Exit,
    seq=words,
    retired=words,
    vcpu=words,
    reason=names,
    number=words,
    qualification=words,
    rip=words,
    entry_failure=st.booleans(),
    decoded=changes,
    symbol=names,
    instruction_bytes=names,
    instruction_text=names,
    instruction_length=maybe,
    instruction_info=maybe,
    gla=maybe,
    gpa=maybe,
    intr_info=maybe,
    intr_error=maybe,
    idt_vectoring_info=maybe,
    idt_vectoring_error=maybe,
    action=names,
    action_text=names,
    vmcs_changes=changes,
    register_changes=changes,
)
events = (
    exits
    | st.builds(Input, now=words, data=st.binary(max_size=20))
    | st.builds(
        Interrupt,
        retired=words,
        vector=words,
        how=st.sampled_from(["delivered", "injected"]),
        vcpu=words,
    )
    | st.builds(Note, retired=words, text=names)
    | st.builds(Probe, retired=words, rip=words, symbol=names, cr3=words, vcpu=words)
    | st.builds(
        Startup,
        retired=words,
        how=st.sampled_from(["init", "startup"]),
        vcpu=words,
        vector=words,
    )
    | st.builds(End, retired=words, ended=names, exit_status=words, memory_sha256=names)
)


def trace_bytes(written: list[Event] | tuple[Event, ...], compact: bool) -> bytes:
    file = io.BytesIO()
    writer = TraceWriter(file, HEADER, "t", compact=compact)
    for event in written:
        writer.write(event)
    writer.flush()
    return file.getvalue()


def read(data: bytes) -> tuple[list[Event], str]:
    reader = TraceReader(io.BufferedReader(io.BytesIO(data)), "t")
    return list(reader), reader.incomplete


@FORMS
def test_what_was_written_is_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"trace{suffix}"
    with create_trace(path, HEADER) as writer:
        for event in EVENTS:
            writer.write(event)

    with open_trace(path) as reader:
        assert reader.header == HEADER
        assert tuple(reader) == EVENTS
        assert (reader.count, reader.incomplete) == (len(EVENTS), "")


@given(st.lists(events, max_size=4), st.booleans())
@settings(max_examples=150, deadline=None)
def test_any_events_survive_both_forms(written: list[Event], compact: bool) -> None:
    assert read(trace_bytes(written, compact))[0] == written


@given(events)
@settings(max_examples=100, deadline=None)
def test_a_line_is_the_json_of_its_event(event: Event) -> None:
    line = jsonl.encode_event(event)

    assert line.endswith(b"\n") and line.count(b"\n") == 1
    assert msgspec.json.decode(line, type=Event) == event


def test_the_binary_form_is_the_smaller_one() -> None:
    assert len(trace_bytes(EVENTS, True)) < len(trace_bytes(EVENTS, False)) * 0.7


def test_the_same_events_give_the_same_bytes() -> None:
    for compact in (False, True):
        assert trace_bytes(EVENTS, compact) == trace_bytes(EVENTS, compact)


def test_the_header_line_names_format_and_version() -> None:
    first = msgspec.json.decode(trace_bytes(EVENTS, False).splitlines()[0])

    assert (first["format"], first["version"]) == ("vtx-trace", 1)
    assert (first["style"], first["cpu"], first["memory"]) == ("ept", "haswell", 64 << 20)


@pytest.mark.parametrize("compact", [False, True])
def test_a_trace_cut_anywhere_reads_up_to_its_last_whole_event(compact: bool) -> None:
    whole = trace_bytes(EVENTS, compact)
    boundaries = [len(trace_bytes(EVENTS[:count], compact)) for count in range(len(EVENTS) + 1)]
    for size in range(boundaries[0], len(whole)):
        found, incomplete = read(whole[:size])

        expected = sum(1 for boundary in boundaries[1:] if boundary <= size)
        # A last line that lacks nothing but its line break is whole.
        if not compact and size + 1 in boundaries:
            expected += 1
        assert found == list(EVENTS[:expected])
        assert bool(incomplete) == (expected < len(EVENTS))


@pytest.mark.parametrize("compact", [False, True])
def test_a_trace_cut_in_its_header_is_refused_in_one_line(compact: bool) -> None:
    header = trace_bytes((), compact)
    for size in range(len(header) - 1):
        with pytest.raises(TraceError) as caught:
            read(header[:size])
        assert "\n" not in str(caught.value)


def test_what_a_cut_trace_lacks_is_said() -> None:
    whole = trace_bytes(EVENTS, False)

    assert read(whole[:-5])[1] == "t is cut short after event 7"
    assert read(whole[: whole.rindex(b"\n", 0, -1) + 1])[1] == "t has no end event after event 7"


@given(st.data(), st.booleans())
@settings(max_examples=300, deadline=None)
def test_a_damaged_trace_gives_events_or_a_trace_error(data: st.DataObject, compact: bool) -> None:
    damaged = bytearray(trace_bytes(EVENTS, compact))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        found, _ = read(bytes(damaged))
    except TraceError as error:
        assert "\n" not in str(error)
    else:
        assert len(found) <= len(EVENTS)


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_foreign_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(TraceError):
        read(data)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'{"event":"teleport"}', "t:2: unknown event kind 'teleport'"),
        (b'{"retired":1}', "t:2: not a trace event"),
        (b"{nonsense}", "t:2: not a trace event"),
        (b'{"event":"note","retired":"x","text":"y"}', "t:2: not a trace event"),
        (b"[1]", "t:2: not a trace event"),
        (b"\xff\xfe", "t:2: not a trace event"),
    ],
)
def test_a_line_that_is_no_event_is_named_by_number(line: bytes, said: str) -> None:
    with pytest.raises(TraceError) as caught:
        read(trace_bytes((), False) + line + b"\n")

    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([9, 1], "unknown event kind 9"),
        ([-1], "unknown event kind -1"),
        ([3, 1], "not a trace event"),
        ({}, "not a trace event"),
        ([], "not a trace event"),
    ],
)
def test_a_frame_that_is_no_event_is_refused(value: object, said: str) -> None:
    payload = msgspec.msgpack.encode(value)
    with pytest.raises(TraceError, match=said):
        read(trace_bytes((), True) + len(payload).to_bytes(4, "little") + payload)


@pytest.mark.parametrize("compact", [False, True])
def test_a_newer_version_is_refused_by_name(compact: bool) -> None:
    newer = msgspec.structs.replace(HEADER, version=2)
    data = (binary if compact else jsonl).encode_header(newer)

    with pytest.raises(TraceError, match="trace version 2 is newer than version 1"):
        read(data)


def test_a_foreign_format_is_refused_by_name() -> None:
    with pytest.raises(TraceError, match="its format is 'qemu-trace'"):
        read(b'{"format":"qemu-trace","version":1}\n')


def test_a_header_without_its_fields_is_refused() -> None:
    with pytest.raises(TraceError, match="bad trace header"):
        read(b'{"format":"vtx-trace","version":1}\n')


def test_a_line_without_end_is_refused_before_it_fills_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(jsonl, "MAX_LINE", 1000)
    with pytest.raises(TraceError, match="t:2: a line longer"):
        read(trace_bytes((), False) + b" " * 2000)


class Endless(io.RawIOBase):
    """A trace of notes that never ends; `given` counts the bytes that were asked for."""

    def __init__(self, compact: bool) -> None:
        self._chunks = self._make(compact)
        self._left = b""
        self.given = 0

    def _make(self, compact: bool) -> Iterator[bytes]:
        form = binary if compact else jsonl
        yield form.encode_header(HEADER)
        number = 0
        while True:
            yield form.encode_event(Note(retired=number, text="again"))
            number += 1

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        while not self._left:
            self._left = next(self._chunks)
        size = min(len(view), len(self._left))
        view[:size] = self._left[:size]
        self._left = self._left[size:]
        self.given += size
        return size


@pytest.mark.parametrize("compact", [False, True])
def test_reading_streams(compact: bool) -> None:
    endless = Endless(compact)
    reader = TraceReader(io.BufferedReader(endless), "t")
    stream = iter(reader)

    assert [next(stream) for _ in range(50)][-1] == Note(retired=49, text="again")
    assert endless.given < 64 << 10


def test_a_run_that_dies_leaves_its_whole_batches(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    writer = create_trace(path, HEADER)
    for number in range(2 * BATCH // 50):
        writer.write(Note(retired=number, text="x" * 50))

    with open_trace(path) as reader:  # the writer was neither closed nor flushed
        found = list(reader)
    assert found == [Note(retired=number, text="x" * 50) for number in range(len(found))]
    assert len(found) > BATCH // 200
    assert "no end event" in reader.incomplete
    writer.close()


def test_the_end_is_in_the_file_before_the_file_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "t.vtxb"
    writer = create_trace(path, HEADER)
    writer.write(EVENTS[-1])

    assert writer.ended
    with open_trace(path) as reader:
        assert list(reader) == [EVENTS[-1]]
    writer.close()


class Reluctant(io.RawIOBase):
    """A file that takes three bytes at a time, as a raw file may."""

    def __init__(self) -> None:
        self.data = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        piece = bytes(data)[:3]  # type: ignore[call-overload]
        self.data += piece
        return len(piece)


def test_a_file_that_takes_less_than_it_was_given_gets_the_rest() -> None:
    file = Reluctant()
    writer = TraceWriter(file, HEADER, "t")  # type: ignore[arg-type]
    for event in EVENTS:
        writer.write(event)
    writer.flush()

    assert bytes(file.data) == trace_bytes(EVENTS, False)


def test_files_that_cannot_be_opened_are_one_line(tmp_path: Path) -> None:
    missing = tmp_path / "no" / "such.jsonl"

    with pytest.raises(TraceError, match=r"^cannot read .*such.jsonl: No such file or directory$"):
        open_trace(missing)
    with pytest.raises(TraceError, match=r"^cannot write .*such.jsonl: No such file"):
        create_trace(missing, HEADER)
    with pytest.raises(TraceError, match="Is a directory"):
        open_trace(tmp_path)


def test_a_full_disk_is_one_line() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    with pytest.raises(TraceError, match="cannot write /dev/full: No space left"):
        create_trace("/dev/full", HEADER)
