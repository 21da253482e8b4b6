"""Every guest assembles to GNU as's bytes.

The golden files hold what GNU as and ld make of each guest: the bytes of every section after
linking. Where GNU binutils are installed, a second test makes them again and asserts that
the golden files are current; set REFRESH_GOLDEN=1 to rewrite them instead.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile

import asm

HERE = Path(__file__).parent
GUESTS = HERE.parents[1] / "guests"
MANIFESTS = sorted(GUESTS.glob("*/*.toml"))
SECTIONS = (".text", ".rodata", ".data", ".bss")
ROW = 64  # bytes per line of a golden file


def sections_of(elf: bytes) -> dict[str, Any]:
    """Address, size and contents (as rows of hexadecimal) of each section that is loaded."""
    found = {}
    for section in ELFFile(io.BytesIO(elf)).iter_sections():
        if section.name not in SECTIONS or section["sh_size"] == 0:
            continue
        is_nobits = section["sh_type"] == "SHT_NOBITS"
        data = b"" if is_nobits else section.data()
        found[section.name] = {
            "address": hex(section["sh_addr"]),
            "size": section["sh_size"],
            "bytes": [data[i : i + ROW].hex() for i in range(0, len(data), ROW)],
        }
    return found


def golden_file(manifest: Path) -> Path:
    return HERE / "golden" / f"{manifest.stem}.json"


def assemble_with_gnu(manifest: Path, directory: Path) -> bytes:
    """The guest as GNU as and ld build it."""
    elf_class = tomllib.loads(manifest.read_text())["elf_class"]
    emulation = {32: "elf_i386", 64: "elf_x86_64"}[elf_class]
    object_file, image = directory / "guest.o", directory / "guest.elf"
    source = manifest.with_suffix(".s")
    steps = (
        ["as", f"--{elf_class}", "-I", str(source.parent), "-o", str(object_file), str(source)],
        ["ld", "-m", emulation, "-T", str(HERE / "golden.ld"), "-o", str(image), str(object_file)],
    )
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return image.read_bytes()


def has_gnu_binutils_for_x86() -> bool:
    if shutil.which("as") is None or shutil.which("ld") is None:
        return False
    done = subprocess.run(["as", "--version"], capture_output=True, text=True, check=False)
    return "GNU" in done.stdout and "x86_64" in done.stdout


def test_there_are_guests() -> None:
    assert len(MANIFESTS) >= 10


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: path.stem)
def test_our_assembler_gives_the_bytes_of_gnu_as(manifest: Path) -> None:
    elf_class = tomllib.loads(manifest.read_text())["elf_class"]
    golden = json.loads(golden_file(manifest).read_text())
    elf = asm.assemble_file(manifest.with_suffix(".s")).elf()
    ours = sections_of(elf)

    assert ELFFile(io.BytesIO(elf)).elfclass == elf_class
    assert ours.keys() == golden.keys()
    for name, section in golden.items():
        assert ours[name] == section, name


@pytest.mark.skipif(not has_gnu_binutils_for_x86(), reason="needs GNU as and ld for x86-64")
@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: path.stem)
def test_the_golden_bytes_are_current(manifest: Path, tmp_path: Path) -> None:
    gnu = sections_of(assemble_with_gnu(manifest, tmp_path))
    if os.environ.get("REFRESH_GOLDEN"):
        golden_file(manifest).parent.mkdir(exist_ok=True)
        golden_file(manifest).write_text(json.dumps(gnu, indent=1) + "\n")

    assert gnu == json.loads(golden_file(manifest).read_text())
