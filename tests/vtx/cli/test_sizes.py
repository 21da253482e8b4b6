"""Memory sizes."""

from __future__ import annotations

import click
import pytest

from vtx.cli.sizes import SIZE, in_words


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("64M", 64 << 20),
        ("64m", 64 << 20),
        ("1G", 1 << 30),
        ("2048K", 2 << 20),
        ("64MiB", 64 << 20),
        ("67108864", 64 << 20),
        ("0x4000000", 64 << 20),
        ("010M", 10 << 20),
    ],
)
def test_a_size_is_a_number_with_a_unit(text: str, size: int) -> None:
    assert SIZE.convert(text, None, None) == size


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lots", "no size"),
        ("", "no size"),
        ("-1M", "no size"),
        ("1.5G", "no size"),
        ("64", "did you mean 64M"),
        ("0", "less than 1M"),
        ("0M", "less than 1M"),
        ("512K", "less than 1M"),
        ("1048577", "not a multiple of 4K"),
    ],
)
def test_what_is_no_memory_size_is_refused_with_a_reason(text: str, said: str) -> None:
    with pytest.raises(click.BadParameter, match=said):
        SIZE.convert(text, None, None)


@pytest.mark.parametrize(
    ("size", "words"),
    [(64 << 20, "64M"), (1 << 30, "1G"), (1536 << 20, "1536M"), (4096, "4K"), (5, "5"), (0, "0")],
)
def test_a_size_reads_in_its_largest_whole_unit(size: int, words: str) -> None:
    assert in_words(size) == words
