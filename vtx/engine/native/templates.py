"""From instruction bytes to fillings, remembering what was worked out before.

Instructions that differ in displacement and immediates share one template, found by their head
without decoding. What was worked out is kept for other processes as a *recipe*, so that the
semantics run once for every head there is. What is made of the forms is not known here.
"""

from collections.abc import Callable
from functools import cache
from struct import Struct
from types import CodeType, FunctionType
from typing import Any, NamedTuple

from iced_x86 import Decoder, DecoderError, DecoderOptions, FlowControl
from iced_x86 import Instruction as Decoded

from vtx.engine.native.encoding import Encoding, encoding_of, head_of
from vtx.engine.native.forms import (
    BEHIND,
    HERE,
    VALUE_NAMES,
    Form,
    Kinds,
    Split,
    kinds_of,
    split,
)
from vtx.engine.native.formulas import Formula, formula_of
from vtx.engine.native.kept import kept, name_of
from vtx.engine.translate import LONGEST, Translated, translate_bytes
from vtx.isa.key import Key

_MOST_TEMPLATES = 50_000
_NEAR = {"_NEAR": (1 << 31) - 16, "_FAR": (1 << 64) - (1 << 31), "_LAST": (1 << 64) - 16}
"""Instructions below the first or from the second to the third have all of their own and the
next place in a sign-extended doubleword."""
_MIXED = -1
"""Key of known values that have to be looked at one by one."""

_NOT_BEHIND = frozenset({
    FlowControl.UNCONDITIONAL_BRANCH, FlowControl.INDIRECT_BRANCH, FlowControl.RETURN,
    FlowControl.EXCEPTION,
})  # fmt: skip
_VALUE_NAMES = VALUE_NAMES | _NEAR
_Values = Callable[[int, bytes, int, Any], tuple[tuple[int, ...], int]]


class Filling:
    """A form with what an instruction of its template puts into the holes."""

    __slots__ = ("_form", "_template", "fixed", "holes", "kinds", "name", "plans", "uses_flags",
                 "varying")  # fmt: skip

    def __init__(self, template: "Template", kinds: Kinds, recipe: tuple[Any, ...]) -> None:
        self._template, self.kinds = template, kinds
        self._form: Form | None = None
        self.name: bytes
        """Of the form; equal forms have equal names."""
        self.holes: tuple[str, ...]
        """Kind of each hole."""
        self.fixed: tuple[int | None, ...]
        self.varying: tuple[int | None, ...]
        """See forms.Canonical."""
        self.uses_flags: bool
        """Its code depends on the kind of flags it is entered with."""
        self.name, self.holes, self.fixed, self.varying, self.uses_flags = recipe
        self.plans: dict[int | None, Any] = {}
        """For who copies code, by the kind of flags that it is entered with."""

    @property
    def form(self) -> Form:
        """What is compiled; worked out again where only its recipe was needed so far."""
        if self._form is None:
            self._form = self._template.split.canonical(self.kinds).form
        return self._form


class Template:
    """Instructions that differ in the numbers of their encoding and in their place only."""

    __slots__ = ("_fillings", "_origin", "_split", "alone", "ends_block", "formula", "goes_behind",
                 "is_plain", "length", "name", "quick", "repeats", "unpack", "values",
                 "widths")  # fmt: skip

    def __init__(self, name: bytes, recipe: tuple[Any, ...], origin: Callable[[], Split]) -> None:
        self.name = name
        self.length: int
        self.ends_block: bool
        self.repeats: bool
        """A repeated string instruction."""
        self.alone: bool
        """It has to be a block of its own."""
        self.goes_behind: bool
        """Sooner or later what lies behind it is run: it is no jump or return."""
        self.widths: tuple[int, ...]
        (
            self.length, self.ends_block, self.repeats, self.alone, self.goes_behind, code, fields,
            self.widths, formula,
        ) = recipe  # fmt: skip
        self.formula = None if formula is None else Formula(*formula)
        """How the values are computed, for native code."""
        self.is_plain = not self.alone and not self.ends_block
        self.values: _Values = FunctionType(code, _VALUE_NAMES)
        """(offset in CS, code, where in the code, `unpack`) -> the known values, and a key.

        Values with equal keys other than -1 have equal kinds.
        """
        self.unpack = _unpack(fields)
        self._origin = origin
        self._split: Split | None = None
        self._fillings: dict[Kinds, Filling] = {}
        self.quick: dict[int, Filling] = {}
        """Fillings by such keys."""

    @property
    def split(self) -> Split:
        """The program, for forms that are not known yet."""
        if self._split is None:
            self._split = self._origin()
        return self._split

    def filling(self, values: tuple[int, ...], key: int = _MIXED) -> Filling:
        """The form for known values of these kinds."""
        found = self.quick.get(key)
        if found is None:
            kinds = kinds_of(values, self.widths)
            found = self._fillings.get(kinds)
            if found is None:
                found = self._fillings[kinds] = self._fill(kinds)
            if key != _MIXED:
                self.quick[key] = found
        return found

    def _fill(self, kinds: Kinds) -> Filling:
        name = self.name + repr(tuple(map(_plain, kinds))).encode()
        recipe = kept().get("filling", name)
        if recipe is None:
            canonical = self.split.canonical(kinds)
            form = canonical.form
            recipe = (
                name_of(form), form.holes, canonical.fixed, canonical.varying,
                form.eager or form.reads_flags,
            )  # fmt: skip
            kept().put("filling", name, recipe)
        return Filling(self, kinds, recipe)


