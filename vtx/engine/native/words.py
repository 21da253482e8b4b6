"""Python functions over 64-bit words as LLVM text: for inner loops too slow in Python itself.

A function that is compiled so takes and returns words, and uses local names, numbers of its
module, `if`, `while`, `+ - * & | ^ << >>`, comparisons (of signed numbers), other functions that
are compiled with it, and the functions here, which reach memory. `>>` brings in zeros. Nothing
here knows what is computed; the functions are never run by Python.
"""

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterable

from vtx.engine.native.text import METADATA

Function = Callable[..., int]


class WordsError(Exception):
    """A function that is not made of what is allowed."""


def _in_memory(address: int) -> int:
    raise NotImplementedError("compiled code only")


def _to_memory(address: int, value: int) -> int:
    raise NotImplementedError("compiled code only")


u8 = u16 = u32 = u64 = i8 = i16 = i32 = _in_memory
"""The number at an address."""
put8 = put16 = put32 = put64 = _to_memory
"""Write a number to an address."""


def below(a: int, b: int) -> int:
    """Whether `a` is less than `b` as numbers without sign."""
    raise NotImplementedError("compiled code only")


_LOADS = {f"{sign}{width}": (sign, width) for sign in "ui" for width in (8, 16, 32, 64)}
_STORES = {f"put{width}": width for width in (8, 16, 32, 64)}
_BINARY: dict[type[ast.operator], str] = {
    ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.BitAnd: "and", ast.BitOr: "or",
    ast.BitXor: "xor", ast.LShift: "shl", ast.RShift: "lshr",
}  # fmt: skip
_COMPARE: dict[type[ast.cmpop], str] = {
    ast.Eq: "eq", ast.NotEq: "ne", ast.Lt: "slt", ast.LtE: "sle", ast.Gt: "sgt", ast.GtE: "sge",
}  # fmt: skip
_ATTRIBUTES = 'nounwind "no-builtins"'
"""LLVM would make calls of the C library's functions of loops that copy."""


def module_text(functions: Iterable[Function], visible: Iterable[Function]) -> str:
    """A module of `functions`; those that are `visible` can be called from outside."""
    public = {function.__name__ for function in visible}
    texts = [_Body(function, function.__name__ in public).text() for function in functions]
    return "\n".join([*texts, METADATA])


