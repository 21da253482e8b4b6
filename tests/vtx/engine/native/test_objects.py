"""Objects are read whole, and what is damaged or not understood is refused."""

import struct
from io import BytesIO

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import given, settings
from hypothesis import strategies as st

from vtx.engine.native import compiler
from vtx.engine.native.compiler import host_compiler
from vtx.engine.native.objects import EM_X86_64, INSIDE, ObjectError, extract, parse_object
from vtx.engine.native.relocate import HOST

pytestmark = pytest.mark.skipif(not compiler.available(), reason="needs LLVM")

TEXT = """
@H = external dso_local global i8, !absolute_symbol !0
!0 = !{i64 0, i64 65536}
declare dso_local void @outside(i64)
define dso_local i64 @alone(i64 %a) nounwind {
  %r = add i64 %a, ptrtoint (ptr @H to i64)
  call void @outside(i64 %r)
  ret i64 %r
}
define dso_local double @constant(double %x) nounwind {
  %y = fmul double %x, 3.25
  ret double %y
}
define dso_local i64 @caller(i64 %x) nounwind section ".text.caller" {
  %y = call i64 @alone(i64 %x) noinline
  ret i64 %y
}
"""


def _object(text: str = TEXT) -> bytes:
    return host_compiler().compile(text)


def test_functions_and_relocations_are_those_a_general_reader_finds() -> None:
    data = _object()
    code = parse_object(data)
    elf = ELFFile(BytesIO(data))
    functions = {
        symbol.name: symbol["st_size"]
        for symbol in elf.get_section_by_name(".symtab").iter_symbols()
        if symbol["st_info"]["type"] == "STT_FUNC"
    }
    assert {name: function.size for name, function in code.functions.items()} == functions
    found = sorted(
        (relocation["r_info_type"], relocation["r_addend"])
        for section in elf.iter_sections()
        if section["sh_type"] == "SHT_RELA"
        for relocation in section.iter_relocations()
    )
    assert len(found) == len(code.relocations)
    outside = [r for r in code.relocations if r.symbol != INSIDE]
    assert {r.symbol for r in outside} == {"H", "outside"}
    assert {(r.kind, r.addend) for r in outside} <= set(found)
    for name, function in code.functions.items():
        section = elf.get_section_by_name(".text.caller" if name == "caller" else ".text")
        assert code.code[function.offset :][: function.size] in section.data()


def test_a_function_alone_has_its_own_offsets_and_no_padding() -> None:
    code = parse_object(_object("define void @first() nounwind {\n ret void\n}\n" + TEXT))
    function = code.functions["alone"]
    stencil = extract(code, "alone")
    assert function.offset > 0 and len(stencil.code) == function.size
    assert {relocation.symbol for relocation in stencil.relocations} == {"H", "outside"}
    for relocation in stencil.relocations:
        assert 0 < relocation.offset <= len(stencil.code) - 4


_CONSTANT = pytest.mark.skipif(
    HOST != EM_X86_64, reason="elsewhere the constant may be part of an instruction"
)


@pytest.mark.parametrize("name", [pytest.param("constant", marks=_CONSTANT), "caller"])
def test_a_function_that_refers_to_the_rest_of_its_object_cannot_be_extracted(name: str) -> None:
    with pytest.raises(ObjectError, match="another part"):
        extract(parse_object(_object()), name)


def test_a_function_that_is_not_there_is_refused() -> None:
    with pytest.raises(ObjectError, match="no function nowhere"):
        extract(parse_object(_object()), "nowhere")


@pytest.mark.parametrize(
    "text",
    [
        "@v = global i64 5\n",
        "@v = global i64 0\n",
        "@v = thread_local global i64 3\n",
        '@v = constant i64 3, section "other"\n',
    ],
)
def test_memory_that_is_written_or_unknown_is_refused(text: str) -> None:
    with pytest.raises(ObjectError, match="not understood"):
        parse_object(_object(text))


def test_what_is_not_a_relocatable_object_is_refused() -> None:
    data = _object()
    with pytest.raises(ObjectError, match="not a little-endian ELF64"):
        parse_object(b"MZ" + data[2:])
    with pytest.raises(ObjectError, match="type 2"):
        parse_object(data[:16] + b"\2" + data[17:])


def test_no_truncation_gives_an_object() -> None:
    data = _object()
    for size in range(0, len(data) - 1, 7):
        with pytest.raises(ObjectError) as caught:
            parse_object(data[:size])
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("alignment", [3, 8192, 1 << 50])
def test_an_alignment_no_memory_has_is_refused(alignment: int) -> None:
    data = bytearray(_object())
    (sections,) = struct.unpack_from("<Q", data, 40)
    for number in range(*struct.unpack_from("<H", data, 60)):
        struct.pack_into("<Q", data, sections + 64 * number + 48, alignment)
    with pytest.raises(ObjectError, match=hex(alignment)):
        parse_object(bytes(data))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damage_is_refused_or_harmless_but_never_another_error(data: st.DataObject) -> None:
    damaged = bytearray(_DATA)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        code = parse_object(bytes(damaged))
    except ObjectError:
        return
    for relocation in code.relocations:
        assert 0 <= relocation.offset < len(code.code)


_DATA = _object() if compiler.available() else b""
