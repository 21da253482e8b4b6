"""The cache on disk loses at most speed: never a wrong value, never an error, never a wait."""

import errno
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vtx.engine.native import store
from vtx.engine.native.store import Store, default_directory

LIMIT = 1 << 20
VERSION = "compiler 1"


def _open(directory: Path | None, version: str = VERSION, limit: int = LIMIT) -> Store:
    return Store(directory, "code", version, limit)


def _saved(directory: Path, records: Mapping[bytes, bytes], limit: int = LIMIT) -> Store:
    opened = _open(directory, limit=limit)
    for key, value in records.items():
        opened.put(key, value)
    opened.save()
    assert opened.problem is None
    return opened


def _found(opened: Store, keys: Mapping[bytes, bytes]) -> set[bytes]:
    """The keys that are there; each has the value it had."""
    found = set()
    for key, value in keys.items():
        kept = opened.get(key)
        if kept is not None:
            assert bytes(kept) == value
            found.add(key)
    return found


RECORDS = {b"key %d" % n: bytes([n]) * (n * 7) for n in range(30)} | {b"": b"empty key", b"e": b""}


def test_what_is_saved_is_there_in_the_next_process(tmp_path: Path) -> None:
    _saved(tmp_path / "not" / "yet", RECORDS)
    again = _open(tmp_path / "not" / "yet")
    assert _found(again, RECORDS) == set(RECORDS) and len(again) == len(RECORDS)
    assert again.get(b"unknown") is None and again.problem is None


def test_nothing_is_written_before_save_and_nothing_twice(tmp_path: Path) -> None:
    opened = _open(tmp_path)
    opened.put(b"k", b"v")
    assert not list(tmp_path.iterdir())
    opened.save()
    assert [path.name for path in tmp_path.iterdir()] == ["code.cache"]
    inode = (tmp_path / "code.cache").stat().st_ino
    opened.save()
    again = _open(tmp_path)
    assert again.get(b"k") == b"v"
    again.save()
    assert (tmp_path / "code.cache").stat().st_ino == inode


def test_equal_records_make_equal_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        _saved(tmp_path / name, RECORDS)
    assert (tmp_path / "a/code.cache").read_bytes() == (tmp_path / "b/code.cache").read_bytes()


def test_without_a_directory_it_is_a_dictionary() -> None:
    opened = _open(None)
    opened.put(b"k", b"v")
    opened.save()
    assert opened.get(b"k") == b"v" and opened.problem is None


def test_another_version_finds_nothing_and_replaces_the_file(tmp_path: Path) -> None:
    _saved(tmp_path, {b"k": b"old"})
    other = _open(tmp_path, "compiler 2")
    assert other.get(b"k") is None and other.problem is None
    other.put(b"k", b"new")
    other.save()
    assert _open(tmp_path, "compiler 2").get(b"k") == b"new"
    assert _open(tmp_path).get(b"k") is None


# --- damage ----------------------------------------------------------------------------------
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_damaged_file_gives_right_values_or_none(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.getbasetemp() / "damaged"
    path = directory / "code.cache"
    path.unlink(missing_ok=True)
    _saved(directory, RECORDS)
    image = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(image)))
        action = data.draw(st.sampled_from(["flip", "cut", "insert", "remove", "copy"]))
        if action == "flip" and at < len(image):
            image[at] ^= data.draw(st.integers(1, 255))
        elif action == "cut":
            del image[at:]
        elif action == "insert":
            image[at:at] = data.draw(st.binary(min_size=1, max_size=40))
        elif action == "remove":
            del image[at : at + data.draw(st.integers(1, 60))]
        else:
            start = data.draw(st.integers(0, len(image)))
            image[at:at] = image[start : start + data.draw(st.integers(1, 60))]
    path.write_bytes(image)
    opened = _open(directory)
    _found(opened, RECORDS)
    opened.put(b"new", b"value")
    opened.save()
    assert opened.problem is None
    assert _open(directory).get(b"new") == b"value"


