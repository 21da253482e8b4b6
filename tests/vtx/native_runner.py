"""Runs given instructions in native code, delivering nothing.

The counterpart of calling a compiled block or the evaluator for a program: the one place in the
tests that knows how the native engine is put together.
"""

from vtx.engine.native.blocks import Block
from vtx.engine.native.context import (
    CONTEXT,
    LEFT_AFTER_STORE,
    LEFT_BUDGET,
    LEFT_BY_MEMORY,
    LEFT_MISS,
    LEFT_RESYNC,
)
from vtx.engine.native.engine import Native
from vtx.engine.native.templates import Piece, templates_for
from vtx.isa.key import Key, current_key
from vtx.machine.cpu import OK

_COMPLETE = frozenset({LEFT_BUDGET, LEFT_MISS, LEFT_RESYNC, LEFT_AFTER_STORE})
_MOST_BLOCKS = 20_000

Codes = tuple[bytes, ...]


class NativeRunner:
    """Enters native code for one block of a CPU."""

    def __init__(self, engine: Native) -> None:
        """A CPU has one native engine, which this shares with whoever runs it otherwise."""
        self._cpu, self._features = engine.cpu, engine.features
        self._engine = engine
        self._blocks: dict[tuple[Codes, int, Key], Block] = {}

    def run(self, *codes: bytes) -> int:
        """Run these instructions as if they lay at RIP; how they ended."""
        state = self._cpu.state
        self._cpu.switch_context()
        block = self._block(codes, state.read("rip"), current_key(self._cpu.words))
        until = state.read("retired") + len(codes)
        usual = self._engine._dispatch  # goes on where an event is delivered
        self._engine._dispatch = self._engine._enter
        try:
            status = self._engine._run(block, until)
        finally:
            self._engine._dispatch = usual
        if status in _COMPLETE:
            assert state.read("retired") == until, "every instruction is one retired"
            return OK
        assert state.read("retired") < until
        return self._engine._words[CONTEXT["failed"]] if status == LEFT_BY_MEMORY else status

    def _block(self, codes: Codes, ip: int, key: Key) -> Block:
        block = self._blocks.get((codes, ip, key))
        if block is None:
            if len(self._blocks) >= _MOST_BLOCKS:
                self._blocks.clear()
                self._engine.forget_blocks()
            block = self._blocks[codes, ip, key] = self._make(codes, ip, key)
        return block

    def _make(self, codes: Codes, ip: int, key: Key) -> Block:
        pieces, at = [], ip
        for code in codes:
            pieces.append(self._piece(code, at, key))
            at += len(code)
        return self._engine._writer.write(ip, pieces)

    def _piece(self, code: bytes, ip: int, key: Key) -> Piece:
        piece = self._find(code, ip, key)
        assert isinstance(piece, Piece), f"{code.hex()} is not native"
        return piece

    def is_native(self, code: bytes, key: Key) -> bool:
        """The engine runs the instruction in native code, not in Python."""
        return isinstance(self._find(code, 0, key), Piece)

    def _find(self, code: bytes, ip: int, key: Key) -> object:
        return templates_for(key, self._features).find(code + bytes(15), 0, ip)
