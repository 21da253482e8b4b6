"""CPUID, HLT, TLB invalidation, random numbers, FS and GS bases, extended control registers."""

import pytest

from vtx.engine.run import Ended
from vtx.isa.program import Flush

GP, UD, PF = 13, 6, 14
CODE, TABLES = 0x10000, 0x8000


def exit_of(bench, source: str) -> int | None:
    """Reason of the VM exit one instruction takes in VMX non-root operation, or None."""
    bench["vmx"] = 2
    return bench["exit_reason"] if bench.exits(source) else None


def test_cpuid_answers_in_four_registers_and_leaves_the_microcode_revision(long):
    long.run("mov rax, -1\nmov ecx, 2\nmov rbx, -1\ncpuid", most=4)
    assert [long[r] for r in ("rax", "rcx", "rdx", "rbx")] == [0xFFFFFFFF, 3, 4, 2]
    assert long["bios_sign_id"] == 0x28_0000_0000


def test_hlt_with_interrupts_off_halts_for_good(long):
    assert long.run("hlt") is Ended.HALTED
    assert (long["rip"], long["activity"]) == (CODE + 1, 1)


@pytest.mark.parametrize("source", ["hlt", "invd", "wbinvd", "invlpg [rax]", "swapgs", "rdmsr"])
def test_privileged_instructions_need_ring_0(long, source):
    long.user()
    assert long.fault(source) == (GP, 0)


def test_invlpg_forgets_a_stale_translation(long):
    pages = TABLES + 0x3000
    long.write(TABLES + 0x2008, pages + 7)
    long.write(pages, 0x6007)
    long.write(0x6000, 0x11)
    long.write(0x7000, 0x22)
    long.run(f"mov rax, [0x200000]\nmov qword ptr [{pages}], 0x7007\nmov rbx, [0x200000]\n"
             "invlpg [0x200000]\nmov rcx, [0x200000]", most=5)  # fmt: skip
    assert (long["rax"], long["rcx"]) == (0x11, 0x22)
    assert long.flushes == [(Flush.PAGE, 0x200000, 0)]


@pytest.mark.parametrize(
    ("kind", "flush"),
    [(0, (Flush.PAGE_LOCAL, 0x123000, 5)), (1, (Flush.PCID_LOCAL, 5, 5)),
     (2, (Flush.ALL, 5, 5)), (3, (Flush.LOCAL, 5, 5))],
)  # fmt: skip
def test_invpcid_kinds(long, kind, flush):
    long["cr4"] = 0x20 | 1 << 17
    long.write(0x6000, 5)
    long.write(0x6008, 0x123000)
    long["rax"] = kind
    long.run("invpcid rax, [0x6000]", most=1)
    assert long.flushes == [flush]


@pytest.mark.parametrize(
    ("kind", "pcid", "address"),
    [(4, 0, 0), (0, 5, 0), (1, 5, 0), (2, 1 << 12, 0), (0, 0, 1 << 47)],
)
def test_invpcid_refuses_bad_descriptors(long, kind, pcid, address):
    long.write(0x6000, pcid)
    long.write(0x6008, address)
    long["rax"] = kind
    assert long.fault("invpcid rax, [0x6000]") == (GP, 0)


@pytest.mark.parametrize(("source", "width"), [("rdrand ax", 16), ("rdrand eax", 32),
                                               ("rdrand rax", 64)])  # fmt: skip
def test_random_numbers_are_always_ready(long, source, width):
    long["rax"], long["of"] = (1 << 64) - 1, 1
    long.run(source, most=1)
    kept = ((1 << 64) - 1) & ~0xFFFF if width == 16 else 0
    assert long["rax"] == kept | 0x1234_5678_9ABC_DEF0 & ((1 << width) - 1)
    assert (long["cf"], long["of"]) == (1, 0)


def test_fs_and_gs_bases(long):
    long.run("rdfsbase rax")
    assert long.vector == UD
    long["cr4"], long["rip"], long["activity"] = 0x20 | 1 << 16, CODE, 0
    long["rbx"] = 0xFFFF8000_00001234
    long.run("wrgsbase rbx\nrdgsbase rcx\nwrfsbase ebx\nswapgs", most=4)
    assert (long["rcx"], long["fs_base"]) == (0xFFFF8000_00001234, 0x1234)
    assert (long["gs_base"], long["kernel_gs_base"]) == (0, 0xFFFF8000_00001234)
    long["rip"], long["rbx"] = CODE, 1 << 47
    assert long.fault("wrgsbase rbx") == (GP, 0)


@pytest.mark.parametrize(
    ("control", "word", "source", "reason"),
    [
        (0, "proc_controls", "cpuid", 10),
        (7, "proc_controls", "hlt", 12),
        (0, "proc_controls", "invd", 13),
        (9, "proc_controls", "invlpg [rax]", 14),
        (11, "proc_controls", "rdpmc", 15),
        (12, "proc_controls", "rdtsc", 16),
        (30, "proc_controls", "pause", 40),
        (6, "proc2_controls", "wbinvd", 54),
        (11, "proc2_controls", "rdrand eax", 57),
        (2, "proc2_controls", "sgdt [rax]", 46),
        (2, "proc2_controls", "str ax", 47),
    ],
)
def test_exits_by_control(long, control, word, source, reason):
    long["rax"] = 0x6000
    if reason not in (10, 13):
        long["proc_controls"] = 1 << 31
        assert exit_of(long, source) is None
    long["activity"] = 0
    long["proc_controls"], long["proc2_controls"] = 1 << 31, 0
    long[word] |= 1 << control
    assert exit_of(long, source) == reason


def test_secondary_controls_count_only_when_activated(long):
    long["proc2_controls"] = 1 << 6
    assert exit_of(long, "wbinvd") is None


@pytest.mark.parametrize(("source", "bit"), [("rdtscp", 3), ("invpcid rax, [rax]", 12)])
def test_instructions_a_vmm_must_enable(long, source, bit):
    long["vmx"], long["rax"] = 2, 0
    long.write(0, 0)
    long.run(source)
    assert long.vector == UD