def _plain(kind: int | str) -> int | str:
    return int(kind) if isinstance(kind, bool) else kind


@cache
def _unpack(fields: str) -> Callable[..., tuple[int, ...]]:
    return Struct(fields).unpack_from


class Piece(NamedTuple):
    """An instruction in memory."""

    template: Template
    filling: Filling
    values: tuple[int, ...]
    """The known values."""

    @property
    def length(self) -> int:
        """Bytes."""
        return self.template.length

    @property
    def repeats(self) -> bool:
        """A repeated string instruction."""
        return self.template.repeats


class InPython:
    """What is found where no instruction is: Python has to say what happens."""


IN_PYTHON = InPython()
_EACH_ITS_OWN = "exact"
"""Instead of a recipe: instructions with this head have one for each."""


class Templates:
    """Everything known of instructions, for one translation key and set of features."""

    def __init__(self, key: Key, features: frozenset[str]) -> None:
        self._key, self._features = key, features
        self._ip_mask = (1 << 64) - 1 if key.bits == 64 else 0xFFFF_FFFF
        self._prefix = name_of(tuple(key), tuple(sorted(features)))
        self._root: dict[int, Any] = {}
        """By the bytes of a head, one after the other: dictionaries, and at the end a Template."""
        self._count = 0

    def find(self, code: bytes, at: int, ip: int) -> Piece | InPython | None:
        """The instruction at `code[at:]`, which runs at `ip`; None: it needs more bytes."""
        node: Any = self._root
        n = at
        try:
            while node.__class__ is dict:
                node = node[code[n]]
                n += 1
        except (KeyError, IndexError):
            node = self._learn(code[at : at + LONGEST])
            if node is None or node is IN_PYTHON:
                return node
        if at + node.length > len(code):
            return None
        values, key = node.values(ip, code, at, node.unpack)
        return Piece(node, node.quick.get(key) or node.filling(values, key), values)

    def straight(self, code: bytes, at: int, ip: int, most: int) -> tuple[list[Piece], bool]:
        """Instructions from `code[at:]` on, at most `most`, up to one that ends a block.

        And whether they end because the next one needs more bytes than `code` has. The same as
        `find` again and again, for the path that all code takes once.
        """
        pieces: list[Piece] = []
        root, end, mask = self._root, len(code), self._ip_mask
        new_tuple, append = tuple.__new__, pieces.append
        while at < end:
            node: Any = root
            n = at
            try:
                while node.__class__ is dict:
                    node = node[code[n]]
                    n += 1
            except (KeyError, IndexError):
                node = self._learn(code[at : at + LONGEST])
                if node is None:
                    return pieces, True
                if node is IN_PYTHON:
                    break
            length = node.length
            if at + length > end:
                return pieces, True
            values, key = node.values(ip, code, at, node.unpack)
            filling = node.quick.get(key)
            if filling is None:
                filling = node.filling(values, key)
            if not node.is_plain:
                if not (node.alone and pieces):
                    append(Piece(node, filling, values))
                break
            append(new_tuple(Piece, (node, filling, values)))
            if len(pieces) == most:
                break
            at += length
            ip = ip + length & mask
        return pieces, False

    def head_of(self, raw: bytes) -> bytes:
        """What the instruction at the start of `raw`, which is known, is found by."""
        node: Any = self._root
        n = 0
        while node.__class__ is dict:
            node = node[raw[n]]
            n += 1
        return raw[:n]

    # --- learning ----------------------------------------------------------------------------
    def _learn(self, code: bytes) -> Template | InPython | None:
        """The template of the instruction at the start of `code`, which is not known yet."""
        decoder = Decoder(self._key.bits, code, DecoderOptions.NONE)
        decoded = decoder.decode()
        if decoded.is_invalid:
            needs_more = decoder.last_error == DecoderError.NO_MORE_BYTES and len(code) < LONGEST
            return None if needs_more else IN_PYTHON
        raw = code[: decoded.len]
        head = raw[: head_of(decoder, decoded)]
        name = self._prefix + b"h" + head
        recipe = kept().get("template", name)
        if recipe == _EACH_ITS_OWN:
            head, name = raw, self._prefix + b"r" + raw
            recipe = kept().get("template", name)
        if recipe is None:
            head, name, recipe = self._make(raw, head, decoder, decoded)
        template = Template(name, recipe, lambda: self._split(raw))
        self._insert(head, raw, template)
        return template

    def _make(
        self, raw: bytes, head: bytes, decoder: Decoder, decoded: Decoded
    ) -> tuple[bytes, bytes, tuple[Any, ...]]:
        """What the template is found by, its name, and its recipe, which is kept."""
        encoding = encoding_of(raw, self._key.bits, decoder, decoded)
        one = self._translated(raw)
        whole = split(one.program, encoding, one.length, self._ip_mask)
        name = self._prefix + b"h" + head
        if whole.exact:
            kept().put("template", name, _EACH_ITS_OWN)
            head, name = raw, self._prefix + b"r" + raw
        fields = encoding.fields if encoding is not None else "<"
        formula = formula_of(whole.values, whole.widths, fields)
        goes_behind = decoded.flow_control not in _NOT_BEHIND
        recipe = (
            one.length, one.ends_block, one.repeats, one.program.alone, goes_behind,
            _code(whole, encoding), fields, whole.widths,
            None if formula is None else tuple(formula),
        )  # fmt: skip
        kept().put("template", name, recipe)
        return head, name, recipe

    def _translated(self, raw: bytes) -> Translated:
        one = translate_bytes(raw, self._key, self._features)
        assert one is not None, "the instruction was decoded before"
        return one

    def _split(self, raw: bytes) -> Split:
        """The program of `raw` again, for a template that came from its recipe."""
        decoder = Decoder(self._key.bits, raw, DecoderOptions.NONE)
        encoding = encoding_of(raw, self._key.bits, decoder, decoder.decode())
        one = self._translated(raw)
        return split(one.program, encoding, one.length, self._ip_mask)

    def _insert(self, head: bytes, raw: bytes, template: Template) -> None:
        if self._count >= _MOST_TEMPLATES:
            self._root.clear()
            self._count = 0
        self._count += 1
        node = self._root
        for byte in head[:-1]:
            node = node.setdefault(byte, {})
        if node.setdefault(head[-1], template) is not template and len(raw) > len(head):
            # Another instruction of this head is exact, so all are found by all their bytes.
            self._insert(raw, raw, template)


