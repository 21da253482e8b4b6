"""A cache of bytes by bytes that outlives the process: one file for each store.

It knows nothing of what it keeps, and it can only ever cost speed: whatever is wrong with the
file or its directory leaves the store empty or unsaved, and `problem` says why. Nothing here
waits for another process.

The file is a header (magic, digest of the version, generation, checksum) and then records
(checksum, sizes, generation of the last use, key, value), the latest used first. A generation
ends when the file is written.
"""

import os
import stat
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

_MAGIC = b"VTXSTOR1"
_HEADER = struct.Struct("<8s16sII")
"""Magic, digest of the version, generation, CRC-32 of all before."""
_RECORD = struct.Struct("<IIII")
"""CRC-32 of all that follows, size of the key, size of the value, generation of the last use."""
_LAST_GENERATION = (1 << 32) - 1

_STALE_USE = 16
"""Generations after which a use is worth a write of the file although nothing else is new."""

Value = bytes | memoryview


def default_directory() -> Path | None:
    """Where caches go: `$VTX_CACHE_DIR`, `$XDG_CACHE_HOME/vtx` or `~/.cache/vtx`.

    None, for no cache, if `$VTX_CACHE_DIR` is empty or there is no home.
    """
    own = os.environ.get("VTX_CACHE_DIR")
    if own is not None:
        return Path(own) if own else None
    base = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(base):  # the XDG specification has relative ones ignored
        return Path(base) / "vtx"
    try:
        return Path.home() / ".cache" / "vtx"
    except RuntimeError:
        return None


@dataclass(slots=True)
class _Contents:
    """What a file holds: key -> (value, generation of its last use)."""

    records: dict[bytes, tuple[Value, int]] = field(default_factory=dict)
    generation: int = 0
    problem: str | None = None
    """Why the file or a part of it is not here."""


class Store:
    """Values by key, in memory and in `directory/name.cache`.

    Read at the first use, written by `save` only. A file of another `version`, of another user
    or with damage counts as absent, from the damage on. The file stays within `limit_bytes`;
    what was used longest ago goes first. With no directory it is a dictionary. No method raises.
    """

    def __init__(self, directory: Path | None, name: str, version: str, limit_bytes: int) -> None:
        self.path = None if directory is None else directory / f"{name}.cache"
        self.problem: str | None = None
        """Why the last reading or writing did not work, in one line."""
        self._digest = blake2b(version.encode(), digest_size=16).digest()
        self._limit = limit_bytes
        self._contents: _Contents | None = None
        self._used: set[bytes] = set()
        self._is_changed = False

    def get(self, key: bytes) -> Value | None:
        """The value of `key`, which counts as used, or None."""
        record = self._loaded().records.get(key)
        if record is None:
            return None
        self._used.add(key)
        return record[0]

    def put(self, key: bytes, value: bytes) -> None:
        """Remember `value`, until `save` in this process only."""
        contents = self._loaded()
        contents.records[key] = (value, contents.generation)
        self._used.add(key)
        self._is_changed = True

    def __len__(self) -> int:
        return len(self._loaded().records)

    def save(self) -> None:
        """Write what is new together with what other processes have written meanwhile.

        What does not fit is forgotten. Does nothing if the file would only repeat itself. A
        failure is left in `problem`, and the next `save` tries again.
        """
        if not self._is_worth_writing():
            return
        if self.path is None:
            self._keep(self._merged(_Contents()))
            return
        merged = self._merged(_read(self.path, self._digest))
        try:
            _replace(self.path, b"".join(self._chunks(merged)))
        except (OSError, ValueError) as error:
            self.problem = f"cache {self.path} is not written: {_reason(error)}"
            return
        self.problem = None
        self._keep(merged)

    def _keep(self, contents: _Contents) -> None:
        """Have in memory what the file has room for."""
        self._contents = _Contents(dict(self._fitting(contents)), contents.generation)
        self._used.clear()
        self._is_changed = False

    def _loaded(self) -> _Contents:
        contents = self._contents
        if contents is None:
            contents = _Contents() if self.path is None else _read(self.path, self._digest)
            self._contents = contents
            self.problem = contents.problem
        return contents

    def _is_worth_writing(self) -> bool:
        contents = self._contents
        if contents is None:
            return False
        stale = contents.generation - _STALE_USE
        return (
            self._is_changed
            or contents.problem is not None
            or any(contents.records[key][1] < stale for key in self._used)
        )

    def _merged(self, on_disk: _Contents) -> _Contents:
        """The records of both, in the order of their use, in the next generation."""
        mine = self._loaded()
        generation = min(max(mine.generation, on_disk.generation) + 1, _LAST_GENERATION)
        records = on_disk.records | {
            key: (value, max(used, on_disk.records.get(key, (b"", 0))[1]))
            for key, (value, used) in mine.records.items()
        }
        for key in self._used:
            records[key] = (records[key][0], generation)
        by_use = sorted(records.items(), key=lambda item: item[1][1], reverse=True)
        return _Contents(dict(by_use), generation)

    def _fitting(self, contents: _Contents) -> Iterator[tuple[bytes, tuple[Value, int]]]:
        """The first records, as many as the file has room for, of those that could fit."""
        size = _HEADER.size
        for key, record in contents.records.items():
            record_size = _RECORD.size + len(key) + len(record[0])
            if _HEADER.size + record_size > self._limit:
                continue
            size += record_size
            if size > self._limit:
                return
            yield key, record

    def _chunks(self, contents: _Contents) -> Iterator[Value]:
        """The file: the header, and the records that fit, of those that could."""
        header = _HEADER.pack(_MAGIC, self._digest, contents.generation, 0)[:-4]
        yield header + struct.pack("<I", zlib.crc32(header))
        for key, (value, used) in self._fitting(contents):
            fields = _RECORD.pack(0, len(key), len(value), used)[4:]
            checksum = zlib.crc32(value, zlib.crc32(key, zlib.crc32(fields)))
            yield from (struct.pack("<I", checksum), fields, key, value)


