"""What native code decides between instructions, against those who decide it for everybody."""

import random
from collections.abc import Callable, Iterator

import pytest

from vtx.engine.boundary import Boundary
from vtx.engine.choice import make_engine, native_problem
from vtx.engine.native.between import BUSY, NOT_PLAIN, QUIET, RESUMING, number_of
from vtx.engine.reference import Reference
from vtx.isa.key import current_key
from vtx.machine.bus import Bus
from vtx.machine.cpu import Cpu
from vtx.machine.memory import PhysicalMemory

Put = Callable[[str, int], None]
CODE_RIGHTS = (0xA09B, 0xC09B, 0x809B, 0xC09F, 0x1_0000, 0xC0F3, 0xA0FB)
DATA_RIGHTS = (0xC093, 0x8093, 0xC091, 0xC0F3, 0xC0F7, 0x1_0000)


@pytest.fixture(scope="module")
def engine() -> Iterator[Reference]:
    if native_problem() is not None:
        pytest.skip(f"no native engine here: {native_problem()}")
    yield make_engine("native", Cpu(Bus(PhysicalMemory(1 << 20))), frozenset())


@pytest.fixture
def put(engine: Reference) -> Iterator[Put]:
    saved = engine.cpu.state.save()
    yield engine.cpu.state.write
    engine.cpu.state.restore(saved)


def scramble_mode(rng: random.Random, put: Put) -> None:
    put("cr0", rng.choice((0, 1, 0x8000_0001, 0x8004_0001)))
    put("cr4", rng.choice((0, 1 << 21)))
    put("efer", rng.choice((0, 0x500)))
    put("rflags", 2 | rng.choice((0, 1 << 17)) | rng.choice((0, 1 << 18)))
    put("vmx", rng.randrange(3))
    for name in ("es", "cs", "ss", "ds"):
        put(f"{name}_ar", rng.choice(CODE_RIGHTS if name == "cs" else DATA_RIGHTS))
        put(f"{name}_base", rng.choice((0, 0, 0x1000)))
        put(f"{name}_limit", rng.choice((0xFFFF_FFFF, 0xFFFF_FFFF, 0xFFFF)))


def test_keys_and_their_numbers_tell_the_same_states_apart(engine: Reference, put: Put) -> None:
    rng, plain = random.Random(1), 0
    for _ in range(3000):
        scramble_mode(rng, put)
        key, found = current_key(engine.cpu.words), engine.call("native_key")
        assert found is not None
        if key.bits == 64 or key.flat & 2:
            assert found[0] == number_of(key), key
            plain += 1
        else:
            assert found[0] == NOT_PLAIN, key
    assert plain > 500


def test_every_key_has_a_number_of_its_own(engine: Reference, put: Put) -> None:
    rng, numbers = random.Random(2), {}
    for _ in range(3000):
        scramble_mode(rng, put)
        key = current_key(engine.cpu.words)
        assert numbers.setdefault(number_of(key), key) == key
    assert len(numbers) > 100


QUIET_STATE = {"vmx": 1, "rflags": 0x202, "interruptibility": 0}
DISTURBANCES = {
    "stop": 1, "activity": 1, "event_valid": 1, "mtf_pending": 1, "tpr_below_threshold": 1,
    "pending_debug": 1 << 14, "dr7": 0x401, "rflags": 0x302, "vmx": 2,
}  # fmt: skip


def quiet(engine: Reference, calm: int = 1, vmx: int = 1, blocking: int = 0) -> int:
    found = engine.call("native_quiet", calm, vmx, blocking)
    assert found is not None
    return found[0]


@pytest.mark.parametrize("slot", DISTURBANCES)
def test_what_the_boundary_looks_at_is_left_to_it(engine: Reference, put: Put, slot: str) -> None:
    for name, value in QUIET_STATE.items():
        put(name, value)
    assert quiet(engine) == QUIET
    put("pin_controls", 1 << 6)  # the VMX-preemption timer
    put(slot, DISTURBANCES[slot])
    assert quiet(engine) == BUSY


@pytest.mark.parametrize(
    ("slot", "value"),
    [("rflags", 0x1_0202), ("interruptibility", 1), ("interruptibility", 2),
     ("interruptibility_next", 1)],
)  # fmt: skip
def test_what_holds_for_one_instruction_lets_one_be_run(
    engine: Reference, put: Put, slot: str, value: int
) -> None:
    for name, quiet_value in QUIET_STATE.items():
        put(name, quiet_value)
    put(slot, value)
    assert quiet(engine) == RESUMING


def test_an_interrupt_that_was_held_back_may_be_due_once_interrupts_are_on(
    engine: Reference, put: Put
) -> None:
    put("vmx", 1)
    put("rflags", 2)
    assert quiet(engine, calm=0) == QUIET
    put("rflags", 0x202)
    assert quiet(engine, calm=0) == BUSY
    put("rflags", 2)
    assert quiet(engine, calm=0, blocking=8) == BUSY  # an NMI may have waited for the IRET


def test_where_native_code_goes_on_the_boundary_has_nothing_to_do(
    engine: Reference, put: Put
) -> None:
    rng, boundary, went_on = random.Random(3), Boundary(engine, None), 0
    values = {
        "rflags": (2, 0x202, 0x102, 0x1_0002), "vmx": (0, 1, 2), "activity": (0, 0, 0, 1),
        "interruptibility": (0, 0, 1, 2, 8), "interruptibility_next": (0, 0, 0, 1),
        "pending_debug": (0, 0, 1, 1 << 12, 1 << 14), "dr7": (0x400, 0x400, 0x401),
        "mtf_pending": (0, 0, 1), "tpr_below_threshold": (0, 0, 1), "event_valid": (0, 0, 1),
        "proc_controls": (0, 0, 1 << 27, 1 << 2, 1 << 22),
    }  # fmt: skip
    for _ in range(2000):
        for name, some in values.items():
            put(name, rng.choice(some))
        vmx = engine.cpu.state.read("vmx")
        if quiet(engine, vmx=vmx) == QUIET:
            went_on += 1
            assert not boundary.slow
            assert not boundary.asleep
            assert not boundary.settle()
    assert went_on > 10