@cache
def templates_for(key: Key, features: frozenset[str]) -> Templates:
    """The templates that all engines of this process share."""
    return Templates(key, features)


def _code(whole: Split, encoding: Encoding | None) -> CodeType:
    """The function `values` of a template, compiled."""
    lines = ["def values(ip, code, at, unpack):"]
    if encoding is not None and encoding.fields != "<":
        names = "".join(f"f{n}, " for n in range(len(encoding.fields) - 1))
        lines.append(f"    {names}= unpack(code, at + {encoding.head})")
    wide, key = [], ["0"]
    for n, width in enumerate(whole.widths):
        if width == 64 and n not in (HERE, BEHIND):
            wide.append(f"values[{n}]")
        elif width == 1:
            key.append(f"values[{n}] << {len(key)}")
    near = ["(ip < _NEAR or _FAR <= ip < _LAST)"]
    near += [f"({value} < 0x80000000 or {value} >= 0xFFFFFFFF80000000)" for value in wide]
    lines.append(f"    values = {whole.values}")
    lines.append(f"    return values, ({' | '.join(key)} if {' and '.join(near)} else -1)")
    defined: dict[str, Any] = {}
    exec(compile("\n".join(lines), "<values>", "exec"), {}, defined)
    code: CodeType = defined["values"].__code__
    return code
