"""The VMX instructions as code in memory: operands, exceptions, flags, exits."""

import pytest

from tests.vtx.engines import EVERY_ENGINE
from tests.vtx.vmx.bench import GUEST_CODE, HOST_CODE, VMCS, VMXON_REGION, Bench
from vtx.spec import EXITS, FIELDS
from vtx.vmx.vmcs import NO_VMCS

VMCALL, VMLAUNCH, VMRESUME, VMXOFF = (
    b"\x0f\x01\xc1",
    b"\x0f\x01\xc2",
    b"\x0f\x01\xc3",
    b"\x0f\x01\xc4",
)
VMXON_RSI, VMCLEAR_RSI, VMPTRLD_RSI = b"\xf3\x0f\xc7\x36", b"\x66\x0f\xc7\x36", b"\x0f\xc7\x36"
VMPTRST_RSI = b"\x0f\xc7\x3e"
VMREAD_RBX_RAX, VMWRITE_RAX_RBX = b"\x0f\x78\xc3", b"\x0f\x79\xc3"
INVEPT_RAX_RSI, INVVPID_RAX_RSI = b"\x66\x0f\x38\x80\x06", b"\x66\x0f\x38\x81\x06"
POINTER = 0xA000


def flags(bench: Bench) -> tuple[int, int]:
    """CF and ZF; the other arithmetic flags must be clear."""
    assert not any(bench.word(name) for name in ("pf", "af", "sf", "of"))
    return bench.word("cf"), bench.word("zf")


@EVERY_ENGINE
def test_vmxon_to_vmread_by_instructions_alone(engine: str) -> None:
    bench = Bench(engine, guest=VMCALL)
    ready = bench.cpu.bus.read_bytes(VMCS, 4096)
    bench = Bench(engine, guest=VMCALL, start=False)
    bench.cpu.bus.write_bytes(VMCS, ready)
    bench.state.write("rsi", POINTER)
    bench.cpu.bus.store(POINTER, 64, VMXON_REGION)
    bench.host(VMXON_RSI, 1)
    assert (bench.word("vmx"), flags(bench)) == (1, (0, 0))
    bench.cpu.bus.store(POINTER, 64, VMCS)
    bench.host(VMCLEAR_RSI + VMPTRLD_RSI, 2)
    assert flags(bench) == (0, 0)
    bench.state.write("rax", FIELDS.HOST_RIP)
    bench.state.write("rbx", HOST_CODE + 0x100)
    bench.host(VMWRITE_RAX_RBX + VMLAUNCH, 2)
    assert (bench.word("vmx"), bench.word("rip")) == (2, GUEST_CODE)
    bench.runner.run(1000)
    assert (bench.word("vmx"), bench.word("rip")) == (1, HOST_CODE + 0x100)
    bench.state.write("rax", FIELDS.EXIT_REASON)
    bench.host(VMREAD_RBX_RAX, 1)
    assert (bench.word("rbx"), flags(bench)) == (EXITS.VMCALL, (0, 0))
    assert bench.vmread("EXIT_INSTRUCTION_LENGTH") == 3
    bench.host(VMXOFF, 1)
    assert bench.word("vmx") == 0


@EVERY_ENGINE
@pytest.mark.covers("check.basic.current-vmcs")
def test_without_a_current_vmcs_field_access_and_entry_fail_invalid(engine: str) -> None:
    bench = Bench(engine)
    bench.state.write("vmcs_pointer", NO_VMCS)
    bench.state.write("rax", FIELDS.GUEST_RIP)
    for code in (VMREAD_RBX_RAX, VMWRITE_RAX_RBX, VMLAUNCH, VMRESUME, VMCALL):
        bench.host(code, 1)
        assert flags(bench) == (1, 0)


@EVERY_ENGINE
@pytest.mark.parametrize(
    ("code", "pointer", "error"),
    [
        (VMCLEAR_RSI, VMCS + 8, 2),
        (VMCLEAR_RSI, 1 << 39, 2),
        (VMCLEAR_RSI, VMXON_REGION, 3),
        (VMPTRLD_RSI, VMCS + 8, 9),
        (VMPTRLD_RSI, 1 << 39, 9),
        (VMPTRLD_RSI, VMXON_REGION, 10),
        (VMPTRLD_RSI, 0x9000, 11),
        (VMXON_RSI, VMXON_REGION, 15),
    ],
)
def test_a_bad_pointer_fails_with_its_error_number(
    engine: str, code: bytes, pointer: int, error: int
) -> None:
    bench = Bench(engine)
    bench.state.write("rsi", POINTER)
    bench.cpu.bus.store(POINTER, 64, pointer)
    bench.host(code, 1)
    assert flags(bench) == (0, 1)
    assert bench.error == error


