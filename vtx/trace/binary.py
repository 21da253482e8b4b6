"""Traces in the compact form: a magic number, then frames of msgpack.

A frame is its length (32 bits, little endian) and that many bytes of msgpack. The first frame is
the header as a map; every other is an array: the event kind's number (its place in KINDS), then
the event's fields in the order they are declared, trailing ones left out where they have their
default. Must not know files or buffering.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import msgspec

from vtx.trace.errors import TraceError
from vtx.trace.events import KINDS, Event, Header
from vtx.trace.headers import check_header

SUFFIX = ".vtxb"
MAGIC = b"\x89vtxb\r\n\x1a"
MAX_FRAME = 16 << 20
"""No frame of a trace is longer, in bytes."""

_NUMBER = {kind: number for number, kind in enumerate(KINDS)}
_FIELDS = tuple(kind.__struct_fields__ for kind in KINDS)
_DEFAULTS = tuple(
    tuple(
        info.default_factory() if info.default_factory is not msgspec.NODEFAULT else info.default
        for info in msgspec.structs.fields(kind)
    )
    for kind in KINDS
)


def encode_header(header: Header) -> bytes:
    """Magic number and header frame."""
    return MAGIC + _frame(header)


def encode_event(event: Event) -> bytes:
    """One event as a frame."""
    number = _NUMBER[type(event)]
    defaults = _DEFAULTS[number]
    values = msgspec.structs.astuple(event)
    length = len(values)
    while length and values[length - 1] == defaults[length - 1]:
        length -= 1
    return _frame((number, *values[:length]))


def _frame(value: object) -> bytes:
    payload = msgspec.msgpack.encode(value)
    return len(payload).to_bytes(4, "little") + payload


def read_header(file: BinaryIO, name: str) -> Header:
    """Magic number and header. Raises TraceError when this is no trace this vtx can read."""
    if file.read(len(MAGIC)) != MAGIC:
        raise TraceError(f"{name} is not a vtx trace: wrong magic number")
    try:
        payload = _payload(file, name)
    except EOFError:
        payload = None
    if payload is None:
        raise TraceError(f"{name} is not a vtx trace: its header is cut off")
    return check_header(_unpack(payload, name), name)


def read_events(file: BinaryIO, name: str) -> Iterator[Event]:
    """Events up to the end of the file.

    Raises EOFError when the last frame is cut short and TraceError when a frame is no event.
    """
    number = 0
    while (payload := _payload(file, name)) is not None:
        number += 1
        yield _event(_unpack(payload, name), f"{name}: event {number}")


def _payload(file: BinaryIO, name: str) -> bytes | None:
    """The next frame's bytes, None at the end of the file; EOFError when it is cut short."""
    prefix = file.read(4)
    if not prefix:
        return None
    length = int.from_bytes(prefix, "little")
    if len(prefix) == 4 and length > MAX_FRAME:
        raise TraceError(f"{name}: a frame of {length} bytes; the trace is damaged")
    payload = file.read(length)
    if len(prefix) < 4 or len(payload) < length:
        raise EOFError
    return payload


def _unpack(payload: bytes, name: str) -> object:
    try:
        return msgspec.msgpack.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise TraceError(f"{name}: the trace is damaged: {error}") from None


def _event(raw: object, where: str) -> Event:
    if not isinstance(raw, list) or not raw or not isinstance(raw[0], int):
        raise TraceError(f"{where}: not a trace event")
    number, values = raw[0], raw[1:]
    if not 0 <= number < len(KINDS):
        raise TraceError(f"{where}: unknown event kind {number}")
    try:
        return msgspec.convert(dict(zip(_FIELDS[number], values, strict=False)), KINDS[number])
    except msgspec.ValidationError as error:
        raise TraceError(f"{where}: not a trace event: {error}") from None
