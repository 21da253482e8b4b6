"""The engines that a test runs on, as parameters: each of them has to do the same.

A test of single instructions asks for `OneByOne`, which delivers nothing.
"""

from collections.abc import Callable

import pytest

from vtx.engine.choice import make_engine, native_problem
from vtx.engine.evaluate import Evaluator
from vtx.engine.generate import Step, compile_block
from vtx.engine.namespace import Namespace
from vtx.engine.reference import Reference
from vtx.engine.translate import translate_bytes
from vtx.isa.key import Key, current_key
from vtx.machine.cpu import Cpu

_PROBLEM = native_problem()
NEEDS_NATIVE = pytest.mark.skipif(_PROBLEM is not None, reason=f"no native engine: {_PROBLEM}")
NATIVE = pytest.param("native", marks=NEEDS_NATIVE)
ENGINES = ["reference", "evaluate", NATIVE]
EVERY_ENGINE = pytest.mark.parametrize("engine", ENGINES)
QUICK_ENGINES = pytest.mark.parametrize("engine", ["reference", NATIVE])
"""For what the evaluator would take too long."""

Run = Callable[[], int]


class OneByOne:
    """Runs single instructions of one CPU, given by their bytes, on the engine `name`."""

    def __init__(
        self, name: str, cpu: Cpu, features: frozenset[str], engine: Reference | None = None
    ) -> None:
        """`engine` is the one that the CPU has, if it has one. It translates addresses, too."""
        self._cpu, self._features = cpu, features
        engine = engine or make_engine(name, cpu, features)
        self._compile = {
            "reference": self._generated, "evaluate": self._evaluated, "native": self._native,
        }[name]  # fmt: skip
        self._known: dict[tuple[bytes, Key], Run] = {}
        self.in_python: set[bytes] = set()
        """What the native engine was given and left to the reference's way."""
        self._names, self._evaluator = Namespace(cpu), Evaluator(cpu)
        if name == "native":
            from tests.vtx.native_runner import NativeRunner
            from vtx.engine.native.engine import Native

            assert isinstance(engine, Native)
            self.runner = NativeRunner(engine)

    def run(self, code: bytes) -> int:
        """Run the instruction `code` begins with as if it lay at RIP; how it ended."""
        place = code, current_key(self._cpu.words)
        execute = self._known.get(place)
        if execute is None:
            execute = self._known[place] = self._compile(*place)
        return execute()

    def _step(self, code: bytes, key: Key) -> tuple[Step, int]:
        """The instruction's program, and the mask of instruction pointers."""
        one = translate_bytes(code, key, self._features)
        assert one is not None, f"{code.hex()} is not a whole instruction"
        mask = 0xFFFF_FFFF_FFFF_FFFF if key.bits == 64 else 0xFFFF_FFFF
        return Step(one.program, 0, one.length), mask

    def _generated(self, code: bytes, key: Key) -> Run:
        step, mask = self._step(code, key)
        self._names.need(step.program.ops)
        run: Run = self._names.block(compile_block([step], mask, "<one>"))
        return run

    def _evaluated(self, code: bytes, key: Key) -> Run:
        step, mask = self._step(code, key)

        def run() -> int:
            next_ip = (self._cpu.state.read("rip") + step.length) & mask
            return self._evaluator.instruction(step.program, next_ip)

        return run

    def _native(self, code: bytes, key: Key) -> Run:
        if not self.runner.is_native(code, key):
            self.in_python.add(code)
            return self._generated(code, key)
        return lambda: self.runner.run(code)