class _Body:
    """One function while it is written."""

    def __init__(self, function: Function, is_visible: bool) -> None:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
        assert isinstance(tree, ast.FunctionDef)
        self._tree, self._globals = tree, function.__globals__
        self._linkage = "dso_local" if is_visible else "internal"
        self._lines: list[str] = []
        self._count = 0
        self._loops: list[tuple[str, str]] = []
        self._is_ended = False

    def text(self) -> str:
        names = [argument.arg for argument in self._tree.args.args]
        local = dict.fromkeys(names)
        for node in ast.walk(self._tree):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                local[node.id] = None
        self._locals = set(local)
        for name in local:
            self._line(f"%{name}.p = alloca i64")
        for name in names:
            self._line(f"store i64 %{name}, ptr %{name}.p")
        self._statements(self._tree.body)
        if not self._is_ended:
            self._line("ret i64 0")
        parameters = ", ".join(f"i64 %{name}" for name in names)
        head = f"define {self._linkage} i64 @{self._tree.name}({parameters}) {_ATTRIBUTES} {{"
        return "\n".join([head, *self._lines, "}"])

    # --- lines -----------------------------------------------------------------------------
    def _line(self, text: str) -> None:
        self._lines.append(f"  {text}")

    def _add(self, text: str) -> str:
        self._count += 1
        self._line(f"%v{self._count} = {text}")
        return f"%v{self._count}"

    def _label(self) -> str:
        self._count += 1
        return f"L{self._count}"

    def _place(self, label: str) -> None:
        self._jump(label)
        self._lines.append(f"{label}:")
        self._is_ended = False

    def _jump(self, label: str) -> None:
        if not self._is_ended:
            self._line(f"br label %{label}")
        self._is_ended = True

    # --- statements --------------------------------------------------------------------------
    def _statements(self, statements: list[ast.stmt]) -> None:
        for statement in statements:
            if self._is_ended:
                raise self._error(statement)
            self._statement(statement)

    def _statement(self, statement: ast.stmt) -> None:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                self._line(f"store i64 {self._value(value)}, ptr %{name}.p")
            case ast.AugAssign(target=ast.Name(id=name) as target, op=op, value=value):
                read = ast.Name(id=name, ctx=ast.Load(), lineno=target.lineno)
                summed = ast.BinOp(left=read, op=op, right=value, lineno=target.lineno)
                self._line(f"store i64 {self._value(summed)}, ptr %{name}.p")
            case ast.Expr(value=ast.Constant()):
                pass  # a docstring
            case ast.Expr(value=value):
                self._value(value)
            case ast.Return(value=ast.expr() as value):
                self._line(f"ret i64 {self._value(value)}")
                self._is_ended = True
            case ast.If():
                self._if(statement)
            case ast.While():
                self._while(statement)
            case ast.Break():
                self._jump(self._loops[-1][1])
            case ast.Continue():
                self._jump(self._loops[-1][0])
            case _:
                raise self._error(statement)

    def _if(self, statement: ast.If) -> None:
        then, other, behind = self._label(), self._label(), self._label()
        self._branch(statement.test, then, other)
        self._place(then)
        self._statements(statement.body)
        self._jump(behind)
        self._place(other)
        self._statements(statement.orelse)
        self._place(behind)

    def _while(self, statement: ast.While) -> None:
        again, body, behind = self._label(), self._label(), self._label()
        self._place(again)
        self._branch(statement.test, body, behind)
        self._loops.append((again, behind))
        self._place(body)
        self._statements(statement.body)
        self._jump(again)
        self._loops.pop()
        self._place(behind)

    def _branch(self, test: ast.expr, true: str, false: str) -> None:
        """Go to one of two labels; what is behind `and` and `or` is worked out if it matters."""
        match test:
            case ast.BoolOp(op=op, values=values):
                for value in values[:-1]:
                    more = self._label()
                    is_and = isinstance(op, ast.And)
                    self._branch(value, more if is_and else true, false if is_and else more)
                    self._place(more)
                self._branch(values[-1], true, false)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                self._branch(operand, false, true)
            case _:
                self._line(f"br i1 {self._condition(test)}, label %{true}, label %{false}")
                self._is_ended = True

    def _condition(self, test: ast.expr) -> str:
        match test:
            case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _COMPARE:
                kind, a = _COMPARE[type(op)], self._value(left)
                return self._add(f"icmp {kind} i64 {a}, {self._value(right)}")
            case ast.Call(func=ast.Name(id="below"), args=[left, right]):
                a = self._value(left)
                return self._add(f"icmp ult i64 {a}, {self._value(right)}")
        return self._add(f"icmp ne i64 {self._value(test)}, 0")

    # --- values ----------------------------------------------------------------------------
    def _value(self, value: ast.expr) -> str:
        match value:
            case ast.Constant(value=int() as number):
                return _signed(number)
            case ast.Name(id=name) if name in self._locals:
                return self._add(f"load i64, ptr %{name}.p")
            case ast.Name(id=name) if isinstance(self._globals.get(name), int):
                return _signed(int(self._globals[name]))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
                kind, a = _BINARY[type(op)], self._value(left)
                return self._add(f"{kind} i64 {a}, {self._value(right)}")
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return self._add(f"sub i64 0, {self._value(operand)}")
            case ast.Compare():
                return self._add(f"zext i1 {self._condition(value)} to i64")
            case ast.Call(func=ast.Name(id=name), args=arguments):
                return self._call(name, value, [self._value(one) for one in arguments])
        raise self._error(value)

    def _call(self, name: str, call: ast.Call, arguments: list[str]) -> str:
        if name == "below":
            return self._add(f"zext i1 {self._condition(call)} to i64")
        if name in _LOADS:
            sign, width = _LOADS[name]
            place = self._add(f"inttoptr i64 {arguments[0]} to ptr")
            found = self._add(f"load i{width}, ptr {place}, align 1")
            if width == 64:
                return found
            return self._add(f"{'zext' if sign == 'u' else 'sext'} i{width} {found} to i64")
        if name in _STORES:
            width = _STORES[name]
            place = self._add(f"inttoptr i64 {arguments[0]} to ptr")
            given = arguments[1]
            if width < 64:
                given = self._add(f"trunc i64 {given} to i{width}")
            self._line(f"store i{width} {given}, ptr {place}, align 1")
            return given
        listed = ", ".join(f"i64 {argument}" for argument in arguments)
        return self._add(f"call i64 @{name}({listed})")

    def _error(self, node: ast.stmt | ast.expr) -> WordsError:
        where = f"{self._tree.name}, line {node.lineno}"
        return WordsError(f"{where}: {type(node).__name__} is not among what is compiled")


def _signed(number: int) -> str:
    return str(number - (1 << 64) if number >> 63 else number)
