"""Instructions are found by their heads, with the right numbers, however they are met."""

import random

import pytest

from vtx.engine.families import load_all
from vtx.engine.native.templates import InPython, Piece, Templates
from vtx.isa.key import Key
from vtx.machine.built import features_of

KEY = Key(64, 64, 0, True, False, True, 0, 15, False, False)
IP = 0x10_0000
CODE = [
    "4889c3", "488b4310", "4803842408112233", "83c005", "c1e003", "0fb6444107", "48ffc3", "50",
    "58", "0f94c0", "4c0fafc1", "0fbae003", "83d0ff", "f7d8", "39c8", "48b81122334455667788",
    "488d0512345678", "66c7401012ff", "c1e800", "c1e81f", "480fc8",
]  # fmt: skip


@pytest.fixture
def templates() -> Templates:
    load_all()
    return Templates(KEY, features_of("haswell"))


def _find(templates: Templates, text: str, ip: int = IP) -> Piece:
    code = bytes.fromhex(text)
    piece = templates.find(code, 0, ip)
    assert isinstance(piece, Piece)
    assert piece.length == len(code)
    return piece


def test_instructions_that_differ_in_numbers_share_a_template(templates: Templates) -> None:
    one, other = _find(templates, "488b8310203040"), _find(templates, "488b8311223344")

    assert one.template is other.template
    assert one.filling is other.filling
    assert set(other.values) - set(one.values) == {0x44332211}


def test_instructions_whose_meaning_depends_on_the_number_do_not(templates: Templates) -> None:
    shift_by_0, shift_by_3 = _find(templates, "c1e000"), _find(templates, "c1e003")

    assert shift_by_0.filling.form != shift_by_3.filling.form


def test_known_values_begin_with_the_place_and_the_one_behind(templates: Templates) -> None:
    assert _find(templates, "83c005").values[:2] == (IP, IP + 3)
    assert _find(templates, "83c005", (1 << 64) - 2).values[:2] == ((1 << 64) - 2, 1)


def test_places_near_and_far_have_other_holes(templates: Templates) -> None:
    near, negative = (
        _find(templates, "e800000000"),
        _find(templates, "e800000000", -4096 % (1 << 64)),
    )
    far = _find(templates, "e800000000", 0x7FFF_0000_0000)

    assert near.filling is negative.filling
    assert far.template is near.template
    assert far.filling.holes != near.filling.holes


def test_bytes_that_are_missing_are_asked_for(templates: Templates) -> None:
    for known in (False, True):
        assert templates.find(bytes.fromhex("4803842408112233")[: 5 + known], 0, IP) is None
        _find(templates, "4803842408112233")
    assert templates.find(b"", 0, IP) is None


def test_bytes_that_are_no_instruction_are_pythons(templates: Templates) -> None:
    assert isinstance(templates.find(bytes.fromhex("06") + bytes(15), 0, IP), InPython)


def test_a_straight_line_is_what_its_instructions_are_one_by_one(templates: Templates) -> None:
    chosen = random.Random(7).choices(CODE, k=60)
    code = b"".join(map(bytes.fromhex, [*chosen, "c3", "90"]))
    expected, at = [], 0
    while at < len(code) - 1:
        piece = Templates(KEY, features_of("haswell")).find(code, at, IP + at)
        assert isinstance(piece, Piece)
        expected.append((piece.values, piece.filling.form, piece.length))
        at += piece.length

    pieces, crosses = templates.straight(code, 0, IP, 100)

    assert [(one.values, one.filling.form, one.length) for one in pieces] == expected
    assert not crosses
    assert templates.straight(code, 0, IP, 5)[0] == pieces[:5]
    assert templates.straight(code[:2], 0, IP, 5) == ([], True)
    again, _ = Templates(KEY, features_of("haswell")).straight(code, 0, IP, 100)
    assert [one.filling.form for one in again] == [one.filling.form for one in pieces]
