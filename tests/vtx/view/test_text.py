"""Tables and text."""

from __future__ import annotations

import io

import pytest

from vtx.view.text import Table, json_line, one_of_several, percent, print_table, printable


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def printed(table: Table, out: io.StringIO) -> str:
    print_table(table, out)
    return out.getvalue()


TABLE = Table(("name", "n"), (("[bold]a", "1"), ("b" * 120, "22")), frozenset({1}))


def test_a_table_is_plain_columns_where_no_terminal_is() -> None:
    lines = printed(TABLE, io.StringIO()).splitlines()

    assert lines[1] == "[bold]a".ljust(120) + "   1"
    assert lines[2] == "b" * 120 + "  22"
    assert all(line == line.rstrip() for line in lines)


def test_a_table_is_framed_on_a_terminal_and_cells_are_no_markup() -> None:
    text = printed(TABLE, Terminal())

    assert "[bold]a" in text
    assert "─" in text


@pytest.mark.parametrize(
    ("text", "shown"),
    [("plain ä", "plain ä"), ("\x1b[1m", "\\x1b[1m"), ("a\nb", "a\\nb"), ("", "")],
)
def test_what_a_terminal_might_obey_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_json_is_one_line_of_ascii() -> None:
    assert json_line({"a": "ä\n", "b": 2**64 - 1}) == '{"a":"\\u00e4\\n","b":18446744073709551615}'


def test_a_share_of_nothing_is_zero() -> None:
    assert (percent(1, 3), percent(0, 0)) == ("33.33%", "0.00%")


def test_names_join_into_a_sentence() -> None:
    assert one_of_several(["bare", "ept", "shadow"]) == "bare, ept and shadow"
    assert one_of_several(["bare"]) == "bare"
    assert one_of_several([]) == ""
