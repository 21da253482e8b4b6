"""VMFUNC and EPTP switching."""

import pytest

from tests.vtx.engines import EVERY_ENGINE, OneByOne
from tests.vtx.vmx.bench import EPT_TABLES, GUEST_CODE, HOST_CODE, Bench, ept_tables
from vtx.machine.built import features_of
from vtx.machine.cpu import FAULT
from vtx.spec import EXITS, MSRS, profile
from vtx.vmx.capability import capability_msrs

VMFUNC, VMCALL, LOAD_EDI = b"\x0f\x01\xd4", b"\x0f\x01\xc1", b"\x8b\x3e"
LIST, OTHER, DATA = 0x9000, 0x40000, 0x5_0000
VALID_EPTP = 3 << 3 | 6


def make(engine: str, guest: bytes = LOAD_EDI + VMFUNC + LOAD_EDI + VMCALL, eax: int = 0,
         ecx: int = 3, profile: str = "max", functions: int = 1) -> Bench:  # fmt: skip
    """Entry 3 of the list is a table in which the page DATA is the page behind it."""
    bench = Bench(engine, profile=profile, guest=guest)
    bench.use_ept("ENABLE_VM_FUNCTIONS")
    bench.vmwrite("VM_FUNCTION_CONTROLS", functions)
    bench.vmwrite("EPTP_LIST_ADDR", LIST)
    for place, entry in ept_tables(OTHER):
        bench.cpu.bus.store(place, 64, entry)
    bench.cpu.bus.store(OTHER + 0x3000 + 8 * (DATA >> 12), 64, DATA + 0x1000 | 6 << 3 | 7)
    bench.cpu.bus.store(LIST + 8 * 3, 64, OTHER | VALID_EPTP)
    bench.cpu.bus.store(DATA, 32, 0x1111)
    bench.cpu.bus.store(DATA + 0x1000, 32, 0x2222)
    for register, value in (("rax", eax), ("rcx", ecx), ("rsi", DATA)):
        bench.state.write(register, value)
    return bench


@EVERY_ENGINE
@pytest.mark.covers("control.vmfunc.EPTP_SWITCHING", "control.sec.ENABLE_VM_FUNCTIONS")
def test_the_guest_goes_on_under_the_table_it_chose(engine: str) -> None:
    bench = make(engine, ecx=0xFFFF_FFFF_0000_0003)
    assert bench.run() == EXITS.VMCALL
    assert bench.word("rdi") == 0x2222
    assert bench.vmread("EPT_POINTER") == OTHER | VALID_EPTP
    assert bench.vmread("EPTP_INDEX") == 3


@EVERY_ENGINE
def test_a_cpu_without_ve_has_no_eptp_index(engine: str) -> None:
    bench = make(engine, profile="haswell")
    assert bench.run() == EXITS.VMCALL
    assert bench.word("rdi") == 0x2222


@EVERY_ENGINE
@pytest.mark.parametrize(
    ("eax", "ecx", "eptp", "functions"),
    [(1, 3, OTHER | VALID_EPTP, 1), (63, 3, OTHER | VALID_EPTP, 1), (0, 3, OTHER | VALID_EPTP, 0),
     (0, 512, OTHER | VALID_EPTP, 1), (0, 0x8000_0003, OTHER | VALID_EPTP, 1),
     (0, 3, OTHER | 3 << 3 | 1, 1), (0, 3, OTHER | 2 << 3 | 6, 1), (0, 3, 1 << 45 | VALID_EPTP, 1),
     (0, 3, OTHER | VALID_EPTP | 1 << 8, 1), (0, 4, OTHER | VALID_EPTP, 1)],
)  # fmt: skip
@pytest.mark.covers("exit.VMFUNC", "control.vmfunc.EPTP_SWITCHING")
def test_a_function_that_is_disabled_and_a_bad_choice_exit(
    engine: str, eax: int, ecx: int, eptp: int, functions: int
) -> None:
    bench = make(engine, eax=eax, ecx=ecx, functions=functions)
    bench.cpu.bus.store(LIST + 8 * 3, 64, eptp)
    assert bench.run() == EXITS.VMFUNC
    assert bench.vmread("GUEST_RIP") == GUEST_CODE + 2
    assert bench.vmread("EXIT_INSTRUCTION_LENGTH") == 3
    assert bench.vmread("EXIT_QUALIFICATION") == 0
    assert bench.vmread("EPT_POINTER") == EPT_TABLES | VALID_EPTP


@EVERY_ENGINE
@pytest.mark.parametrize("eax", [64, 0xFFFF_FFFF])
def test_there_is_no_function_64(engine: str, eax: int) -> None:
    bench = make(engine, eax=eax)
    bench.vmwrite("EXCEPTION_BITMAP", 1 << 6)
    assert bench.run() == EXITS.EXCEPTION_OR_NMI


@EVERY_ENGINE
@pytest.mark.covers("control.sec.ENABLE_VM_FUNCTIONS")
def test_without_the_control_vmfunc_is_undefined(engine: str) -> None:
    bench = make(engine)
    bench.use_ept()
    bench.vmwrite("EXCEPTION_BITMAP", 1 << 6)
    assert bench.run() == EXITS.EXCEPTION_OR_NMI
    assert bench.vmread("GUEST_RIP") == GUEST_CODE + 2


@EVERY_ENGINE
def test_in_root_operation_vmfunc_is_undefined(engine: str) -> None:
    bench = make(engine)
    bench.state.write("rip", HOST_CODE)
    one = OneByOne(engine, bench.cpu, features_of("max"), bench.engine)
    assert one.run(VMFUNC + bytes(15)) == FAULT
    assert bench.word("fault_vector") == 6


def test_the_capability_msr_tells_the_functions() -> None:
    assert capability_msrs(profile("haswell"))[MSRS.IA32_VMX_VMFUNC] == 1
    assert MSRS.IA32_VMX_VMFUNC not in capability_msrs(profile("haswell-noept"))
