"""Writing a trace file so that, whenever writing stops, what is there can be read.

The file name chooses the form: `.vtxb` is binary, everything else JSON Lines. Must not know what
an event means.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from vtx.trace import binary, jsonl
from vtx.trace.errors import TraceError
from vtx.trace.events import End, Event, Header

BATCH = 64 << 10
"""Bytes of whole events gathered before they are handed to the file in one write."""


class TraceWriter:
    """Appends events to an open file, batch by batch, each batch of whole events."""

    def __init__(self, file: BinaryIO, header: Header, name: str, *, compact: bool = False) -> None:
        """`name` stands for the file in errors; `compact` takes the binary form."""
        self._file = file
        self._name = name
        self._encode = binary.encode_event if compact else jsonl.encode_event
        self._pending = bytearray((binary if compact else jsonl).encode_header(header))
        self.ended = False
        """Whether an End event was written."""
        self.flush()

    def write(self, event: Event) -> None:
        """Add one event. Raises TraceError when the file cannot be written."""
        self._pending += self._encode(event)
        if isinstance(event, End):
            self.ended = True
            self.flush()
        elif len(self._pending) >= BATCH:
            self.flush()

    def flush(self) -> None:
        """Hand all events so far to the operating system."""
        try:
            while self._pending:
                del self._pending[: self._file.write(self._pending)]
            self._file.flush()
        except OSError as error:
            raise TraceError(f"cannot write {self._name}: {error.strerror or error}") from None

    def close(self) -> None:
        """Flush and close the file."""
        try:
            self.flush()
        finally:
            self._file.close()

    def __enter__(self) -> TraceWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def create_trace(path: Path | str, header: Header) -> TraceWriter:
    """A new trace file, its header already written. Raises TraceError when it cannot be."""
    try:
        # Unbuffered: the writer's batches are the only buffer, so no event is ever half written
        # by a buffer that happened to fill.
        file: BinaryIO = open(path, "wb", buffering=0)  # noqa: SIM115
    except OSError as error:
        raise TraceError(f"cannot write {path}: {error.strerror or error}") from None
    return TraceWriter(file, header, str(path), compact=Path(path).suffix == binary.SUFFIX)
