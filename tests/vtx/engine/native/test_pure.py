"""The LLVM IR of every pure primitive: total, free of poison, and equal to its one definition."""

import ctypes
import io
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, product

import llvmlite.binding as llvm
import pytest
from elftools.elf.elffile import ELFFile

from vtx.engine.native.helpers import DECLARATIONS, HELPERS
from vtx.engine.native.pure import HANDLED, pure_lines
from vtx.isa.primitives import COMPARISONS, DIVIDES_FIT, PURE, WIDTHS, Prim, apply
from vtx.isa.program import Op

llvm.initialize_native_target()
llvm.initialize_native_asmprinter()
llvm.initialize_native_asmparser()

ARITY = {prim: meaning.__code__.co_argcount - 1 for prim, meaning in PURE.items()}
BY_HELPER = {Prim.PDEP, Prim.PEXT}
DIVISIONS = {Prim.UDIV, Prim.UREM, Prim.SDIV, Prim.SREM}
RANDOM_ROWS = 60


@dataclass(frozen=True)
class Case:
    """One primitive at one legal pair of widths."""

    prim: Prim
    width: int
    operand: int

    @property
    def name(self) -> str:
        return f"{self.prim.name}_{self.width}_{self.operand}"

    @property
    def argument_widths(self) -> tuple[int, ...]:
        if self.prim is Prim.SELECT:
            return (1, self.operand, self.operand)
        return (self.operand,) * ARITY[self.prim]

    @property
    def folds(self) -> bool:
        """LLVM can compute it from constants: no loop of a helper, no division by the host."""
        if self.prim in BY_HELPER:
            return False
        return not (self.prim in DIVISIONS and self.operand == 64)

    def lines(self, args: list[str]) -> tuple[list[str], str]:
        numbers = count()
        op = Op(self.prim, (9,), self.width, tuple(range(len(args))), None, self.operand)
        return pure_lines(op, args, lambda: f"%v{next(numbers)}")

    def meaning(self, row: tuple[int, ...]) -> int:
        return apply(self.prim, self.width, self.operand, *row)


def _widths(prim: Prim) -> list[tuple[int, int]]:
    """(result width, operand width) pairs that are legal for `prim`."""
    if prim in COMPARISONS | DIVIDES_FIT:
        return [(1, width) for width in WIDTHS]
    if prim is Prim.TRUNC:
        return [(to, width) for to in WIDTHS for width in WIDTHS if to < width]
    if prim in {Prim.ZEXT, Prim.SEXT}:
        return [(to, width) for to in WIDTHS for width in WIDTHS if to >= width]
    if prim is Prim.BSWAP:
        return [(width, width) for width in WIDTHS if width >= 8]
    return [(width, width) for width in WIDTHS]


CASES = [Case(prim, *widths) for prim in PURE for widths in _widths(prim)]


def _fitting(values: set[int], width: int) -> list[int]:
    return sorted(value for value in values if 0 <= value < 1 << width)


def _edges(width: int) -> list[int]:
    top = 1 << (width - 1)
    around = {width - 1, width, width + 1, top - 1, top, 2 * top - 2, 2 * top - 1}
    return _fitting({0, 1, 2, 3, 0x5A} | around, width)


def _few_edges(width: int) -> list[int]:
    top = 1 << (width - 1)
    return _fitting({0, 1, width - 1, width, width + 1, top, 2 * top - 1}, width)


def _harshest_edges(width: int) -> list[int]:
    return _fitting({0, width, 1 << (width - 1), (1 << width) - 1}, width)


def _fewest_edges(width: int) -> list[int]:
    top = 1 << (width - 1)
    return _fitting({0, 1, 3, top, 2 * top - 1}, width)


def _rows(case: Case) -> Iterator[tuple[int, ...]]:
    """Operands at the edges, then random ones of random magnitudes."""
    yield from product(*(_edges(width) for width in case.argument_widths))
    source = random.Random(case.name)
    for _ in range(RANDOM_ROWS):
        yield tuple(source.getrandbits(source.randint(1, width)) for width in case.argument_widths)


