"""Two engines, one program: run in slices, everything compared behind each of them."""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import lockstep_places as at
from iced_x86 import Decoder, Formatter, FormatterSyntax
from lockstep_events import Arrivals
from lockstep_machine import Image, image_of
from lockstep_program import Program, place

from vtx.engine.run import Ended, Runner
from vtx.isa.layout import SLOT_COUNT, SLOTS
from vtx.isa.program import Service
from vtx.machine.computer import Computer
from vtx.machine.cpu import Cpu
from vtx.machine.cpu_model import cpu_model
from vtx.spec import rdrand_seed

_libc = ctypes.CDLL(None)
_libc.memcmp.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
_SHOWN = 12
_PAGE, _RUN = 0x1000, 0x10000
USUAL = 0x40000
"""Programs seldom write behind this. It is compared behind each slice, all of RAM at the end of
a program: nothing clears what a stray write left there."""
MODEL = cpu_model("max")
Factory = Callable[[Cpu, frozenset[str]], Any]


class Side:
    """One engine with a machine of its own, used for one program after the other."""

    def __init__(self, name: str, factory: Factory) -> None:
        self.name = name
        self.computer = Computer(cpu=MODEL, ram_size=at.RAM, vmx=True)
        self.cpu = self.computer.cpu
        self._clean = self.cpu.state.save()
        services = self.cpu.services
        services[Service.PORT_IN] = self._port_in
        services[Service.PORT_OUT] = self._port_out
        self.engine = factory(self.cpu, self.computer.features)
        self._memory = ctypes.addressof(ctypes.c_char.from_buffer(self.cpu.memory))

    def _port_in(self, port: int, size: int) -> int:
        self.cpu.breakpoints.port(port, size)
        return (port * 0x9E37_79B1 + self.cpu.now()) & (1 << 8 * size) - 1

    def _port_out(self, port: int, size: int, value: int) -> None:
        self.cpu.breakpoints.port(port, size)

    def load(self, image: Image, program: Program) -> None:
        """Forget the last program and stand before the first instruction of another."""
        cpu, state = self.cpu, self.cpu.state
        self._fill(image.memory)
        state.restore(self._clean)
        for name, value in image.words.items():
            state.write(name, value)
        state.rflags = image.rflags
        for name, parts in image.segments.items():
            state.write_segment(name, *parts)
        self.computer.services.random_state = rdrand_seed()
        cpu.attention, cpu.ahead = False, 0
        cpu.tlb.flush()
        cpu.switch_context()
        self.engine.settle(0)
        self.source = Arrivals(program.arrivals)
        self.runner = Runner(self.engine, self.source)

    def _fill(self, content: bytes) -> None:
        """Make RAM `content`. What is translated of pages that stay the same is kept: handlers
        are the same for most programs, and translating them is most of a short program's cost."""
        memory = self.cpu.memory
        for run in range(0, at.RAM, _RUN):
            if memory[run : run + _RUN] == content[run : run + _RUN]:
                continue
            for page in range(run, run + _RUN, _PAGE):
                wanted = content[page : page + _PAGE]
                if memory[page : page + _PAGE] != wanted:
                    self.cpu.code.written(page)
                    memory[page : page + _PAGE] = wanted

    def run(self, limit: int) -> str:
        """One slice: why it ended, or what Python error it ended in."""
        try:
            return self.runner.run(limit).value
        except Exception as error:  # an engine's bug is a finding like any other
            return f"{type(error).__name__}: {error}"

    def same_memory(self, other: "Side", size: int = at.RAM) -> bool:
        """The first `size` bytes of RAM agree."""
        return not _libc.memcmp(self._memory, other._memory, size)


