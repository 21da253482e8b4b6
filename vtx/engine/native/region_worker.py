"""Compiles regions in a process of its own, beside the one that runs the guest.

LLVM would hold Python's lock for most of the time, and the guest would wait. The process reads
regions from its standard input and writes objects to its standard output, until the input ends.
Both sides are the same program: what goes through the pipes is pickled.
"""

import os
import pickle
import struct
import sys
from contextlib import suppress
from typing import Any, BinaryIO

from vtx.engine.native.compiler import CompileError

LENGTH = struct.Struct("<I")
"""Before every message, the number of its bytes."""
_POLITENESS = 5
"""The guest comes first where there are not enough cores for both."""


def packed(message: Any) -> bytes:
    """A message as it goes through a pipe."""
    body = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return LENGTH.pack(len(body)) + body


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer (number, region) with (number, compiled region or a line that says why not)."""
    # Not at the top: who starts this process imports this module, too, and needs no compiler.
    from vtx.engine.native.region_compile import compile_region

    while head := requests.read(LENGTH.size):
        number, region = pickle.loads(requests.read(*LENGTH.unpack(head)))
        try:
            answer: Any = compile_region(region)
        except CompileError as error:
            answer = str(error)
        answers.write(packed((number, answer)))
        answers.flush()


def main() -> None:
    """Serve the process that started this one."""
    os.nice(_POLITENESS)
    answers = sys.stdout.buffer
    sys.stdout = sys.stderr
    with suppress(BrokenPipeError, EOFError, KeyboardInterrupt):  # nobody waits any more
        serve(sys.stdin.buffer, answers)
