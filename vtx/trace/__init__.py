"""Traces: what a run did, as typed events in a file that can be exchanged and replayed.

A trace is the only place where a run is observed. It names no engine and no wall-clock time, so
the same input gives the same bytes on every executor and every host. Must not know what the
machine is or how its events are shown: it imports nothing of the house but `vtx.spec`.
"""

from vtx.trace.disassemble import disassemble
from vtx.trace.errors import TraceError
from vtx.trace.events import (
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
    decode_exit_qualification,
    sha256,
)
from vtx.trace.reader import TraceReader, open_trace
from vtx.trace.writer import TraceWriter, create_trace

__all__ = [
    "End",
    "Event",
    "Exit",
    "Header",
    "Input",
    "Interrupt",
    "Module",
    "Note",
    "Probe",
    "Startup",
    "TraceError",
    "TraceReader",
    "TraceWriter",
    "create_trace",
    "decode_exit_qualification",
    "disassemble",
    "open_trace",
    "sha256",
]
