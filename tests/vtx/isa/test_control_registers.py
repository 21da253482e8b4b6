"""Control and debug registers: legal values, consequences, and what a VMM intercepts."""

import pytest

from vtx.isa.program import Flush

GP, UD, DB = 13, 6, 1
CODE, TABLES = 0x10000, 0x8000
CR0, CR4 = 0x80010031, 0x20


@pytest.mark.parametrize(
    "value",
    [
        CR0 & ~(1 << 31),  # leaving paging in 64-bit mode
        CR0 & ~1,  # paging without protection
        CR0 | 1 << 29,  # NW without CD
        CR0 | 1 << 32,
    ],
)
def test_illegal_cr0_values_fault(long, value):
    assert long.fault(f"mov rax, {value}\nmov cr0, rax") == (GP, 0)
    assert long["cr0"] == CR0


def test_cr0_ignores_reserved_low_bits_and_keeps_et(long):
    long.run(f"mov eax, {(CR0 | 1 << 6) & ~0x10}\nmov cr0, rax\nmov rbx, cr0", most=3)
    assert long["rbx"] == CR0


@pytest.mark.parametrize("value", [0, CR4 | 1 << 31, CR4 | 1 << 13, CR4 | 1 << 32])
def test_illegal_cr4_values_fault(long, value):
    assert long.fault(f"mov rax, {value}\nmov cr4, rax") == (GP, 0)


def test_pcide_needs_the_low_bits_of_cr3_clear(long):
    long["cr3"] = TABLES | 8
    assert long.fault(f"mov eax, {CR4 | 1 << 17}\nmov cr4, rax") == (GP, 0)
    long["cr3"], long["rip"], long["activity"] = TABLES, CODE, 0
    long.run(f"mov eax, {CR4 | 1 << 17}\nmov cr4, rax", most=2)
    assert long["cr4"] == CR4 | 1 << 17


def test_paging_may_not_go_while_pcide_is_on(long):
    long["cr4"] = CR4 | 1 << 17
    assert long.fault(f"mov eax, {CR0 & ~(1 << 31)}\nmov cr0, rax") == (GP, 0)


def test_cr3_beyond_the_physical_address_width_faults(long):
    assert long.fault(f"mov rax, {1 << 39}\nmov cr3, rax") == (GP, 0)
    long["rip"], long["activity"] = CODE, 0
    assert long.fault(f"mov rax, {1 << 63 | TABLES}\nmov cr3, rax") == (GP, 0)


def test_cr3_flushes_unless_bit_63_asks_to_keep(long):
    long["cr4"] = CR4 | 1 << 17
    long.run(f"mov rax, {TABLES | 5}\nmov cr3, rax", most=2)
    assert (long.flushes, long["cr3"]) == ([(Flush.PCID_LOCAL, 5, 0)], TABLES | 5)
    long["rip"] = CODE
    long.run(f"mov rax, {TABLES | 1 << 63}\nmov cr3, rax", most=2)
    assert (len(long.flushes), long["cr3"]) == (1, TABLES)


def test_wp_changes_reach_the_tlb(long):
    long.write(TABLES + 0x2000, 0x85)
    long.run(f"mov eax, {CR0 & ~(1 << 16)}\nmov cr0, rax\nmov [0x6000], eax", most=3)
    assert long["rip"] == CODE + 15
    long["rip"], long["cr0"] = CODE, CR0 & ~(1 << 16)
    assert long.fault(f"mov eax, {CR0}\nmov cr0, rax\nmov [0x6000], eax")[0] in (14, None)


def test_enabling_paging_with_lme_activates_long_mode(protected):
    protected["efer"], protected["cr4"], protected["cr3"] = 0x100, 0x20, TABLES
    protected.run("mov eax, 0x80000011\nmov cr0, eax", most=2)
    assert protected["efer"] == 0x500
    protected["rip"] = CODE
    protected.run("mov eax, 0x11\nmov cr0, eax", most=2)
    assert protected["efer"] == 0x100


def test_enabling_long_mode_needs_pae(protected):
    protected["efer"], protected["cr3"] = 0x100, TABLES
    assert protected.fault("mov eax, 0x80000011\nmov cr0, eax") == (GP, 0)


def test_pae_paging_loads_the_pdptes_and_checks_them(protected):
    protected["cr4"] = 0x20
    protected["cr3"] = 0x6000
    protected.write(0x6000, TABLES + 0x2001)
    protected.run("mov eax, 0x80000011\nmov cr0, eax", most=2)
    assert protected["pdpte0"] == TABLES + 0x2001
    protected["rip"] = CODE
    protected.write(0x6020, 0x1E1)
    assert protected.fault("mov eax, 0x6020\nmov cr3, eax", most=3)[0] == GP


@pytest.mark.parametrize("source", ["mov rax, cr0", "mov cr3, rax", "mov rax, dr7", "clts",
                                    "lmsw ax"])  # fmt: skip
def test_control_registers_belong_to_ring_0(long, source):
    long.user()
    assert long.fault(source) == (GP, 0)


def test_cr1_is_undefined(long):
    long.run(".byte 0x0f, 0x20, 0xc8")
    assert long.vector == UD


def test_lmsw_sets_but_never_clears_pe(long):
    long.run("mov eax, 8\nlmsw ax\nsmsw ebx\nclts\nmov rcx, cr0", most=5)
    assert (long["rbx"], long["rcx"]) == ((CR0 & ~0xE) | 8, CR0)


