"""Runs GNU as as an oracle and keeps its answers as golden files.

`python tests/asm/gnu_oracle.py` writes the golden files anew. A case is one or more lines of
source; the answer is the section's bytes and its relocations.
"""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from elftools.elf.elffile import ELFFile

DATA = Path(__file__).parent / "data"
GNU_AS = shutil.which("as")

# bytes in hexadecimal; relocations as [offset, type, symbol, addend]
Answer = tuple[str, list[list[object]]]


def source_of(cases: Sequence[str], mode: int) -> str:
    """One source with a section for each case."""
    parts = [".intel_syntax noprefix\n"]
    for number, case in enumerate(cases):
        parts.append(f'.section .case{number},"ax"\n.code{mode}\n{case}\n')
    return "".join(parts)


def answers(data: bytes, count: int) -> list[Answer]:
    """The contents of the sections .case0, .case1, ... of an object file."""
    file = ELFFile(io.BytesIO(data))
    symbols = file.get_section_by_name(".symtab")
    found: list[Answer] = [("", []) for _ in range(count)]
    for section in file.iter_sections():
        match = re.fullmatch(r"(?:\.rela?)?\.case(\d+)", section.name)
        if match is None:
            continue
        hexadecimal, relocations = found[int(match[1])]
        if section.name.startswith(".case"):
            hexadecimal = section.data().hex()
        else:
            for entry in section.iter_relocations():
                symbol = symbols.get_symbol(entry["r_info_sym"])
                name = symbol.name
                if symbol["st_info"]["type"] == "STT_SECTION":
                    name = file.get_section(symbol["st_shndx"]).name
                addend = entry["r_addend"] if entry.is_RELA() else None
                relocations.append([entry["r_offset"], entry["r_info_type"], name, addend])
        found[int(match[1])] = (hexadecimal, relocations)
    return [(code, sorted(rows, key=str)) for code, rows in found]


def run_gnu_as(source: str, bits: int) -> tuple[bytes, dict[int, str]]:
    """The object file (empty after errors) and the errors by line number."""
    assert GNU_AS is not None
    with tempfile.TemporaryDirectory() as directory:
        output = Path(directory) / "out.o"
        command = [GNU_AS, f"--{bits}", "-msyntax=intel", "-mnaked-reg", "-o", str(output), "-"]
        result = subprocess.run(command, input=source, capture_output=True, text=True, check=False)
        errors = {
            int(match[1]): match[2]
            for match in re.finditer(r"\{standard input\}:(\d+): Error: (.*)", result.stderr)
        }
        return (output.read_bytes() if output.exists() else b""), errors


def gnu_answers(cases: Sequence[str], mode: int) -> list[Answer]:
    """GNU as's answers to cases that it accepts, in one run."""
    data, errors = run_gnu_as(source_of(cases, mode), 32 if mode == 32 else 64)
    assert not errors, errors
    return answers(data, len(cases))


def accepted(cases: Sequence[str], mode: int) -> list[str]:
    """The one-line cases that GNU as accepts."""
    cases = list(cases)
    while True:
        _, errors = run_gnu_as(source_of(cases, mode), 32 if mode == 32 else 64)
        refused = {(line - 4) // 3 for line in errors}
        if not refused:
            return cases
        cases = [case for number, case in enumerate(cases) if number not in refused]


def load(name: str) -> dict[str, dict[str, Answer]]:
    """A golden file: mode to case to answer."""
    stored = json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"))
    return {
        mode: {case: (answer[0], answer[1:]) for case, answer in cases.items()}
        for mode, cases in stored.items()
    }


def store(name: str, golden: dict[str, dict[str, Answer]]) -> None:
    """Write a golden file, one case a line."""
    lines = ["{"]
    for index, (mode, cases) in enumerate(golden.items()):
        lines.append(f'"{mode}": {{')
        rows = [f"{json.dumps(case)}: {json.dumps([a[0], *a[1]])}" for case, a in cases.items()]
        lines.append(",\n".join(rows))
        lines.append("}," if index + 1 < len(golden) else "}")
    (DATA / f"{name}.json").write_text("\n".join([*lines, "}", ""]), encoding="utf-8")


def main() -> None:
    """Write every golden file anew."""
    sys.path.insert(0, str(Path(__file__).parent))
    from form_lines import form_lines
    from gnu_cases import CASES

    golden: dict[str, dict[str, Answer]] = {}
    for mode in (64, 32, 16):
        cases = accepted(form_lines(mode), mode)
        golden[str(mode)] = dict(zip(cases, gnu_answers(cases, mode), strict=True))
        print(f"{mode}-bit: {len(cases)} lines accepted")
    store("gnu_forms", golden)
    listed = {
        str(mode): dict(zip(cases, gnu_answers(cases, mode), strict=True))
        for mode, cases in CASES.items()
    }
    store("gnu_cases", listed)


if __name__ == "__main__":
    main()
