"""Compiled code and recipes that outlive an engine: kept for the process, and on disk.

One cache serves all engines of a process. What is kept is made of plain tuples, numbers, texts
and bytes; who keeps what is not known here. Nothing here fails: what cannot be read or written
costs time only.
"""

import atexit
import marshal
import os
from collections import OrderedDict
from functools import cache
from hashlib import blake2b
from typing import Any

from vtx.engine.native.identity import identity
from vtx.engine.native.store import Store, default_directory

_LIMIT = 16 << 20
"""Bytes of the file: all of it is read at the start, at about 1 us for an entry."""
_SAVE_AFTER = 500
"""New entries after which they are saved, for the case that the process is killed. The more
there are, the longer it takes: it has to be as many as half of what was saved, too."""
_MOST_BYTES = 16 << 20
"""Of what is kept as values besides the Store, by the size it has there."""
_RECENT = 1024
"""Values that stay whatever their size: who puts several reads them back before the next ones."""


class Kept:
    """Values by kind and name, in memory and in a Store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._values: OrderedDict[tuple[str, bytes], tuple[Any, int]] = OrderedDict()
        """The latest last, with their sizes."""
        self._bytes = 0
        self._unsaved, self._save_at = 0, _SAVE_AFTER
        self._process = os.getpid()

    def get(self, kind: str, name: bytes) -> Any:
        """The value kept as `name` among those of its kind, or None."""
        known = self._values.get((kind, name))
        if known is not None:
            return known[0]
        raw = self._store.get(kind.encode() + name)
        if raw is None:
            return None
        try:
            found = marshal.loads(raw)
        except (ValueError, EOFError, TypeError):
            return None
        self._remember(kind, name, found, len(raw))
        return found

    def put(self, kind: str, name: bytes, value: Any) -> None:
        """Keep `value`, which `marshal` can write and nobody changes any more."""
        raw = marshal.dumps(value)
        self._remember(kind, name, value, len(raw))
        self._store.put(kind.encode() + name, raw)
        self._unsaved += 1
        if self._unsaved >= self._save_at:
            self.save()

    def _remember(self, kind: str, name: bytes, value: Any, size: int) -> None:
        """Have the value at hand, and forget the oldest ones where they are too many."""
        values = self._values
        self._bytes += size - values.pop((kind, name), (None, 0))[1]
        values[kind, name] = (value, size)
        while self._bytes > _MOST_BYTES and len(values) > _RECENT:
            self._bytes -= values.popitem(last=False)[1][1]

    def save(self) -> None:
        """Write what is new, unless this is a child of the process it belongs to."""
        if os.getpid() == self._process:
            self._store.save()
            self._unsaved, self._save_at = 0, _SAVE_AFTER + len(self._store) // 2

    @property
    def problem(self) -> str | None:
        """Why the file could not be read or written, if so."""
        return self._store.problem


@cache
def kept() -> Kept:
    """The cache of this process, in the directory that the environment named at first."""
    all_kept = Kept(Store(default_directory(), "native", identity(), _LIMIT))
    atexit.register(all_kept.save)
    return all_kept


def name_of(*parts: object) -> bytes:
    """A short name for values whose `repr` says all and is the same in every process."""
    return blake2b(repr(parts).encode(), digest_size=16).digest()
