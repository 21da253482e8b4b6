"""Ctrl-C while native code runs."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from vtx.engine.choice import native_problem

LOOPS = {
    "a jump to itself": "again: jmp again",
    "loads and stores": "again: inc qword ptr [rsp - 64]\nmov rax, [rsp - 64]\njmp again",
    "instructions that ask a device": "again: in al, 0x61\nrdtsc\njmp again",
}


def _may_be_interrupted() -> None:
    """A shell lets what it runs in the background ignore interrupts; so would this process."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS)
def test_an_endless_loop_ends_within_a_second(
    loop: str, assemble_source: Callable[[str], bytes], tmp_path: Path
) -> None:
    if native_problem() is not None:
        pytest.skip(f"no native engine here: {native_problem()}")
    image = tmp_path / "loop.elf"
    source = f".intel_syntax noprefix\n.code64\n.globl _start\n_start:\n{{}}\n{loop}\n"
    hello = "mov dx, 0x3f8\nmov al, 0x2a\nout dx, al\n"
    image.write_bytes(assemble_source(source.format(hello)))
    command = [sys.executable, "-m", "vtx", "run", "--engine", "native", "--vmm", "bare"]
    root = Path(__file__).parents[4]
    with subprocess.Popen(
        [*command, str(image)], cwd=root, env=os.environ | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=_may_be_interrupted,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None and process.stderr is not None
            assert process.stdout.read(1) == b"*"  # it runs
            time.sleep(0.5)
            sent = time.monotonic()
            process.send_signal(signal.SIGINT)
            status = process.wait(30)
            took = time.monotonic() - sent
            message = process.stderr.read().decode()
        finally:
            process.kill()  # or an interrupt that is lost would be waited for without end
    assert status == 130, message
    assert "interrupted after" in message
    assert "Traceback" not in message
    assert took < 5, "a second, and what a loaded machine adds"
