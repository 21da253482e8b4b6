"""Numbers that AArch64 code cannot reach as addresses are built from pieces."""

import pytest

from vtx.engine.native.compiler import host_compiler
from vtx.engine.native.far_numbers import with_far_numbers
from vtx.engine.native.joints import EXIT_TEXT, HEAD_TEXT, through_cache_text
from vtx.engine.native.objects import EM_AARCH64, EM_X86_64, extract, parse_object
from vtx.engine.native.relocate import HOST, Base, place, prepare, rule
from vtx.engine.native.stencil import module_head
from vtx.engine.native.text import METADATA

HOLES = {("BACK_slot", "slot"), ("COUNT_slot", "slot"), ("LINK_s", "s"), ("H0_q", "q")}
TEXT = "\n".join(
    [module_head(HOLES, {"NEXT"}), HEAD_TEXT, EXIT_TEXT, through_cache_text("through"), METADATA]
)


def test_on_x86_64_the_text_stays_as_it_is() -> None:
    assert with_far_numbers(TEXT, EM_X86_64) == TEXT


def test_each_number_is_made_once_at_the_start_of_its_function() -> None:
    text = with_far_numbers(TEXT, EM_AARCH64)

    assert "ptrtoint (ptr @" not in text
    through = text[text.index("@through(") :].split("\n")
    assert through[1] == "entry:" and through[2].startswith("  %H0_q.number = call i64 asm")


@pytest.mark.skipif(HOST != EM_AARCH64, reason="LLVM assembles pieces for its own host only")
@pytest.mark.parametrize("number", [0, 0x1234_5678_9ABC_DEF0, (1 << 64) - 1])
def test_aarch64_code_gets_at_any_number_from_anywhere(number: int) -> None:
    data = host_compiler().compile(with_far_numbers(TEXT, EM_AARCH64))
    stencil = extract(parse_object(data), "through")
    kinds = [r.kind for r in stencil.relocations if r.symbol == "H0_q"]
    assert kinds == [264, 266, 268, 269]  # R_AARCH64_MOVW_UABS_G0_NC to _G3
    assert all(rule(k, EM_AARCH64).base is Base.ABSOLUTE for k in kinds)

    prepared, buffer = prepare(stencil), bytearray(len(stencil.code))
    assert not prepared.paged
    place(prepared, buffer, 0, 0x7F00_0000_0000, {"H0_q": number, "leave": 0x7F00_0000_1000})

    offsets = [r.offset for r in stencil.relocations if r.symbol == "H0_q"]
    pieces = [int.from_bytes(buffer[at : at + 4], "little") >> 5 & 0xFFFF for at in offsets]
    assert sum(piece << 16 * n for n, piece in enumerate(pieces)) == number