@EVERY_ENGINE
def test_vmread_and_vmwrite_of_an_unknown_field_are_error_12(engine: str) -> None:
    bench = Bench(engine)
    for encoding in (0x7000, 0x4001, 0x2034, 1 << 32 | FIELDS.GUEST_RIP):
        for code in (VMREAD_RBX_RAX, VMWRITE_RAX_RBX):
            bench.vmwrite("GUEST_RSP", 0)
            bench.state.write("rax", encoding)
            bench.host(code, 1)
            assert (flags(bench), bench.error) == ((0, 1), 12)


@EVERY_ENGINE
@pytest.mark.covers("check.basic.vmlaunch-clear", "check.basic.vmresume-launched")
def test_launch_state_decides_between_vmlaunch_and_vmresume(engine: str) -> None:
    bench = Bench(engine, guest=VMCALL)
    bench.host(VMRESUME, 1)
    assert (flags(bench), bench.error) == ((0, 1), 5)
    assert bench.run(1) == EXITS.VMCALL
    bench.host(VMLAUNCH, 1)
    assert (flags(bench), bench.error) == ((0, 1), 4)
    assert bench.run(0) == EXITS.VMCALL


@EVERY_ENGINE
def test_vmclear_of_the_current_vmcs_leaves_none(engine: str) -> None:
    bench = Bench(engine)
    bench.state.write("rsi", POINTER)
    bench.cpu.bus.store(POINTER, 64, VMCS)
    bench.host(VMCLEAR_RSI + VMPTRST_RSI, 2)
    assert bench.cpu.bus.load(POINTER, 64) == NO_VMCS


@EVERY_ENGINE
def test_vmcall_in_root_operation_is_error_1(engine: str) -> None:
    bench = Bench(engine)
    bench.host(VMCALL, 1)
    assert (flags(bench), bench.error) == ((0, 1), 1)


@EVERY_ENGINE
@pytest.mark.parametrize(
    ("code", "kind", "low", "high"),
    [
        (INVEPT_RAX_RSI, 0, 0x1E, 0),
        (INVEPT_RAX_RSI, 3, 0x1E, 0),
        (INVEPT_RAX_RSI, 1, 0x1F, 0),
        (INVEPT_RAX_RSI, 1, 0x16, 0),
        (INVEPT_RAX_RSI, 2, 0, 1),
        (INVVPID_RAX_RSI, 4, 1, 0),
        (INVVPID_RAX_RSI, 1, 0, 0),
        (INVVPID_RAX_RSI, 1, 1 << 16 | 1, 0),
        (INVVPID_RAX_RSI, 0, 1, 1 << 60),
    ],
)
def test_a_bad_invalidation_is_error_28(
    engine: str, code: bytes, kind: int, low: int, high: int
) -> None:
    bench = Bench(engine)
    bench.state.write("rax", kind)
    bench.state.write("rsi", POINTER)
    bench.cpu.bus.store(POINTER, 64, low)
    bench.cpu.bus.store(POINTER + 8, 64, high)
    bench.host(code, 1)
    assert (flags(bench), bench.error) == ((0, 1), 28)


@EVERY_ENGINE
def test_good_invalidations_succeed(engine: str) -> None:
    bench = Bench(engine)
    bench.state.write("rsi", POINTER)
    for code, kind, low in (
        (INVEPT_RAX_RSI, 1, 0x1E), (INVEPT_RAX_RSI, 2, 0), (INVVPID_RAX_RSI, 0, 5),
        (INVVPID_RAX_RSI, 1, 5), (INVVPID_RAX_RSI, 2, 0), (INVVPID_RAX_RSI, 3, 5),
    ):  # fmt: skip
        bench.state.write("rax", kind)
        bench.cpu.bus.store(POINTER, 64, low)
        bench.cpu.bus.store(POINTER + 8, 64, 0)
        bench.host(code, 1)
        assert flags(bench) == (0, 0)


