"""Checking a decoded header, whatever form it was stored in."""

from __future__ import annotations

import msgspec

from vtx.trace.errors import TraceError
from vtx.trace.events import FORMAT, VERSION, Header


class _Opening(msgspec.Struct):
    format: str
    version: int


def check_header(raw: object, name: str) -> Header:
    """`raw` as a Header. Raises TraceError for foreign formats and newer versions."""
    try:
        opening = msgspec.convert(raw, _Opening)
    except msgspec.ValidationError:
        raise TraceError(f"{name} is not a vtx trace: it has no trace header") from None
    if opening.format != FORMAT:
        raise TraceError(f"{name} is not a vtx trace: its format is {opening.format!r}")
    if opening.version > VERSION:
        newer = f"trace version {opening.version} is newer than version {VERSION}"
        raise TraceError(f"{name}: {newer}, which this vtx reads; use a newer vtx")
    try:
        return msgspec.convert(raw, Header)
    except msgspec.ValidationError as error:
        raise TraceError(f"{name}: bad trace header: {error}") from None
