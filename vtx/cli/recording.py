"""The trace file of one run: begun before it, ended however it ends.

Must not know what the events mean.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import UNSET

from vtx.cli.errors import INTERRUPTED, as_input_errors
from vtx.trace import End, Event, Header, Module, TraceError, TraceWriter, create_trace, sha256

if TYPE_CHECKING:
    from vtx.vmm.launch import RunOptions, RunResult


class Recording:
    """Events go to the file as they come; `finish` adds the end where the run did not."""

    def __init__(self, writer: TraceWriter) -> None:
        self._writer = writer
        self._retired = 0

    def record(self, event: Event) -> None:
        """Write one event."""
        self._retired = max(self._retired, getattr(event, "retired", 0))
        self._writer.write(event)

    def finish(self, result: RunResult) -> None:
        """Write how the run ended, unless the run has said so itself."""
        if not self._writer.ended:
            end = End(
                retired=result.retired,
                ended=result.ended,
                exit_status=result.exit_status,
                memory_sha256=result.memory_sha256,
            )
            self._writer.write(end)

    def give_up(self) -> None:
        """Write that the run was stopped from outside, after the last event recorded."""
        if not self._writer.ended:
            self._writer.write(
                End(
                    retired=self._retired,
                    ended="interrupted",
                    exit_status=INTERRUPTED,
                    memory_sha256="",
                )
            )


@contextmanager
def recording(path: Path | None, options: RunOptions) -> Iterator[Recording | None]:
    """Record to `path`, if there is one. Raises InputError when it cannot be written."""
    if path is None:
        yield None
        return
    with as_input_errors(TraceError), create_trace(path, header_of(options)) as writer:
        record = Recording(writer)
        try:
            yield record
        except (KeyboardInterrupt, BrokenPipeError):
            record.give_up()
            raise


def header_of(options: RunOptions) -> Header:
    """What the trace of this run is of; a style that was left open is named."""
    from vtx.machine.cpu_model import cpu_model
    from vtx.vmm.styles import resolve_style

    style = options.style
    if style == "auto":
        style = resolve_style(style, cpu_model(options.cpu), options.cpus)[0].name
    return Header(
        image_sha256=sha256(options.image),
        style=style,
        cpu=options.cpu,
        memory=options.memory,
        command_line=options.append,
        modules=tuple(Module(text, sha256(data)) for data, text in options.modules),
        initrd_sha256=None if options.initrd is None else sha256(options.initrd),
        cpus=UNSET if options.cpus == 1 else options.cpus,
    )