def test_cr8_is_the_task_priority(long):
    long.run("mov rax, cr8\nmov ebx, 9\nmov cr8, rbx", most=3)
    assert (long["rax"], long.ports) == (7, [("tpr", 9)])
    long["rip"] = CODE
    assert long.fault("mov ebx, 16\nmov cr8, rbx") == (GP, 0)


# --- debug registers -------------------------------------------------------------------------


def test_debug_registers_4_and_5_are_6_and_7_without_de(long):
    long["dr7"] = 0x400
    long.run("mov rax, dr5", most=1)
    assert long["rax"] == 0x400
    long["rip"], long["cr4"] = CODE, CR4 | 8
    long.run("mov rax, dr5")
    assert long.vector == UD


def test_general_detect_traps_before_the_access(long):
    long["dr7"] = 0x2400
    long.run("mov rax, dr0")
    assert (long.vector, long.frame(0), long["dr6"] & 0x2000) == (DB, CODE, 0x2000)
    assert long["dr7"] == 0x400


def test_upper_halves_of_dr6_and_dr7_are_reserved(long):
    assert long.fault(f"mov rax, {1 << 32}\nmov dr7, rax") == (GP, 0)


def test_fixed_bits_of_dr6_and_dr7_stay(long):
    long.run("xor eax, eax\nmov dr6, rax\nmov dr7, rax", most=3)
    assert (long["dr6"], long["dr7"]) == (0xFFFF0FF0, 0x400)


# --- in VMX non-root operation ---------------------------------------------------------------


def exit_of(bench, source: str) -> tuple[int, int] | None:
    """Reason and qualification of the VM exit one instruction takes, or None."""
    if not bench.exits(source):
        return None
    return bench["exit_reason"], bench["exit_qualification"]


@pytest.fixture
def guest(long):
    long["vmx"] = 2
    long["cr0"] |= 0x20
    long["cr4"] |= 1 << 13
    long["cr4_allowed"] |= 1 << 13
    return long


def test_owned_bits_read_from_the_shadow(guest):
    guest["cr0_mask"], guest["cr0_shadow"] = 1 << 16 | 8, 8
    assert exit_of(guest, "mov rax, cr0") is None
    assert guest["rax"] == (CR0 | 0x20) & ~(1 << 16) | 8


def test_writes_exit_only_when_an_owned_bit_differs_from_the_shadow(guest):
    guest["cr0_mask"], guest["cr0_shadow"] = 8, 8
    guest["rbx"] = guest["cr0"]
    assert exit_of(guest, "mov cr0, rbx") == (28, 3 << 8)
    guest["rbx"] = guest["cr0"] | 8 | 4
    assert exit_of(guest, "mov cr0, rbx") is None
    assert guest["cr0"] & 0xC == 4  # TS is the VMM's and stays 0


def test_cr4_exits_carry_the_register(guest):
    guest["cr4_mask"], guest["r9"] = 1 << 7, 1 << 7 | 0x2020
    assert exit_of(guest, "mov cr4, r9") == (28, 4 | 9 << 8)


def test_cr3_exits_unless_the_value_is_a_target(guest):
    guest["proc_controls"] = 1 << 15 | 1 << 16
    guest["cr3_target_count"], guest["cr3_target0"] = 1, TABLES
    guest["rcx"] = TABLES
    assert exit_of(guest, "mov cr3, rcx") is None
    guest["rcx"] = TABLES | 8
    assert exit_of(guest, "mov cr3, rcx") == (28, 3 | 1 << 8)
    assert exit_of(guest, "mov rdx, cr3") == (28, 3 | 1 << 4 | 2 << 8)


def test_the_tpr_shadow_takes_cr8(guest):
    guest["proc_controls"], guest["virtual_apic"], guest["tpr_threshold"] = 1 << 21, 0x6000, 4
    guest["rbx"] = 5
    assert exit_of(guest, "mov cr8, rbx") is None
    assert (guest.read(0x6080, 4), guest["tpr_below_threshold"]) == (0x50, 0)
    assert exit_of(guest, "mov rcx, cr8") is None
    assert guest["rcx"] == 5
    guest["rbx"] = 3
    assert exit_of(guest, "mov cr8, rbx") is None
    assert guest["tpr_below_threshold"] == 1


def test_clts_and_lmsw_exits(guest):
    guest["cr0_mask"] = guest["cr0_shadow"] = 8
    assert exit_of(guest, "clts") == (28, 2 << 4)
    guest["rax"] = 0x1234_0001
    assert exit_of(guest, "lmsw ax") == (28, 3 << 4 | 1 << 16)


def test_mov_dr_exits_before_general_detect(guest):
    guest["proc_controls"], guest["dr7"] = 1 << 23, 0x2400
    assert exit_of(guest, "mov rdx, dr3") == (29, 3 | 1 << 4 | 2 << 8)


def test_privilege_faults_come_before_exits(guest):
    guest.user()
    guest["proc_controls"] = 1 << 16
    assert guest.fault("mov rax, cr3") == (GP, 0)


def test_vmx_operation_keeps_cr0_ne_and_cr4_vmxe(guest):
    assert guest.fault(f"mov eax, {CR0 & ~0x20}\nmov cr0, rax") == (GP, 0)
    guest["rip"], guest["activity"] = CODE, 0
    assert guest.fault(f"mov eax, {CR4}\nmov cr4, rax") == (GP, 0)