@EVERY_ENGINE
@pytest.mark.parametrize(
    ("code", "reason", "qualification", "info"),
    [
        (b"\x0f\xc7\x76\x10", EXITS.VMPTRLD, 0x10, 2 << 7 | 3 << 15 | 1 << 22 | 6 << 23),
        (VMREAD_RBX_RAX, EXITS.VMREAD, 0, 1 << 10 | 3 << 3),
        # vmwrite r9, [rip+0x20]: RIP-relative, the field's encoding in R9
        (b"\x44\x0f\x79\x0d\x20\x00\x00\x00", EXITS.VMWRITE, GUEST_CODE + 0x28,
         2 << 7 | 3 << 15 | 1 << 22 | 1 << 27 | 9 << 28),
        # invept rdx, [rax + rcx*4]
        (b"\x66\x0f\x38\x80\x14\x88", EXITS.INVEPT, 0, 2 | 2 << 7 | 3 << 15 | 1 << 18 | 2 << 28),
        (VMXOFF, EXITS.VMXOFF, 0, 0),
        (VMLAUNCH, EXITS.VMLAUNCH, 0, 0),
        (VMRESUME, EXITS.VMRESUME, 0, 0),
        (VMCALL, EXITS.VMCALL, 0, 0),
    ],
)  # fmt: skip
@pytest.mark.covers("check.before.root-operation")
def test_in_a_guest_every_vmx_instruction_exits(
    engine: str, code: bytes, reason: int, qualification: int, info: int
) -> None:
    bench = Bench(engine, guest=code)
    assert bench.run() == reason
    assert bench.vmread("EXIT_QUALIFICATION") == qualification
    assert bench.vmread("EXIT_INSTRUCTION_INFO") == info
    assert bench.vmread("EXIT_INSTRUCTION_LENGTH") == len(code)
    assert bench.vmread("GUEST_RIP") == GUEST_CODE


@EVERY_ENGINE
def test_a_guest_at_cpl_3_exits_rather_than_faults(engine: str) -> None:
    rights = {"GUEST_CS_ACCESS_RIGHTS": 0xA0FB, "GUEST_SS_ACCESS_RIGHTS": 0xC0F3}
    rights |= {"GUEST_CS_SELECTOR": 0x1B, "GUEST_SS_SELECTOR": 0x23}
    bench = Bench(engine, guest=VMCALL, fields=rights)
    for level in range(3):
        place = 0x20000 + 0x1000 * level
        bench.cpu.bus.store(place, 64, bench.cpu.bus.load(place, 64) | 4)
    for page in range(512):
        bench.cpu.bus.store(0x23000 + 8 * page, 64, page << 12 | 7)
    assert bench.run() == EXITS.VMCALL


# --- entering VMX operation ------------------------------------------------------------------


def _vmxon_fault(engine: str, **state: int) -> int:
    """Vector of the exception that VMXON raises in a host changed by `state`."""
    bench = Bench(engine, start=False)
    for slot, value in state.items():
        bench.state.write(slot, value)
    bench.state.write("rsi", POINTER)
    bench.cpu.bus.store(POINTER, 64, VMXON_REGION)
    bench.cpu.bus.write_bytes(HOST_CODE, VMXON_RSI)
    bench.engine.settle(0)
    # No IDT: the first exception ends in shutdown, and its vector stays to be seen.
    bench.engine.settle = lambda status: None  # type: ignore[method-assign]
    assert bench.engine.run_block(1)
    assert bench.word("vmx") == 0
    return bench.word("fault_vector")


@EVERY_ENGINE
def test_vmxon_needs_cr4_vmxe_and_the_feature_control_msr(engine: str) -> None:
    assert _vmxon_fault(engine, cr4=0x20) == 6
    assert _vmxon_fault(engine, feature_control=0) == 13
    assert _vmxon_fault(engine, feature_control=1) == 13
    assert _vmxon_fault(engine, cr0=0x8001_0011) == 13


@EVERY_ENGINE
def test_vmxon_of_a_region_without_the_revision_fails_invalid(engine: str) -> None:
    bench = Bench(engine, start=False)
    bench.state.write("rsi", POINTER)
    for region in (0x9000, VMXON_REGION + 8, 1 << 40):
        bench.cpu.bus.store(POINTER, 64, region)
        bench.host(VMXON_RSI, 1)
        assert (bench.word("vmx"), flags(bench)) == (0, (1, 0))


@EVERY_ENGINE
@pytest.mark.covers("check.before.vmx-operation")
def test_vmx_instructions_are_undefined_outside_vmx_operation(engine: str) -> None:
    for code in (VMCALL, VMLAUNCH, VMXOFF, VMREAD_RBX_RAX, VMCLEAR_RSI, INVEPT_RAX_RSI):
        bench = Bench(engine, start=False)
        bench.cpu.bus.write_bytes(HOST_CODE, code)
        bench.engine.settle = lambda status: None  # type: ignore[method-assign]
        bench.engine.run_block(1)
        assert bench.word("fault_vector") == 6
