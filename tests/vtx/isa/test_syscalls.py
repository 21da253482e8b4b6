"""SYSCALL, SYSRET, SYSENTER, SYSEXIT."""

GP, UD = 13, 6
CODE, STACK, USER_STACK = 0x10000, 0x20000, 0x28000
STAR = 0x20 << 48 | 0x08 << 32


def prepare(bench) -> None:
    bench["star"], bench["lstar"], bench["fmask"] = STAR, 0x6000, 0x300


def test_syscall_saves_rip_and_rflags_and_masks(long):
    prepare(long)
    long.user()
    long["rflags"], long["cf"] = 0x302 & ~0x100, 1
    long.run("syscall", most=1)
    assert (long["rip"], long["rcx"], long["r11"]) == (0x6000, CODE + 2, 0x203)
    assert (long["cs_sel"], long["ss_sel"], long["ss_ar"]) == (8, 0x10, 0xC093)
    assert (long["rflags"], long["rsp"]) == (2, USER_STACK)


def test_sysretq_goes_back_to_64_bit_user_code(long):
    prepare(long)
    long["rcx"], long["r11"] = 0x6000, 0x203
    long.run("sysretq", most=1)
    assert (long["rip"], long["cs_sel"], long["ss_sel"]) == (0x6000, 0x33, 0x2B)
    assert (long["ss_ar"], long["cs_ar"], long["rflags"], long["cf"]) == (0xC0F3, 0xA0FB, 0x202, 1)


def test_sysret_goes_back_to_compatibility_mode(long):
    prepare(long)
    long["rcx"] = 0x1_0000_6000
    long.run("sysret", most=1)
    assert (long["rip"], long["cs_sel"], long["cs_ar"]) == (0x6000, 0x23, 0xC0FB)


def test_sysretq_to_a_target_that_is_not_canonical_faults_at_ring_0(long):
    prepare(long)
    long["rcx"] = 1 << 47
    assert long.fault("sysretq") == (GP, 0)
    assert long["cs_sel"] == 8


def test_both_are_undefined_without_sce(long):
    long["efer"] = 0xD00
    long.run("syscall")
    assert long.vector == UD


def test_sysret_needs_ring_0(long):
    long.user()
    assert long.fault("sysretq") == (GP, 0)


def test_sysenter_and_sysexit_use_the_msrs(protected):
    protected["sysenter_cs"] = 8
    protected["sysenter_esp"], protected["sysenter_eip"] = 0x7000, 0x6000
    protected.user()
    protected["rflags"] = 0x202
    protected.run("sysenter", most=1)
    assert (protected["rip"], protected["rsp"], protected["rflags"]) == (0x6000, 0x7000, 2)
    assert (protected["cs_sel"], protected["ss_sel"]) == (8, 0x10)
    protected["rip"], protected["rdx"], protected["rcx"] = CODE, 0x6800, 0x7800
    protected.run("sysexit", most=1)
    assert (protected["rip"], protected["rsp"]) == (0x6800, 0x7800)
    assert (protected["cs_sel"], protected["ss_sel"]) == (0x1B, 0x23)


def test_sysenter_with_a_null_selector_faults(protected):
    assert protected.fault("sysenter") == (GP, 0)
