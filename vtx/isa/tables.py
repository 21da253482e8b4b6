"""Constant tables that programs look things up in (LOOKUP): registered once, by name."""

from collections.abc import Callable, Mapping

_BUILDERS: dict[str, Callable[[], Mapping[int, int]]] = {}
_TABLES: dict[str, Mapping[int, int]] = {}


def register_table(name: str, build: Callable[[], Mapping[int, int]]) -> None:
    """Make table `name` available; it is built when first used and never changes."""
    if name in _BUILDERS:
        raise ValueError(f"table {name} is registered twice")
    _BUILDERS[name] = build


def table(name: str) -> Mapping[int, int]:
    """Index -> value (KeyError when no such table is registered)."""
    if name not in _TABLES:
        _TABLES[name] = _BUILDERS[name]()
    return _TABLES[name]
