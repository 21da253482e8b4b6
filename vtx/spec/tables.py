"""Find and read the TOML tables of `spec/`, and look rows up by name with a helpful refusal.

Knows where the tables live and how a table becomes typed rows. Must not know what any table
is about: the modules beside this one give the rows their types and meaning.
"""

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

Row = TypeVar("Row")
Value_co = TypeVar("Value_co", covariant=True)


class SpecError(LookupError):
    """A name or number that no table has, or a table that cannot be read. One line of text."""


@cache
def tables_directory() -> Path:
    """The directory of the tables: package data in a wheel, `spec/` at the top of a checkout."""
    package = Path(__file__).resolve().parents[1]
    for place in (package / "_data" / "spec", package.parent / "spec"):
        if (place / "vmcs_fields.toml").is_file():
            return place
    raise SpecError(f"no spec tables beside the package at {package}; reinstall vtx")


@cache
def read_table(name: str) -> dict[str, Any]:
    """The parsed content of `spec/<name>.toml`. Raises SpecError when it is missing or broken."""
    path = tables_directory() / f"{name}.toml"
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SpecError(f"spec table {name}.toml is missing from {path.parent}") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SpecError(f"spec table {path.name}: {error}") from None


def rows(table: str, key: str, row_type: type[Row]) -> tuple[Row, ...]:
    """The rows `key` of a table as values of `row_type`, checked against its annotations."""
    raw = read_table(table).get(key, [])
    return tuple(typed(row, row_type, f"{table}.toml, {key}[{i}]") for i, row in enumerate(raw))


def typed(raw: object, row_type: type[Row], where: str) -> Row:
    """One raw row as a value of `row_type`; SpecError names the place `where` when it misfits."""
    try:
        return msgspec.convert(raw, row_type)
    except msgspec.ValidationError as error:
        raise SpecError(f"spec table {where}: {error}") from None


def lookup(what: str, index: Mapping[str, Row], name: str) -> Row:
    """The row called `name` (any case), or SpecError naming the nearest spellings."""
    found = index.get(name)
    if found is None:
        found = index.get(name.upper())
    if found is None:
        raise SpecError(no_such(what, name, index))
    return found


def no_such(what: str, name: str, known: Iterable[str]) -> str:
    """One line: there is no `what` called `name`, with up to three close spellings."""
    folded = {spelling.upper(): spelling for spelling in known}
    close = difflib.get_close_matches(name.upper(), folded, n=3, cutoff=0.6)
    if not close:
        close = [upper for upper in folded if name and name.upper() in upper][:3]
    hint = f"; did you mean {', '.join(folded[match] for match in close)}?" if close else ""
    return f"no {what} is called {name!r}{hint}"


def number_in(text: str) -> int | None:
    """The number `text` spells (decimal, 0x, 0b or 0o), or None when it spells none."""
    try:
        return int(text, 0)
    except ValueError:
        return None


class Names(Generic[Value_co]):
    """Attribute access to a table by name: `FIELDS.GUEST_RIP`. The table is read on first use."""

    def __init__(self, what: str, values: Any) -> None:
        """`values()` returns a mapping from name to value; `what` names its rows in errors."""
        self._what = what
        self._values = values

    def __getattr__(self, name: str) -> Value_co:
        if name.startswith("__"):
            raise AttributeError(name)
        values: Mapping[str, Value_co] = self._values()
        if name not in values:
            raise SpecError(no_such(self._what, name, values))
        value = values[name]
        self.__dict__[name] = value
        return value

    def __dir__(self) -> list[str]:
        return sorted(self._values())
