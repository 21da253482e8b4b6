"""Traces as JSON Lines: the header on the first line, then one event a line.

Must not know files or buffering; it turns values into lines and lines into values.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import msgspec

from vtx.trace.errors import TraceError
from vtx.trace.events import KINDS, Event, Header
from vtx.trace.headers import check_header

SUFFIX = ".jsonl"
MAX_LINE = 16 << 20
"""No line of a trace is longer, in bytes: reading a foreign file must not fill memory."""

_EVENTS: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)


def encode_header(header: Header) -> bytes:
    """The first line of a trace."""
    return msgspec.json.encode(header) + b"\n"


def encode_event(event: Event) -> bytes:
    """One event as a line."""
    return msgspec.json.encode(event) + b"\n"


def read_header(file: BinaryIO, name: str) -> Header:
    """The header line. Raises TraceError when the file is no trace this vtx can read."""
    line = _line(file, name, 1)
    if not line:
        raise TraceError(f"{name} is empty, not a trace")
    try:
        raw = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        cut = "its header is cut off" if not line.endswith(b"\n") else "it has no trace header"
        raise TraceError(f"{name} is not a vtx trace: {cut}") from None
    return check_header(raw, name)


def read_events(file: BinaryIO, name: str) -> Iterator[Event]:
    """Events up to the end of the file.

    Raises EOFError when the last line is cut short and TraceError when a line is no event.
    """
    number = 1
    while True:
        number += 1
        line = _line(file, name, number)
        if not line:
            return
        if line.strip():
            yield _event(line, name, number)


def _line(file: BinaryIO, name: str, number: int) -> bytes:
    line = file.readline(MAX_LINE + 1)
    if len(line) > MAX_LINE:
        raise TraceError(f"{name}:{number}: a line longer than {MAX_LINE >> 20} MiB, not a trace")
    return line


def _event(line: bytes, name: str, number: int) -> Event:
    try:
        return _EVENTS.decode(line)
    except msgspec.ValidationError as error:
        kind = _foreign_kind(line)
        said = f"unknown event kind {kind!r}" if kind else f"not a trace event: {error}"
        raise TraceError(f"{name}:{number}: {said}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if not line.endswith(b"\n"):
            raise EOFError from None
        raise TraceError(f"{name}:{number}: not a trace event: {error}") from None


class _Tagged(msgspec.Struct):
    event: str


def _foreign_kind(line: bytes) -> str:
    """The event kind a line names where this version has none called so, else ""."""
    try:
        found = msgspec.json.decode(line, type=_Tagged).event
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""  # the line is broken further on, too
    known = {kind.__struct_config__.tag for kind in KINDS}
    return "" if found in known else found
