"""The VMM's port to the CPU: VMX instructions that succeed, and that fail in one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from vtx.vmm.controls import ControlPlan
from vtx.vmm.launch import launch
from vtx.vmm.port import Port, VmxError


@pytest.fixture
def vmm(teeth: bytes, options: Callable[..., Any]) -> Any:
    session: Any = launch(options(teeth, "ept")).session
    assert session.run(50) is None
    return session.vmm


def test_a_field_that_was_written_reads_back(vmm: Any) -> None:
    port: Port = vmm.port
    port.vmwrite("EXCEPTION_BITMAP", 0x4004)

    assert port.vmread("EXCEPTION_BITMAP") == 0x4004
    assert port.vmread("GUEST_RFLAGS") & 2


def test_recorded_writes_are_the_fields_that_changed(vmm: Any) -> None:
    port: Port = vmm.port
    port.vmwrite("EXCEPTION_BITMAP", 1)
    port.record_writes()
    port.vmwrite("EXCEPTION_BITMAP", 1)
    port.vmwrite("GUEST_RIP", 0x1234)

    assert port.recorded_writes() == {"GUEST_RIP": 0x1234}
    port.vmwrite("GUEST_RIP", 0x5678)
    assert port.recorded_writes() == {}


def test_writing_a_field_that_is_not_there_fails_in_words(vmm: Any) -> None:
    failed = "VMWRITE of TSC_MULTIPLIER failed: VM-instruction error 12"
    with pytest.raises(VmxError, match=failed):
        vmm.port.vmwrite("TSC_MULTIPLIER", 0)


def test_launching_twice_fails_with_an_instruction_error(vmm: Any) -> None:
    assert not vmm.port.enter(launched=False)
    assert vmm.port.instruction_error().startswith("VM-instruction error 4: ")


def test_loading_the_vmxon_region_as_a_vmcs_fails(vmm: Any) -> None:
    with pytest.raises(VmxError, match="VMCLEAR failed: VM-instruction error"):
        vmm.port.load_vmcs(vmm.port.register("vmxon_pointer"))


def test_memory_is_host_physical(vmm: Any) -> None:
    hpa = vmm.pool.take()
    vmm.port.store(hpa, 0x1122_3344_5566_7788)

    assert vmm.port.load(hpa) == 0x1122_3344_5566_7788
    assert vmm.port.load(hpa + 4, 32) == 0x1122_3344
    assert vmm.port.cpu.bus.memory.read(hpa, 1) == b"\x88"


def test_a_plan_is_added_to_without_changing_it() -> None:
    from vtx.spec import CONTROLS

    plan = ControlPlan(proc=(CONTROLS.HLT_EXITING,))
    more = plan.with_(proc=(CONTROLS.INVLPG_EXITING,), sec=(CONTROLS.ENABLE_EPT,))

    assert plan.proc == (CONTROLS.HLT_EXITING,)
    assert more.proc == (CONTROLS.HLT_EXITING, CONTROLS.INVLPG_EXITING)
    assert more.sec == (CONTROLS.ENABLE_EPT,)


def test_control_words_hold_what_is_wanted_and_what_the_cpu_demands(vmm: Any) -> None:
    from vtx.spec import CONTROLS

    demanded = vmm.port.rdmsr("IA32_VMX_TRUE_PROCBASED_CTLS") & 0xFFFF_FFFF
    word = vmm.port.vmread("PROCBASED_CONTROLS")

    assert word & demanded == demanded
    assert word & CONTROLS.HLT_EXITING.mask
    assert not word & CONTROLS.INVLPG_EXITING.mask


def test_registers_survive_the_way_to_the_completing_cpu_and_back(vmm: Any) -> None:
    fields = ("GUEST_RIP", "GUEST_RSP", "GUEST_CR0", "GUEST_CR3", "GUEST_CR4", "GUEST_RFLAGS",
              "GUEST_CS_ACCESS_RIGHTS", "GUEST_IA32_EFER", "CR0_READ_SHADOW")  # fmt: skip
    before = {name: vmm.port.vmread(name) for name in fields}
    registers = [vmm.port.register(name) for name in ("rax", "rbx", "r15", "cr2")]
    vmm.vcpu.load_from_vmcs()
    state = vmm.vm.soft.state
    assert state.read("rip") == before["GUEST_RIP"]
    assert [state.read(name) for name in ("rax", "rbx", "r15", "cr2")] == registers
    state.write("rip", 0x4321)
    vmm.vcpu.store_to_vmcs(vmm.control_registers())

    assert {name: vmm.port.vmread(name) for name in fields} == before | {"GUEST_RIP": 0x4321}
