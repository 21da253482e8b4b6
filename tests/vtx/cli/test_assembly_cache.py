"""A source is assembled once, until something that it is made of changes."""

from collections.abc import Callable
from pathlib import Path

import pytest

from vtx.cli import assembly_cache
from vtx.cli.assembled import assemble_source
from vtx.cli.assembly_cache import executable_of
from vtx.cli.errors import DiagnosedError

Assemblies = list[Path]


@pytest.fixture
def assemblies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Assemblies:
    """What is assembled from now on, with an empty cache."""
    done: Assemblies = []
    real: Callable[..., object] = assemble_source

    def assemble(path: Path, *rest: object) -> object:
        done.append(path)
        return real(path, *rest)

    monkeypatch.setattr(assembly_cache, "assemble_source", assemble)
    monkeypatch.setenv("VTX_CACHE_DIR", str(tmp_path / "cache"))
    return done


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "late").mkdir()
    (tmp_path / "early").mkdir()
    (tmp_path / "late" / "part.inc").write_text(".byte 1, 2, 3\n")
    path = tmp_path / "guest.s"
    path.write_text('.intel_syntax noprefix\n.code64\n_start: nop\n.include "part.inc"\n')
    return path


def _executable(source: Path, **defines: int) -> bytes:
    places = [source.parent / "early", source.parent / "late"]
    return executable_of(source, places, defines)


def test_the_same_source_is_assembled_once(assemblies: Assemblies, source: Path) -> None:
    first = _executable(source)

    assert _executable(source) == first
    assert assemblies == [source]


@pytest.mark.parametrize("change", ["source", "included", "found earlier", "define"])
def test_what_changes_a_source_is_noticed(
    assemblies: Assemblies, source: Path, change: str
) -> None:
    first = _executable(source)
    if change == "source":
        source.write_text(source.read_text() + "nop\n")
    elif change == "included":
        (source.parent / "late" / "part.inc").write_text(".byte 4, 5, 6\n")
    elif change == "found earlier":
        (source.parent / "early" / "part.inc").write_text(".byte 7\n")

    second = _executable(source, **({"NUMBER": 5} if change == "define" else {}))

    assert len(assemblies) == 2
    assert (second != first) or change == "define"


def test_a_source_with_something_to_say_is_assembled_every_time(
    assemblies: Assemblies, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source.write_text(source.read_text() + '.warning "look here"\n')
    for _ in range(2):
        _executable(source)
        assert "look here" in capsys.readouterr().err
    assert len(assemblies) == 2


def test_a_source_with_errors_is_not_kept(assemblies: Assemblies, source: Path) -> None:
    source.write_text("nonsense\n")
    for _ in range(2):
        with pytest.raises(DiagnosedError):
            _executable(source)
    assert len(assemblies) == 2