def test_records_before_the_damage_are_kept_and_the_file_is_repaired(tmp_path: Path) -> None:
    _saved(tmp_path, RECORDS)
    path = tmp_path / "code.cache"
    image = bytearray(path.read_bytes())
    image[len(image) * 3 // 4] ^= 1
    path.write_bytes(image)
    opened = _open(tmp_path)
    kept = _found(opened, RECORDS)
    assert len(RECORDS) // 2 < len(kept) < len(RECORDS)
    assert opened.problem is not None and "damaged at byte" in opened.problem
    opened.save()
    again = _open(tmp_path)
    assert _found(again, RECORDS) == kept and again.problem is None


@pytest.mark.parametrize("content", [b"", b"short", b"\x7fELF" + bytes(5000), bytes(100)])
def test_a_foreign_file_is_ignored_and_rewritten(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "code.cache").write_bytes(content)
    opened = _open(tmp_path)
    assert opened.get(b"k") is None and "not a cache" in str(opened.problem)
    opened.put(b"k", b"v")
    opened.save()
    assert _open(tmp_path).get(b"k") == b"v"


# --- the directory ---------------------------------------------------------------------------
def _costs_only_speed(opened: Store, reason: str) -> None:
    opened.put(b"k", b"v")
    opened.save()
    assert opened.get(b"k") == b"v"
    assert opened.problem is not None and reason in opened.problem
    assert "\n" not in opened.problem


def test_a_directory_that_cannot_be_costs_only_speed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    _costs_only_speed(_open(tmp_path / "file" / "below"), "Not a directory")
    _costs_only_speed(_open(Path("nul\0byte")), "null")


def test_a_read_only_directory_is_read_but_not_written(tmp_path: Path) -> None:
    _saved(tmp_path, {b"old": b"value"})
    before = (tmp_path / "code.cache").read_bytes()

    def refuse(path: Path, data: bytes) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "_replace", refuse)
        opened = _open(tmp_path)
        assert opened.get(b"old") == b"value"
        _costs_only_speed(opened, "Read-only file system")
    assert (tmp_path / "code.cache").read_bytes() == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_without_permission_costs_only_speed(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    _costs_only_speed(_open(tmp_path), "Permission denied")
    tmp_path.chmod(0o700)


def test_a_full_directory_leaves_the_old_file_and_can_be_tried_again(tmp_path: Path) -> None:
    _saved(tmp_path, {b"old": b"value"})
    opened = _open(tmp_path)
    written = os.write

    def full(descriptor: int, data: bytes) -> int:
        written(descriptor, data[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store.os, "write", full)
        _costs_only_speed(opened, "No space left")
    assert [path.name for path in tmp_path.iterdir()] == ["code.cache"]
    assert _open(tmp_path).get(b"old") == b"value"
    opened.save()
    assert opened.problem is None and _open(tmp_path).get(b"k") == b"v"


def test_what_is_no_file_of_ours_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "code.cache"
    os.mkfifo(path)  # reading it would wait for ever
    opened = _open(tmp_path)
    assert opened.get(b"k") is None and "not a regular file" in str(opened.problem)
    path.unlink()
    _saved(tmp_path, {b"k": b"v"})
    path.chmod(0o666)
    opened = _open(tmp_path)
    assert opened.get(b"k") is None and "another user" in str(opened.problem)
    path.unlink()
    path.mkdir()
    _costs_only_speed(_open(tmp_path), "irectory")


def test_deletion_while_running_loses_nothing_of_this_process(tmp_path: Path) -> None:
    directory = tmp_path / "cache"
    opened = _saved(directory, {b"a": b"1"})
    (directory / "code.cache").unlink()
    directory.rmdir()
    assert opened.get(b"a") == b"1"
    opened.put(b"b", b"2")
    opened.save()
    assert _found(_open(directory), {b"a": b"1", b"b": b"2"}) == {b"a", b"b"}


# --- several processes -----------------------------------------------------------------------
def test_stores_open_at_once_keep_what_each_other_saved(tmp_path: Path) -> None:
    first, second = _open(tmp_path), _open(tmp_path)
    assert first.get(b"1") is None and second.get(b"2") is None
    first.put(b"1", b"one")
    second.put(b"2", b"two")
    first.save()
    second.save()
    first.put(b"3", b"three")
    first.save()
    wanted = {b"1": b"one", b"2": b"two", b"3": b"three"}
    assert _found(_open(tmp_path), wanted) == set(wanted)
    assert first.get(b"2") == b"two"


WRITER = """
import sys
from pathlib import Path
from vtx.engine.native.store import Store
for n in range(40):
    opened = Store(Path(sys.argv[1]), "code", "v", 1 << 20)
    for m in range(20):
        key = b"%d %d" % (n, m)
        assert opened.get(key) in (None, key * 50)
        opened.put(key, key * 50)
    opened.save()
"""


def test_processes_that_write_at_once_leave_a_sound_file(tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", WRITER, str(tmp_path)]
    writers = [subprocess.Popen(arguments, cwd=Path(store.__file__).parents[3]) for _ in range(2)]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0]
    opened = Store(tmp_path, "code", "v", LIMIT)
    # Whoever saved last had just put these, whatever it lost of the other.
    wanted = {b"39 %d" % m: b"39 %d" % m * 50 for m in range(20)}
    assert _found(opened, wanted) == set(wanted) and opened.problem is None
    assert [path.name for path in tmp_path.iterdir()] == ["code.cache"]


def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    kept = {f".code.cache.{os.getppid()}", ".code.cache.notes", ".other.cache.1", "code.cache"}
    for name in (kept - {"code.cache"}) | {f".code.cache.{ended.pid}"}:
        (tmp_path / name).write_bytes(b"partial")
    _saved(tmp_path, {b"k": b"v"})
    assert {path.name for path in tmp_path.iterdir()} == kept


# --- the bound -------------------------------------------------------------------------------
def test_the_file_stays_within_its_limit_and_loses_what_was_used_longest_ago(
    tmp_path: Path,
) -> None:
    limit = 10_000
    keys = {b"%d" % n: bytes(900) for n in range(10)}
    for key, value in keys.items():
        opened = _open(tmp_path, limit=limit)
        opened.get(b"0")  # the oldest, but always in use
        opened.put(key, value)
        opened.save()
    assert len(_open(tmp_path)) == 10
    _saved(tmp_path, {b"10": bytes(900), b"11": bytes(900)}, limit)
    assert (tmp_path / "code.cache").stat().st_size <= limit
    assert _found(_open(tmp_path), keys) == set(keys) - {b"1", b"2"}


@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(st.integers(0, 600), max_size=12), limit=st.integers(0, 2000))
def test_no_limit_is_exceeded_by_more_than_the_header(
    sizes: list[int], limit: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.getbasetemp() / "bounded"
    opened = _open(directory, limit=limit)
    for number, size in enumerate(sizes):
        opened.put(b"%d" % number, bytes(size))
    opened.save()
    if sizes:
        assert (directory / "code.cache").stat().st_size <= max(limit, store._HEADER.size)


def test_a_record_larger_than_the_limit_drives_out_nothing(tmp_path: Path) -> None:
    _saved(tmp_path, {b"small": b"value"}, limit=500)
    _saved(tmp_path, {b"large": bytes(600)}, limit=500)
    assert _found(_open(tmp_path), {b"small": b"value", b"large": b""}) == {b"small"}


def test_uses_alone_are_written_once_they_are_old(tmp_path: Path) -> None:
    _saved(tmp_path, {b"old": b"value"})
    for n in range(20):
        _saved(tmp_path, {b"%d" % n: b""})
    before = (tmp_path / "code.cache").read_bytes()
    opened = _open(tmp_path)
    opened.get(b"old")
    opened.save()
    after = (tmp_path / "code.cache").read_bytes()
    assert before != after and after.index(b"value") < before.index(b"value")


# --- size and place --------------------------------------------------------------------------
def test_five_megabytes_of_five_thousand_records_are_read_at_first_use(tmp_path: Path) -> None:
    records = {b"key %d" % n: bytes([n % 256]) * 1000 for n in range(5000)}
    _saved(tmp_path, records, limit=10 << 20)
    opened = _open(tmp_path)
    assert bytes(opened.get(b"key 4999") or b"") == bytes([4999 % 256]) * 1000
    assert len(opened) == 5000


def test_the_directory_is_the_first_that_the_environment_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("VTX_CACHE_DIR", raising=False)
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert default_directory() == Path("/home/someone/.cache/vtx")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert default_directory() == Path("/cache/vtx")
    monkeypatch.setenv("VTX_CACHE_DIR", "own")
    assert default_directory() == Path("own")
    monkeypatch.setenv("VTX_CACHE_DIR", "")
    assert default_directory() is None
