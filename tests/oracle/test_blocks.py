"""Blocks of several instructions: dropping dead flags and values changes nothing visible.

Random straight-line code runs once as one block, generated or native, and once instruction by
instruction in the evaluator; state, retired count and faults must be equal.
"""

from random import Random

import pytest
from iced_x86 import Register
from oracle_case import CODE, DATA, DATA_SIZE, REGIONS
from oracle_forms import Instance, edge, forms, instance
from oracle_ours import FEATURES, Ours

from tests.vtx.engines import QUICK_ENGINES
from vtx.engine.evaluate import Evaluator
from vtx.engine.generate import Step, compile_block
from vtx.engine.namespace import Namespace
from vtx.engine.optimise import drop_dead
from vtx.engine.translate import translate_bytes
from vtx.isa.flags import lower
from vtx.isa.instruction import SEMANTICS
from vtx.isa.key import current_key
from vtx.isa.layout import FLAG_SLOTS, GPR_NAMES
from vtx.isa.primitives import Prim
from vtx.machine.cpu import OK

STRAIGHT = frozenset(
    f"vtx.isa.{name}" for name in ("arithmetic", "logic", "shifts", "multiply", "bits", "moves")
)
ANYWHERE = (Register.NONE, Register.RIP, Register.EIP)
LENGTH = 8


def _usable(one: Instance) -> bool:
    """Straight-line, and in bounds whatever the registers hold."""
    in_bounds = not one.gva or (
        one.decoded.memory_base in ANYWHERE and one.decoded.memory_index == Register.NONE
        and not one.mnemonic.startswith("BT")
    )  # fmt: skip
    straight = SEMANTICS[one.mnemonic].__module__ in STRAIGHT
    return in_bounds and straight and one.address_width != 16


def _instructions(bits: int, ip: int, random: Random, codes: list[int]) -> list[Instance]:
    found: list[Instance] = []
    while len(found) < LENGTH:
        one = instance(random.choice(codes), bits, ip, random)
        if _usable(one):
            found.append(one)
            ip += len(one.code)
    return found


class _Side:
    """One CPU that runs a block its own way."""

    def __init__(self, bits: int, engine: str) -> None:
        self.engine = engine
        ours = Ours(bits, engine=engine)
        self.one, self.cpu = ours.one, ours.cpu
        self.clean = self.cpu.state.save()
        self.mask = (1 << bits) - 1
        self.names, self.evaluator = Namespace(self.cpu), Evaluator(self.cpu)

    def prepare(self, gprs: list[int], flags: int, ip: int) -> None:
        state = self.cpu.state
        state.restore(self.clean)
        for name, value in zip(GPR_NAMES, gprs, strict=False):
            state.write(name, value)
        state.rflags = flags | 2
        state.write("rip", ip)
        self.cpu.memory[DATA : DATA + DATA_SIZE] = bytes(DATA_SIZE)

    def steps(self, block: list[Instance]) -> list[Step]:
        key, steps, offset = current_key(self.cpu.words), [], 0
        for one in block:
            made = translate_bytes(one.code, key, FEATURES)
            assert made is not None
            steps.append(Step(made.program, offset, made.length))
            offset += made.length
        return steps

    def run(self, block: list[Instance]) -> int:
        """The whole block at once."""
        if self.engine == "native":
            return self.one.runner.run(*(one.code for one in block))
        return self.run_generated(self.steps(block))

    def run_generated(self, steps: list[Step]) -> int:
        for step in steps:
            self.names.need(step.program.ops)
        status: int = self.names.block(compile_block(steps, self.mask, "<test>"))()
        return status

    def run_stepwise(self, steps: list[Step]) -> int:
        state = self.cpu.state
        for step in steps:
            next_ip = (state.read("rip") + step.length) & self.mask
            status = self.evaluator.instruction(step.program, next_ip)
            if status != OK:
                return status
            state.write("retired", state.read("retired") + 1)
        return OK

    def outcome(self) -> tuple[dict[str, int], list[bytes]]:
        memory = self.cpu.memory
        return self.cpu.state.as_dict(), [bytes(memory[b : b + size]) for b, size in REGIONS]


def _compare(engine: str, bits: int, blocks: int, seed: int) -> None:
    random = Random(seed)
    codes = forms(bits)
    quick, plain = _Side(bits, engine), _Side(bits, "evaluate")
    for number in range(blocks):
        block = _instructions(bits, CODE, random, codes)
        steps = plain.steps(block)
        for _ in range(3):
            gprs = [edge(random, bits) for _ in range(16)]
            flags = random.getrandbits(12) & 0xCD5
            quick.prepare(gprs, flags, CODE)
            plain.prepare(gprs, flags, CODE)
            ended = quick.run(block), plain.run_stepwise(steps)
            what = f"block {number}: {[one.form for one in block]}"
            assert ended[0] == ended[1], what
            assert quick.outcome() == plain.outcome(), what


@QUICK_ENGINES
@pytest.mark.parametrize("bits", [64, 32])
def test_a_block_does_what_its_instructions_do_one_by_one(engine: str, bits: int) -> None:
    _compare(engine, bits, 60, 7)


@pytest.mark.campaign
@QUICK_ENGINES
@pytest.mark.parametrize("bits", [64, 32])
def test_many_blocks_do_what_their_instructions_do_one_by_one(engine: str, bits: int) -> None:
    _compare(engine, bits, 4000, 17)


def test_flags_that_are_overwritten_unread_are_dropped() -> None:
    side = _Side(64, "reference")
    lists = [lower(side.steps([_bytes("4801d8")])[0].program).ops] * 2  # add rax, rbx, twice

    def flag_writes(ops: object) -> int:
        return sum(op.prim is Prim.PUT and op.attr in FLAG_SLOTS for op in ops)  # type: ignore[attr-defined]

    first, second = drop_dead(lists)
    assert flag_writes(first) == 0
    assert flag_writes(second) == 6


def _bytes(code: str) -> Instance:
    from iced_x86 import Decoder

    raw = bytes.fromhex(code)
    return Instance("", "", 64, CODE, Decoder(64, raw).decode(), raw)
