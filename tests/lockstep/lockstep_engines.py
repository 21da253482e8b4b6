"""The engines that can be put in lock-step, by name."""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from vtx.engine.reference import Reference
from vtx.machine.cpu import Cpu

_CODE_CACHE = 16 << 20
"""Bytes: small enough that a campaign fills it now and then, and for several engines at once."""

Factory = Callable[[Cpu, frozenset[str]], Any]


def engine_of(name: str, cpu: Cpu, features: frozenset[str]) -> Any:
    """The engine called `name` for a CPU. Raises LookupError when it is not there."""
    if name in ("reference", "evaluate"):
        return Reference(cpu, features, quick=name == "reference")
    if not native_is_there():
        raise LookupError(f"there is no engine {name!r}")
    if name == "regions":  # every block that is met twice becomes a region
        return _native()(cpu, features, regions="eager", code_cache=_CODE_CACHE)
    return _native()(cpu, features, code_cache=_CODE_CACHE)


def factory(name: str) -> Factory:
    return lambda cpu, features: engine_of(name, cpu, features)


def native_is_there() -> bool:
    """The native engine can be imported."""
    try:
        if find_spec("llvmlite") is None:
            return False
        _native()
    except (ImportError, AttributeError):
        return False
    return True


def _native() -> Any:
    for place in ("vtx.engine.native", "vtx.engine.native.engine"):
        try:
            module = import_module(place)
        except ModuleNotFoundError as error:
            if not str(error.name).startswith("vtx.engine.native"):
                raise
            continue
        if hasattr(module, "Native"):
            return module.Native
    raise ImportError("vtx.engine.native has no class Native")