def _constant_rows(case: Case) -> Iterator[tuple[int, ...]]:
    edges = _fewest_edges if ARITY[case.prim] == 3 else _few_edges
    return product(*(edges(width) for width in case.argument_widths))


# --- making code -----------------------------------------------------------------------------


def _target_machine(cpu: str) -> llvm.TargetMachine:
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=cpu, opt=2, reloc="static", codemodel="small"
    )


def _optimised(text: str, machine: llvm.TargetMachine) -> llvm.ModuleRef:
    module = llvm.parse_assembly(text)
    module.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    return module


def _definitions() -> str:
    return "".join(HELPERS.values())


def _runtime_function(case: Case) -> str:
    """A function of three i64 (as many as are needed are used) that gives an i64."""
    widths = case.argument_widths
    body = [
        f"%n{n} = trunc i64 %a{n} to i{width}" if width < 64 else f"%n{n} = add i64 %a{n}, 0"
        for n, width in enumerate(widths)
    ]
    lines, result = case.lines([f"%n{n}" for n in range(len(widths))])
    body += lines
    if case.width < 64:
        body.append(f"%wide = zext i{case.width} {result} to i64")
        result = "%wide"
    body.append(f"ret i64 {result}")
    return _function("i64", case.name, "i64 %a0, i64 %a1, i64 %a2", body)


def _constant_function(case: Case, row: tuple[int, ...], name: str, named: bool) -> str:
    """A function of nothing, its operands literal constants or names of constants."""
    args, body = [str(value) for value in row], []
    if named:
        body = [
            f"%n{n} = or i{width} {value}, 0"
            for n, (value, width) in enumerate(zip(row, case.argument_widths, strict=True))
        ]
        args = [f"%n{n}" for n in range(len(row))]
    lines, result = case.lines(args)
    return _function(f"i{case.width}", name, "", [*body, *lines, f"ret i{case.width} {result}"])


def _function(kind: str, name: str, params: str, body: list[str]) -> str:
    return "\n".join([f"define {kind} @{name}({params}) {{", *body, "}", ""])


# --- reading folded code ---------------------------------------------------------------------

_DEFINITION = re.compile(r"^define [^\n]*@(\w+)\([^\n]*\{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
_CONSTANT = re.compile(r"\s*ret i\d+ (-?\d+|true|false)\s*")
_NO_VALUE = re.compile(r"\b(poison|undef|unreachable)\b")


def _bodies(module: llvm.ModuleRef) -> dict[str, str]:
    return dict(_DEFINITION.findall(str(module)))


def _without_value(bodies: dict[str, str]) -> set[str]:
    """The functions in which LLVM found poison, an undefined value or undefined behaviour."""
    return {name for name, body in bodies.items() if _NO_VALUE.search(body)}


def _folded(body: str) -> int | None:
    """The constant that a function returns, if that is all it does."""
    match = _CONSTANT.fullmatch(body)
    if match is None:
        return None
    return {"true": 1, "false": 0}[match[1]] if match[1].isalpha() else int(match[1])


# --- the tests -------------------------------------------------------------------------------


def test_every_pure_primitive_is_handled_and_nothing_else() -> None:
    assert frozenset(PURE) == HANDLED


@pytest.mark.parametrize("cpu", ["x86-64", llvm.get_host_cpu_name()])
def test_every_primitive_at_every_width_equals_its_definition(cpu: str) -> None:
    machine = _target_machine(cpu)
    module = _optimised(_definitions() + "".join(map(_runtime_function, CASES)), machine)
    kind = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_uint64)
    with llvm.create_mcjit_compiler(module, machine) as engine:
        engine.finalize_object()
        for case in CASES:
            function = kind(engine.get_function_address(case.name))
            for row in _rows(case):
                padded = (*row, 0, 0)[:3]
                assert function(*padded) == case.meaning(row), (case, row)


