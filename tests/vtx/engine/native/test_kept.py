"""What is kept comes back as it was, in this process and the next."""

import subprocess
import sys
from pathlib import Path

import pytest

from vtx.engine.native.kept import Kept, name_of
from vtx.engine.native.store import Store

VALUE = (b"code", ((1, 2, "H0_s", -4), (9, 5, "BACK_slot", 0)), "", (("NEXT", 1),), None)


def _kept(directory: Path) -> Kept:
    return Kept(Store(directory, "native", "1", 1 << 20))


def test_a_value_comes_back_in_another_process(tmp_path: Path) -> None:
    first = _kept(tmp_path)
    first.put("stencil", b"name", VALUE)
    first.save()

    second = _kept(tmp_path)

    assert second.get("stencil", b"name") == VALUE
    assert second.get("module", b"name") is None
    assert second.get("stencil", b"other") is None


def test_compiled_python_can_be_kept(tmp_path: Path) -> None:
    first = _kept(tmp_path)
    first.put("template", b"t", (compile("6 * n", "<t>", "eval"),))
    first.save()

    (code,) = _kept(tmp_path).get("template", b"t")

    assert eval(code, {"n": 7}) == 42


def test_a_value_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    store = Store(tmp_path, "native", "1", 1 << 20)
    store.put(b"stencilname", b"\xff\xfe no such thing")

    assert Kept(store).get("stencil", b"name") is None


def test_many_new_values_are_saved_before_the_end(tmp_path: Path) -> None:
    kept = _kept(tmp_path)
    for number in range(2000):
        kept.put("stencil", b"%d" % number, number)

    assert len(Store(tmp_path, "native", "1", 1 << 20)) >= 1000


def test_the_oldest_values_make_room_and_come_back_from_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vtx.engine.native.kept._MOST_BYTES", 20_000)
    monkeypatch.setattr("vtx.engine.native.kept._RECENT", 8)
    kept = _kept(tmp_path)
    for number in range(500):
        kept.put("stencil", b"%d" % number, bytes([number & 0xFF]) * 1000)
        kept.put("template", b"same", number)

    assert 8 <= len(kept._values) <= 21
    assert kept._bytes <= 20_000
    assert kept.get("stencil", b"499") == bytes([499 & 0xFF]) * 1000
    assert kept.get("stencil", b"0") == bytes(1000)


def test_values_of_any_size_can_be_read_back_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vtx.engine.native.kept._MOST_BYTES", 10)
    kept = Kept(Store(tmp_path, "native", "1", 64))  # which has no room for any of them
    batch = {b"%d" % number: bytes([number]) * 100 for number in range(32)}
    for name, value in batch.items():
        kept.put("stencil", name, value)
    kept.save()

    assert {name: kept.get("stencil", name) for name in batch} == batch


def test_names_are_the_same_in_every_process() -> None:
    program = (
        "from vtx.engine.native.identity import identity\n"
        "from vtx.engine.native.kept import name_of\n"
        "from vtx.isa.program import Access, Op, Privilege\n"
        "from vtx.isa.primitives import Prim\n"
        "op = Op(Prim.LOAD, (1,), 64, (0,), Access(True, Privilege.USER, size=4))\n"
        "print(name_of((op,), frozenset()).hex(), identity())\n"
        "import sys; assert 'llvmlite' not in sys.modules\n"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed, "PYTHONPATH": "."},
            capture_output=True, text=True, check=True, cwd=Path(__file__).parents[4],
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip

    assert len(told) == 1
    assert name_of("one") != name_of("other")
