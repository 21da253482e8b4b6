"""Port I/O: values, permissions, repetition."""

GP, UD, PF = 13, 6, 14
TSS, CODE = 0x3000, 0x10000


def test_in_and_out_of_every_width(long):
    long.run("mov rax, -1\nin al, 0x60\nmov rbx, rax\nmov dx, 0x3f8\nin eax, dx", most=5)
    assert (long["rbx"], long["rax"]) == (0xFFFFFFFFFFFFFF44, 0x11223344)
    long["rip"] = CODE
    long.run("mov dx, 0x3f8\nmov eax, 0x12345678\nout dx, al\nout dx, ax\nout 0x80, eax", most=5)
    assert long.ports == [(0x3F8, 1, 0x78), (0x3F8, 2, 0x5678), (0x80, 4, 0x12345678)]


def allow(bench, *ports: int, base: int = 0x68) -> None:
    """An I/O permission bit map that allows only some of the first 64 ports."""
    bench.write(TSS + 0x66, base, 2)
    bits = (1 << 72) - 1
    for port in ports:
        bits &= ~(1 << port)
    bench.write(TSS + base, bits, 9)


def ask_the_tss(bench) -> None:
    bench.user()
    allow(bench, 0x20, 0x21)
    assert bench.fault("in al, 0x22") == (GP, 0)
    bench.user()
    bench["activity"], bench["rip"] = 0, CODE
    bench.run("in al, 0x20\nin ax, 0x20\nud2")
    assert bench.vector == UD


def test_the_tss_decides_above_iopl(long):
    ask_the_tss(long)


def test_the_tss_decides_above_iopl_in_protected_mode(protected):
    ask_the_tss(protected)


def test_every_byte_of_an_access_must_be_allowed(long):
    long.user()
    allow(long, 0x20, 0x21)
    assert long.fault("in ax, 0x21") == (GP, 0)


def test_a_bit_map_beyond_the_tss_allows_nothing(long):
    long.user()
    allow(long, 0x20)
    long.write(TSS + 0x66, 0x80, 2)
    assert long.fault("in al, 0x20") == (GP, 0)


def test_iopl_3_needs_no_bit_map(long):
    long.user()
    long["rflags"] = 0x3002
    long.run("in al, 0x60\nud2")
    assert long.vector == UD


def test_virtual_8086_mode_always_asks_the_bit_map(protected):
    protected["rflags"] = 0x23002
    for name in ("cs", "ss", "ds", "es", "fs", "gs"):
        protected.state.write_segment(name, 0x1000, 0x10000, 0xFFFF, 0xF3)
    protected["rip"], protected["rsp"] = 0, 0x8000
    allow(protected, 0x20)
    assert protected.fault("in al, 0x21", bits=16) == (GP, 0)


def test_rep_outs_counts_one_instruction_an_iteration(long):
    long["rsi"], long["rcx"], long["rdx"] = 0x6000, 3, 0x3F8
    long.write(0x6000, 0x434241, 4)
    before = long["retired"]
    long.run("rep outsb\nnop", most=4)
    assert long.ports == [(0x3F8, 1, 0x41), (0x3F8, 1, 0x42), (0x3F8, 1, 0x43)]
    assert (long["rsi"], long["rcx"], long["retired"] - before) == (0x6003, 0, 4)


def test_ins_goes_downwards_with_df_and_stops_where_memory_faults(long):
    long["rdi"], long["rcx"], long["rdx"] = 0x40_0000, 3, 0x60
    assert long.fault("rep insd") == (PF, 2)
    assert long["rcx"] == 3
    long["rdi"], long["rip"], long["activity"] = 0x6004, CODE, 0
    long.run("std\nrep insw", most=4)
    assert (long["rdi"], long["rcx"], long.read(0x6000, 6)) == (0x5FFE, 0, 0x334433443344)


def test_a_count_of_zero_does_nothing_at_all(long):
    long["rdi"], long["rcx"] = 0x40_0000, 0
    long.run("rep insb\nud2")
    assert long.vector == UD


# --- in VMX non-root operation ---------------------------------------------------------------


def enter_guest(bench, controls: int) -> None:
    bench["vmx"] = 2
    bench["proc_controls"] = controls
    bench["io_bitmap_a"], bench["io_bitmap_b"] = 0x6000, 0x7000


def exited(bench, source: str) -> tuple[int, int]:
    """Reason and qualification of the VM exit that one instruction takes."""
    assert bench.exits(source)
    return bench["exit_reason"], bench["exit_qualification"]


def test_unconditional_exiting_reports_the_access(long):
    enter_guest(long, 1 << 24)
    assert exited(long, "in al, 0x60") == (30, 0x60 << 16 | 1 << 6 | 1 << 3)
    long["rdx"] = 0x3F8
    assert exited(long, "out dx, eax") == (30, 0x3F8 << 16 | 3)
    assert long["exit_length"] == 1


def test_string_exits_report_address_and_information(long):
    enter_guest(long, 1 << 24)
    long["rdx"], long["rcx"], long["rsi"], long["rdi"] = 0x3F8, 5, 0x1234, 0x4321
    assert exited(long, "rep outsw") == (30, 0x3F8 << 16 | 1 << 5 | 1 << 4 | 1)
    assert (long["exit_gla"], long["exit_info"]) == (0x1234, 2 << 7 | 3 << 15)
    assert exited(long, "insb") == (30, 0x3F8 << 16 | 1 << 4 | 1 << 3)
    assert (long["exit_gla"], long["exit_info"] & 0x380) == (0x4321, 2 << 7)


def test_io_bitmaps_decide_per_port_and_wrapping_exits(long):
    enter_guest(long, 1 << 25 | 1 << 24)
    long.write(0x6000 + 0x60 // 8, 1, 1)
    assert exited(long, "in al, 0x60")[0] == 30
    long.write(0x7000 + 0x7FF8 // 8, 0, 1)
    long["rdx"] = 0xFFFF
    assert exited(long, "in ax, dx")[0] == 30
    long["vmx"] = 2
    long.run("in al, 0x61", most=1)
    assert long["rip"] == CODE + 2


def test_permission_faults_come_before_exits(long):
    long.user()
    enter_guest(long, 1 << 24)
    allow(long)
    assert long.fault("in al, 0x20") == (GP, 0)