@pytest.mark.parametrize("named", [False, True], ids=["literal", "named"])
def test_constant_edge_operands_fold_to_the_definition_and_never_to_poison(named: bool) -> None:
    expected, text = {}, []
    for case in CASES:
        for row in _constant_rows(case):
            name = f"f{len(expected)}"
            expected[name] = (case, row)
            text.append(_constant_function(case, row, name, named))
    bodies = _bodies(_optimised(DECLARATIONS + "".join(text), _target_machine("x86-64")))
    assert set(bodies) == set(expected)
    assert {name: bodies[name] for name in _without_value(bodies)} == {}
    for name, (case, row) in expected.items():
        value = _folded(bodies[name])
        assert value is not None or not case.folds, (case, row, bodies[name])
        if value is not None:
            assert value & ((1 << case.width) - 1) == case.meaning(row), (case, row)


def test_no_step_on_the_way_to_a_result_is_poison() -> None:
    rows = [
        (case, row)
        for case in CASES
        for row in product(*(_harshest_edges(width) for width in case.argument_widths))
    ]
    text = [
        _constant_function(case, row, f"f{n}", named=True) for n, (case, row) in enumerate(rows)
    ]
    steps = _with_steps_kept(DECLARATIONS + "".join(text))
    bodies = _bodies(_optimised(steps, _target_machine("x86-64")))
    assert {rows[int(name[1:])]: bodies[name] for name in _without_value(bodies)} == {}


def _with_steps_kept(text: str) -> str:
    """The same functions, each integer that they compute passed to an unknown function too."""
    types = {
        (function.name, step.name): str(step.type)
        for function in llvm.parse_assembly(text).functions
        for block in function.blocks
        for step in block.instructions
    }
    lines, name = [f"declare void @keep_i{width}(i{width})" for width in (*WIDTHS, 2, 128)], ""
    for line in text.splitlines():
        lines.append(line)
        if line.startswith("define"):
            name = line.partition("@")[2].partition("(")[0]
        elif line.startswith("%"):
            step = line.partition(" ")[0]
            kind = types[name, step[1:]]
            if kind.startswith("i"):
                lines.append(f"call void @keep_{kind}({kind} {step})")
    return "\n".join(lines)


@pytest.mark.parametrize(
    "instruction",
    [
        "shl i8 1, 8",
        "lshr i32 1, 33",
        "ashr i64 -1, 64",
        "udiv i8 1, 0",
        "sdiv i32 -2147483648, -1",
        "urem i64 1, 0",
        "call i16 @llvm.ctlz.i16(i16 0, i1 true)",
        "call i8 @llvm.abs.i8(i8 -128, i1 true)",
    ],
)
def test_the_search_for_poison_finds_what_an_unguarded_instruction_makes(instruction: str) -> None:
    kind = re.search(r"\bi\d+", instruction)
    assert kind is not None
    text = _function(kind[0], "f", "", [f"%v = {instruction}", f"ret {kind[0]} %v"])
    assert _without_value(_bodies(_optimised(text, _target_machine("x86-64")))) == {"f"}


@pytest.mark.parametrize("cpu", ["x86-64", llvm.get_host_cpu_name()])
@pytest.mark.parametrize("optimise", [False, True])
def test_code_calls_nothing_but_helpers_and_reads_no_constant_pool(
    cpu: str, optimise: bool
) -> None:
    machine = _target_machine(cpu)
    for head, allowed in ((DECLARATIONS, set(HELPERS)), (_definitions(), set())):
        text = head + "".join(map(_runtime_function, CASES))
        module = _optimised(text, machine) if optimise else llvm.parse_assembly(text)
        elf = ELFFile(io.BytesIO(machine.emit_object(module)))
        assert _undefined_symbols(elf) <= allowed
        assert not [s.name for s in elf.iter_sections() if s.name.startswith((".rodata", ".data"))]


def _undefined_symbols(elf: ELFFile) -> set[str]:
    table = elf.get_section_by_name(".symtab")
    return {
        symbol.name
        for symbol in table.iter_symbols()
        if symbol.name and symbol["st_shndx"] == "SHN_UNDEF"
    }
