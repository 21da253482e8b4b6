"""The executors by name, and which of them this host has.

Whoever builds a machine asks here for its executor; nothing else needs to know which there are.
"""

from collections.abc import Sequence

from vtx.engine.reference import Reference
from vtx.machine.cpu import Cpu

CODE_CACHE = 64 << 20
"""Bytes of native code kept at most by one engine, if nobody says otherwise."""
LEAST_CODE_CACHE = 5 << 20
"""What the native engine's own routines take, and room for blocks."""
MOST_CODE_CACHE = 1 << 30
"""Native code reaches all of it by 32-bit distances."""

NAMES = ("auto", "native", "reference", "evaluate")
"""What `--engine` takes. `evaluate` is the reference engine with its plain reader."""


def native_problem() -> str | None:
    """Why the native engine cannot be used here; None when it can."""
    from vtx.engine.native.compiler import CompileError, available, host_compiler
    from vtx.engine.native.library import is_kept

    if available() and is_kept():
        return None  # LLVM takes long to load, and may not be needed
    try:
        host_compiler()
    except CompileError as error:
        return str(error)
    return None


def resolve_engine(name: str) -> tuple[str, str | None]:
    """The executor meant by `name`, and a line to tell when it is not what was hoped for.

    Raises ValueError for a name that is none, or an executor that this host cannot run.
    """
    if name not in NAMES:
        raise ValueError(f"--engine {name}: there are {', '.join(NAMES)}")
    if name not in ("auto", "native"):
        return name, None
    problem = native_problem()
    if problem is None:
        return "native", None
    if name == "native":
        raise ValueError(f"--engine native: {problem}")
    return "reference", f"the reference engine is used: {problem}"


class Substitute(Reference):
    """The reference engine where the native one was asked for and cannot be made."""

    def __init__(self, cpu: Cpu, features: frozenset[str], problem: str) -> None:
        super().__init__(cpu, features)
        self._problem = problem

    @property
    def problem(self) -> str | None:
        return self._problem


def make_engine(
    name: str, cpu: Cpu, features: frozenset[str], *, code_cache: int = CODE_CACHE
) -> Reference:
    """The executor `name`, one that `resolve_engine` gave, for a CPU.

    `code_cache` is in bytes, for an engine that makes native code.
    """
    if name == "native":
        from vtx.engine.native.arena import ArenaError
        from vtx.engine.native.compiler import CompileError
        from vtx.engine.native.engine import Native

        try:
            return Native(cpu, features, code_cache=code_cache)
        except (ArenaError, CompileError) as error:
            return Substitute(cpu, features, str(error))
    return Reference(cpu, features, quick=name == "reference")


def make_engines(
    name: str, cpus: Sequence[Cpu], features: frozenset[str], *, code_cache: int = CODE_CACHE
) -> list[Reference]:
    """An executor for each CPU of a machine, all of the kind `name`.

    They share `code_cache` evenly, but for the least that each one needs.
    """
    share = max(LEAST_CODE_CACHE, code_cache // len(cpus))
    return [make_engine(name, cpu, features, code_cache=share) for cpu in cpus]


def completing(name: str) -> str:
    """The executor that completes single instructions for a VMM beside the executor `name`.

    One instruction at a time gains nothing from native code.
    """
    return "reference" if name == "native" else name
