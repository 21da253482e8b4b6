"""Reading a trace in either form, one event at a time, up to its last whole event.

Must not know what an event means or who asks. The whole file is never in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from types import TracebackType

from vtx.trace import binary, jsonl
from vtx.trace.errors import TraceError
from vtx.trace.events import End, Event, Header


class TraceReader:
    """An open trace: its header, then its events by iterating once.

    After iterating, `count` is the number of whole events and `incomplete` says what the file
    lacks ("" for a whole trace).
    """

    header: Header

    def __init__(self, file: BufferedReader, name: str) -> None:
        """`file` is read from where it stands. Raises TraceError."""
        self._file = file
        self.name = name
        self.count = 0
        self.incomplete = ""
        self._form = binary if file.peek(1)[:1] == binary.MAGIC[:1] else jsonl
        self.header = self._form.read_header(file, name)

    def __iter__(self) -> Iterator[Event]:
        """The events in order. Raises TraceError at the first thing that is no event."""
        ended = False
        try:
            for event in self._form.read_events(self._file, self.name):
                self.count += 1
                ended = isinstance(event, End)
                yield event
        except EOFError:
            self.incomplete = f"{self.name} is cut short after event {self.count}"
        except OSError as error:
            raise TraceError(f"cannot read {self.name}: {error.strerror or error}") from None
        else:
            if not ended:
                self.incomplete = f"{self.name} has no end event after event {self.count}"

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> TraceReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def open_trace(path: Path | str) -> TraceReader:
    """Open a trace of either form. Raises TraceError when it is none or cannot be read."""
    try:
        file = open(path, "rb")  # noqa: SIM115
    except OSError as error:
        raise TraceError(f"cannot read {path}: {error.strerror or error}") from None
    try:
        return TraceReader(file, str(path))
    except OSError as error:
        file.close()
        raise TraceError(f"cannot read {path}: {error.strerror or error}") from None
    except TraceError:
        file.close()
        raise
