"""Executables made from sources, kept so that the same source is not assembled again.

Loading the assembler takes longer than running a small guest. What is kept counts only while
every file that was looked for is what it was. Must not know what a source means.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from importlib.util import find_spec
from pathlib import Path

from vtx.cli.assembled import assemble_source
from vtx.cli.files import read_file
from vtx.engine.native.store import Store, default_directory

_LIMIT = 16 << 20
"""Bytes of the file."""
_LENGTH = 4
"""Bytes of a value that say how long its first part is."""


def executable_of(path: Path, include: Sequence[Path], defines: Mapping[str, str | int]) -> bytes:
    """What a source assembles to. Raises InputError and DiagnosedError."""
    source = read_file(path)
    store = Store(default_directory(), "assembled", _assembler(), _LIMIT)
    name = _digest_of(
        repr((str(path), os.getcwd(), [str(p) for p in include], sorted(defines.items()))).encode()
        + source
    ).encode()
    kept = store.get(name)
    if kept is not None:
        known = _still_valid(bytes(kept))
        if known is not None:
            return known
    assembled = assemble_source(path, include, defines)
    image = assembled.elf()
    if assembled.consulted is not None:
        files = [(str(place), _content_digest(place)) for place in assembled.consulted]
        head = json.dumps(files).encode()
        store.put(name, len(head).to_bytes(_LENGTH, "little") + head + image)
        store.save()
    return image


def _still_valid(kept: bytes) -> bytes | None:
    """The executable in a value, if no file that it depends on has changed."""
    size = int.from_bytes(kept[:_LENGTH], "little")
    head, image = kept[_LENGTH : _LENGTH + size], kept[_LENGTH + size :]
    for place, digest in json.loads(head):
        if _content_digest(Path(place)) != digest:
            return None
    return image


def _content_digest(path: Path) -> str:
    """Empty for what is no file."""
    try:
        return _digest_of(path.read_bytes()) if path.is_file() else ""
    except OSError:
        return ""


def _assembler() -> str:
    """Changes with the sources of the assembler and the version of its encoder."""
    digest = blake2b(digest_size=16)
    for package in ("asm", "iced_x86"):
        spec = find_spec(package)
        places = [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []
        for place in places:
            files = (
                place.iterdir() if package == "asm" else place.parent.glob("iced_x86-*.dist-info")
            )
            for file in sorted(files):
                digest.update(file.name.encode())
                if file.suffix in (".py", ".lark"):
                    digest.update(file.read_bytes())
    return digest.hexdigest()


def _digest_of(data: bytes) -> str:
    return blake2b(data, digest_size=16).hexdigest()
