"""Numbers are read from instruction bytes as iced reads them."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from iced_x86 import Decoder, Instruction

from vtx.engine.native.encoding import Encoding, encoding_of, head_of
from vtx.isa.program import Origin

HEADS = [
    (64, "4803842408112233"), (64, "83c005"), (64, "4883c0f5"), (64, "7505"), (64, "0f8500000000"),
    (32, "7585"), (16, "7585"), (32, "660f8500000000"[:10]), (64, "67488b4390"), (32, "678b4690"),
    (64, "48b81122334455667788"), (64, "c8100005"), (64, "66c780123456789a12"),
    (64, "48a11122334455667788"), (64, "488b0512345678"), (64, "e811223344"), (64, "6aff"),
    (64, "6868ffffff"), (64, "c1e005"), (32, "668120f0ff"), (16, "a11234"), (64, "80780501"),
    (64, "48c7450811223344"), (64, "480fbaf03f"), (16, "e81234"), (32, "e9112233ff"),
]  # fmt: skip
READ = {
    Origin.IMMEDIATE0: lambda x: x.immediate(0), Origin.IMMEDIATE1: lambda x: x.immediate(1),
    Origin.IMMEDIATE2: lambda x: x.immediate(2),
    Origin.DISPLACEMENT: lambda x: x.memory_displacement,
    Origin.BRANCH: lambda x: x.near_branch_target,
}  # fmt: skip
WRAP = (1 << 64) - 1


def _decoded(raw: bytes, bits: int) -> tuple[Decoder, Instruction]:
    decoder = Decoder(bits, raw)
    return decoder, decoder.decode()


def _encoding(raw: bytes, bits: int) -> Encoding | None:
    decoder, decoded = _decoded(raw, bits)
    return encoding_of(raw[: decoded.len], bits, decoder, decoded)


@pytest.mark.parametrize(("bits", "text"), HEADS)
@settings(max_examples=60, deadline=None)
@given(tail=st.binary(min_size=12, max_size=12))
def test_any_number_behind_a_head_is_read_as_by_iced(bits: int, text: str, tail: bytes) -> None:
    raw = bytes.fromhex(text)
    encoding = _encoding(raw, bits)
    assert encoding is not None
    assert encoding.sources
    other = raw[: encoding.head] + tail[: encoding.length - encoding.head]
    fields = struct.unpack_from(encoding.fields, other, encoding.head)
    names = {f"f{n}": number for n, number in enumerate(fields)}

    _, decoded = _decoded(other, bits)

    assert decoded.len == encoding.length
    for origin, source in encoding.sources.items():
        assert eval(source, names) & WRAP == READ[origin](decoded) & WRAP


@pytest.mark.parametrize(("bits", "text"), HEADS)
def test_the_head_ends_where_the_first_number_begins(bits: int, text: str) -> None:
    raw = bytes.fromhex(text)
    encoding = _encoding(raw, bits)

    assert encoding is not None
    assert encoding.head == head_of(*_decoded(raw, bits))


def test_an_instruction_without_numbers_is_all_head() -> None:
    encoding = _encoding(bytes.fromhex("4889c3"), 64)

    assert encoding == Encoding(3, 3, "<", {})
