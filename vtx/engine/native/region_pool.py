"""The process that compiles regions for all engines of this one, from here.

It is started for the first region and ends with this process. Nothing waits for it: whoever
asked looks from time to time whether the answer is there.
"""

import atexit
import os
import pickle
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from vtx.engine.native.region_plan import CompiledRegion, Region
from vtx.engine.native.region_worker import LENGTH, packed

_START = "import sys; sys.path[:0] = sys.argv[1:]; import {module}; {module}.main()"
_WORKER = "vtx.engine.native.region_worker"
_ROOT = Path(__file__).resolve().parents[3]
_CHUNK = 1 << 20


@dataclass(slots=True)
class Request:
    """A region that is being compiled."""

    answer: CompiledRegion | str | None = None
    """None: not yet. A text says why it could not be compiled."""


class RegionPool:
    """One worker process and what was asked of it."""

    def __init__(self) -> None:
        self._worker: subprocess.Popen[bytes] | None = None
        self._requests: dict[int, Request] = {}
        self._number = 0
        self._received = bytearray()
        self._unsent = bytearray()

    def submit(self, region: Region) -> Request:
        """Have a region compiled."""
        self._number += 1
        request = self._requests[self._number] = Request()
        try:
            if self._worker is None:
                self._worker = _started()
            self._unsent += packed((self._number, region))
            self._send()
        except OSError as error:
            self._give_up(f"regions are not compiled: {error.strerror or error}")
        return request

    def look(self) -> None:
        """Take the answers that have come."""
        if self._worker is None:
            return
        try:
            self._send()
            self._receive(self._worker.stdout)
        except OSError as error:
            self._give_up(f"regions are not compiled: {error.strerror or error}")

    def _send(self) -> None:
        """Write what the pipe takes now."""
        assert self._worker is not None and self._worker.stdin is not None
        while self._unsent:
            try:
                count = os.write(self._worker.stdin.fileno(), self._unsent)
            except BlockingIOError:
                return
            del self._unsent[:count]

    def _receive(self, pipe: IO[bytes] | None) -> None:
        assert pipe is not None
        try:
            data = os.read(pipe.fileno(), _CHUNK)
        except BlockingIOError:
            return
        if not data:
            self._give_up("regions are not compiled: the process that did it has ended")
            return
        self._received += data
        while len(self._received) >= LENGTH.size:
            (size,) = LENGTH.unpack_from(self._received)
            end = LENGTH.size + size
            if len(self._received) < end:
                return
            number, answer = pickle.loads(self._received[LENGTH.size : end])
            del self._received[:end]
            self._requests.pop(number).answer = answer

    def _give_up(self, problem: str) -> None:
        """Nothing will be answered any more."""
        for request in self._requests.values():
            request.answer = problem
        self._requests.clear()
        self._unsent.clear()

    def close(self) -> None:
        """End the worker process."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.kill()
            worker.wait()
            for pipe in (worker.stdin, worker.stdout):
                if pipe is not None:
                    pipe.close()


def _started() -> subprocess.Popen[bytes]:
    """A new worker. Raises OSError."""
    worker = subprocess.Popen(
        [sys.executable, "-c", _START.format(module=_WORKER), str(_ROOT)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        start_new_session=True,  # a key that interrupts this process is not meant for it
    )
    for pipe in (worker.stdin, worker.stdout):
        assert pipe is not None
        os.set_blocking(pipe.fileno(), False)
    return worker


_pools: dict[int, RegionPool] = {}


def pool() -> RegionPool:
    """The pool of this process."""
    own = _pools.get(os.getpid())
    if own is None:
        own = _pools[os.getpid()] = RegionPool()
        atexit.register(own.close)
    return own