@dataclass(frozen=True)
class Divergence:
    """Where two engines first told apart, and how."""

    program: Program
    slice: int
    limit: int
    before: tuple[int, int]
    """RIP and time before the slice."""
    names: tuple[str, str]
    ended: tuple[str, str]
    words: tuple[str, ...]
    memory: tuple[str, ...]
    code: tuple[str, ...]

    def __str__(self) -> str:
        p, (rip, now) = self.program, self.before
        head = (
            f"{self.names[0]} and {self.names[1]} differ: seed {p.seed}, mode {p.mode}, "
            f"{len(p.pieces)} pieces {[piece.number for piece in p.pieces]}\n"
            f"slice {self.slice}: from rip {rip:#x} at {now} up to {self.limit}; "
            f"ended {self.ended[0]} | {self.ended[1]}"
        )
        how = f"settings {p.settings} arrivals {[(a.time, a.vector) for a in p.arrivals]}"
        return "\n".join((head, how, *self.words, *self.memory, "code:", *self.code))


_FINE = frozenset(ended.value for ended in Ended)


def differ(program: Program, a: Side, b: Side) -> Divergence | None:
    """Run a program on both; the first difference."""
    image = image_of(program, place(program))
    a.load(image, program)
    b.load(image, program)
    words_a, words_b = a.cpu.state.buffer, b.cpu.state.buffer
    number, now = 0, 0
    while now < program.most:
        limit = min(now + program.budgets[number % len(program.budgets)], program.most)
        before = a.cpu.state.read("rip"), now
        ended = a.run(limit), b.run(limit)
        same = ended[0] == ended[1] and ended[0] in _FINE
        now = a.cpu.now()
        size = at.RAM if ended[0] != "limit" or now >= program.most else USUAL
        if not same or not same_words(words_a, words_b) or not a.same_memory(b, size):
            return _divergence(program, a, b, number, limit, before, ended)
        if ended[0] != "limit":
            return None
        number += 1
    return None


def same_words(a: bytearray, b: bytearray) -> bool:
    """The architectural words agree; an executor may keep words of its own behind them."""
    return a[: 8 * SLOT_COUNT] == b[: 8 * SLOT_COUNT]


def word_differences(a: bytearray, b: bytearray) -> list[str]:
    left, right = memoryview(a).cast("Q"), memoryview(b).cast("Q")
    return [
        f"  {name}: {left[slot]:#x} | {right[slot]:#x}"
        for name, slot in SLOTS.items()
        if left[slot] != right[slot]
    ]


def _divergence(program, a, b, number, limit, before, ended) -> Divergence:  # type: ignore[no-untyped-def]
    words = tuple(word_differences(a.cpu.state.buffer, b.cpu.state.buffer))
    memory = tuple(memory_differences(a.cpu.memory[:], b.cpu.memory[:]))
    return Divergence(
        program, number, limit, before, (a.name, b.name), ended, words, memory,
        tuple(disassembly(program)),
    )  # fmt: skip


def memory_differences(a: bytes, b: bytes) -> list[str]:
    """The bytes that differ, as lines; not all of many."""
    places = [
        n
        for page in range(0, at.RAM, 0x1000)
        if a[page : page + 0x1000] != b[page : page + 0x1000]
        for n in range(page, page + 0x1000)
        if a[n] != b[n]
    ]
    lines = [f"  [{n:#x}]: {a[n]:02x} | {b[n]:02x}" for n in places[:_SHOWN]]
    return [*lines, f"  and {len(places) - _SHOWN} more"] if len(places) > _SHOWN else lines


def disassembly(program: Program) -> list[str]:
    """The pieces of a program as they stand in memory at the start."""
    placed, mode = place(program), program.where
    formatter, lines = Formatter(FormatterSyntax.NASM), []
    for piece in program.pieces:
        here = placed.places[piece.number]
        content = placed.code[here - at.CODE : here - at.CODE + len(piece.code)]
        decoder = Decoder(mode.bits, content, ip=here - mode.code_base)
        mark = f"{piece.number}:"
        for one in decoder:
            first = one.ip - here + mode.code_base
            shown = content[first : first + one.len].hex()
            lines.append(f"  {mark:4} {one.ip:x} {shown:<24} {formatter.format(one)}")
            mark = ""
    return lines