def _read(path: Path, digest: bytes) -> _Contents:
    """What of the file at `path` is sound and of the version with `digest`."""
    try:
        data = _read_own_file(path)
    except FileNotFoundError:
        return _Contents()
    except (OSError, ValueError) as error:
        return _Contents(problem=f"cache {path} is not read: {_reason(error)}")
    header = data[: _HEADER.size]
    if len(header) < _HEADER.size or header[:8] != _MAGIC:
        return _Contents(problem=f"cache {path} is not a cache of this program")
    _, version, generation, checksum = _HEADER.unpack(header)
    if zlib.crc32(header[:-4]) != checksum:
        return _Contents(problem=f"cache {path} is damaged in its header")
    if version != digest:
        return _Contents()
    return _parse(path, data, generation)


def _parse(path: Path, data: bytes, generation: int) -> _Contents:
    """The records up to the first that is damaged. Their values are slices of `data`."""
    contents = _Contents(generation=generation)
    records, view, unpack, crc32 = (
        contents.records,
        memoryview(data),
        _RECORD.unpack_from,
        zlib.crc32,
    )
    at, size, fields_size = _HEADER.size, len(data), _RECORD.size
    while at < size:
        key_at = at + fields_size
        if key_at > size:
            break
        checksum, key_size, value_size, used = unpack(data, at)
        value_at = key_at + key_size
        end = value_at + value_size
        if end > size or crc32(view[at + 4 : end]) != checksum:
            break
        records[data[key_at:value_at]] = (view[value_at:end], used)
        at = end
    if at < size:
        contents.problem = f"cache {path} is damaged at byte {at}"
    return contents


def _read_own_file(path: Path) -> bytes:
    """The bytes of a regular file that nobody else can have written: they may be code."""
    # Not blocking, so that a pipe of that name is refused below instead of waited for.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb", buffering=0) as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("not a regular file")
        if status.st_uid not in (0, os.geteuid()) or status.st_mode & stat.S_IWOTH:
            raise ValueError("another user can write it")
        return file.readall()


def _replace(path: Path, data: bytes) -> None:
    """Put `data` at `path` in one step, or leave everything as it was. Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _remove_leftovers(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb", buffering=0) as file:
            _write_all(file.fileno(), data)
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _remove_leftovers(path: Path) -> None:
    """Remove what processes left behind that were killed while they wrote."""
    for leftover in path.parent.glob(f".{path.name}.*"):
        try:
            os.kill(int(leftover.suffix[1:]), 0)
        except ProcessLookupError:
            leftover.unlink(missing_ok=True)
        except (OSError, ValueError, OverflowError):
            continue  # alive, or not a name of ours


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _reason(error: Exception) -> str:
    """One line without the path, which the caller names."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
