"""Hardware task switches: what is saved and loaded, and in which task a fault happens."""

import pytest

NP, SS, GP, TS, DB, AC = 11, 12, 13, 10, 1, 17
GDT, IDT, TSS, CODE, STACK = 0x1000, 0x2000, 0x3000, 0x10000, 0x20000
TSS_SELECTOR, GATE = 0x38, 0x58
NEW_TSS, NEW_SELECTOR = 0x4800, 0x78
THIRD_TSS, THIRD = 0x4900, 0x60
TASK, TASK_STACK = 0x12000, 0x22000
KERNEL_CODE, KERNEL_DATA, NOT_PRESENT, USER_CODE, USER_DATA, LDT = 8, 0x10, 0x48, 0x33, 0x2B, 0x68
READ_ONLY = 0x80
NT, VM, IOPL3 = 1 << 14, 1 << 17, 3 << 12
AVAILABLE, BUSY = 0x89, 0x8B


PLACES = {
    "link": 0, "cr3": 0x1C, "eip": 0x20, "eflags": 0x24, "eax": 0x28, "ecx": 0x2C,
    "edx": 0x30, "ebx": 0x34, "esp": 0x38, "ebp": 0x3C, "esi": 0x40, "edi": 0x44, "es": 0x48,
    "cs": 0x4C, "ss": 0x50, "ds": 0x54, "fs": 0x58, "gs": 0x5C, "ldt": 0x60, "trap": 0x64,
}  # fmt: skip


def descriptor(base, limit, rights):
    """A segment descriptor with limit in bytes; `rights` in the format of the VMCS."""
    low = limit & 0xFFFF | (base & 0xFF_FFFF) << 16 | (rights & 0xFF) << 40
    return low | (rights >> 12 & 0xF) << 52 | (base >> 24) << 56


def gate(selector, target, kind, dpl=0, present=True):
    rights = kind | dpl << 5 | present << 7
    return target & 0xFFFF | selector << 16 | rights << 40 | (target >> 16) << 48


class Tasks:
    """The protected-mode bench with a second task, ready to run NOPs at TASK."""

    def __init__(self, bench):
        self.bench = bench
        bench.write(GDT + TSS_SELECTOR, descriptor(TSS, 0x67, BUSY))
        bench.load("hlt", TASK)
        self.fill(
            eip=TASK, eflags=2, eax=0xA0, ecx=0xC0, edx=0xD0, ebx=0xB0, esp=TASK_STACK, ebp=0xB9,
            esi=0x51, edi=0xD1, es=KERNEL_DATA, cs=KERNEL_CODE, ss=KERNEL_DATA, ds=KERNEL_DATA,
            fs=0, gs=KERNEL_DATA, ldt=0, trap=0,
        )  # fmt: skip

    def fill(self, **values):
        for name, value in values.items():
            self.bench.write(NEW_TSS + PLACES[name], value, 4)

    def saved(self, name, base=TSS):
        return self.bench.read(base + PLACES[name], 4)

    def kind(self, selector):
        return self.bench.read(GDT + selector + 5, 1)

    def gate_to(self, selector, *, at=None, dpl=0, present=True):
        """A task gate in the IDT at vector `at`, or in the GDT at GATE."""
        place = GDT + GATE if at is None else IDT + 8 * at
        self.bench.write(place, gate(selector, 0, 5, dpl, present))

    def handle_in_a_task(self, vector):
        """A third task takes `vector`: the second one cannot be relied on."""
        bench = self.bench
        bench.write(GDT + THIRD, descriptor(THIRD_TSS, 0x67, AVAILABLE))
        bench.cpu.bus.write_bytes(THIRD_TSS, bytes(bench.cpu.memory[NEW_TSS : NEW_TSS + 0x68]))
        good = {"eip": TASK + 0x100, "esp": TASK_STACK, "cs": KERNEL_CODE, "ss": KERNEL_DATA}
        for name, value in {**good, "ds": 0, "es": 0, "fs": 0, "gs": 0, "ldt": 0}.items():
            bench.write(THIRD_TSS + PLACES[name], value, 4)
        bench.load("hlt", TASK + 0x100)
        self.gate_to(THIRD, at=vector)

    def run(self, source, **options):
        return self.bench.run(source, **options)


@pytest.fixture
def tasks(protected):
    return Tasks(protected)


def registers(bench, *names):
    return tuple(bench[name] for name in names)


def test_a_jump_saves_the_old_task_and_loads_the_new(tasks):
    bench = tasks.bench
    bench["dr7"] = 0x400 | 0x355
    tasks.run("mov eax, 0x1111\nmov ebx, 0x2222\nmov edi, 0x3333\njmp 0x78:0x999", most=4)
    assert (tasks.saved("eip"), tasks.saved("eflags")) == (CODE + 22, 2)
    assert [tasks.saved(name) for name in ("eax", "ebx", "edi", "esp")] == [
        0x1111, 0x2222, 0x3333, STACK,
    ]  # fmt: skip
    assert (tasks.saved("cs"), tasks.saved("gs")) == (KERNEL_CODE, KERNEL_DATA)
    assert registers(bench, "rip", "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi") == (
        TASK, 0xA0, 0xC0, 0xD0, 0xB0, TASK_STACK, 0xB9, 0x51, 0xD1,
    )  # fmt: skip
    assert registers(bench, "tr_sel", "tr_base", "tr_ar") == (NEW_SELECTOR, NEW_TSS, BUSY)
    assert (bench["fs_ar"] >> 16, bench["gs_ar"], bench["ldtr_ar"] >> 16) == (1, 0xC093, 1)
    assert (tasks.kind(TSS_SELECTOR), tasks.kind(NEW_SELECTOR)) == (AVAILABLE, BUSY)
    assert (bench["cr0"] & 8, bench["dr7"], bench.state.rflags & NT) == (8, 0x600, 0)
    assert bench["retired"] == 4


def test_a_call_nests_and_iret_comes_back(tasks):
    bench = tasks.bench
    bench.load("mov eax, 7\niretd\nmov eax, 8\niretd", TASK)
    tasks.run("call 0x78:0\nmov ecx, 9\nhlt", most=1)
    assert (tasks.kind(TSS_SELECTOR), tasks.kind(NEW_SELECTOR)) == (BUSY, BUSY)
    assert (bench.state.rflags & NT, bench.read(NEW_TSS, 2)) == (NT, TSS_SELECTOR)
    bench.runner.run(bench.cpu.now() + 4)
    assert registers(bench, "rip", "rcx", "tr_sel") == (CODE + 13, 9, TSS_SELECTOR)
    assert (tasks.kind(TSS_SELECTOR), tasks.kind(NEW_SELECTOR)) == (BUSY, AVAILABLE)
    assert tasks.saved("eflags", NEW_TSS) & NT == 0
    assert (tasks.saved("eip", NEW_TSS), tasks.saved("eax", NEW_TSS)) == (TASK + 6, 7)
    assert bench["retired"] == 5


def test_a_gate_leads_to_its_task_with_the_gates_privilege(tasks):
    bench = tasks.bench
    tasks.gate_to(NEW_SELECTOR, dpl=3)
    bench.user()
    tasks.run(f"call {GATE}:0", most=1)
    assert registers(bench, "rip", "tr_sel", "ss_ar") == (TASK, NEW_SELECTOR, 0xC093)
    assert (tasks.saved("cs"), tasks.saved("ss")) == (USER_CODE, USER_DATA)


def test_the_tss_itself_is_not_open_to_outer_levels(tasks):
    tasks.bench.user()
    assert tasks.bench.fault(f"jmp {NEW_SELECTOR}:0") == (GP, NEW_SELECTOR)


def test_an_interrupt_through_a_task_gate_nests(tasks):
    bench = tasks.bench
    tasks.gate_to(NEW_SELECTOR, at=0x30)
    tasks.run("int 0x30", most=1)
    assert registers(bench, "rip", "rsp") == (TASK, TASK_STACK)
    assert (tasks.saved("eip"), bench.read(NEW_TSS, 2)) == (CODE + 2, TSS_SELECTOR)
    assert (bench.state.rflags & NT, bench["event_valid"]) == (NT, 0)


def test_a_fault_through_a_task_gate_pushes_its_error_code_on_the_new_stack(tasks):
    bench = tasks.bench
    tasks.gate_to(NEW_SELECTOR, at=GP)
    tasks.run("mov eax, 0x1000\nmov ds, eax", most=2)
    assert registers(bench, "rip", "rsp") == (TASK + 1, TASK_STACK - 4)
    assert bench.read(TASK_STACK - 4, 4) == 0x1000
    assert (tasks.saved("eip"), tasks.saved("eflags")) == (CODE + 5, 0x10002)  # RF


def test_a_double_fault_may_have_a_task_of_its_own(tasks):
    bench = tasks.bench
    tasks.gate_to(NEW_SELECTOR, at=8)
    bench["rsp"] = 0x10  # of a stack segment that is too small to push a frame
    bench.state.write_segment("ss", KERNEL_DATA, 0, 3, 0x93)
    tasks.run("mov eax, 0x1000\nmov ds, eax", most=2)
    assert registers(bench, "rip", "rsp") == (TASK + 1, TASK_STACK - 4)
    assert (bench.read(TASK_STACK - 4, 4), tasks.saved("esp")) == (0, 0x10)


def test_the_new_stack_may_be_too_small_for_the_error_code(tasks):
    bench = tasks.bench
    tasks.gate_to(NEW_SELECTOR, at=AC)
    tasks.handle_in_a_task(SS)
    tasks.fill(esp=2, ss=0x88)
    bench["cr0"] = bench["cr0"] | 1 << 18
    bench.user()
    bench.state.rflags = 2 | 1 << 18
    tasks.run("mov eax, [esp + 1]", most=1)
    assert registers(bench, "rip", "tr_sel") == (TASK + 0x101, THIRD)
    assert (bench.read(TASK_STACK - 4, 4), tasks.saved("eip", NEW_TSS)) == (1, TASK)  # EXT


def test_the_trap_flag_of_the_tss_traps_before_the_first_instruction(tasks):
    bench = tasks.bench
    tasks.fill(trap=1)
    tasks.run(f"jmp {NEW_SELECTOR}:0", most=1)
    bench.runner.run(bench.cpu.now() + 1)
    assert (bench.vector, bench.frame(0), bench["dr6"] & 0xE00F) == (DB, TASK, 0x8000)


def test_a_task_brings_its_page_tables(tasks):
    bench = tasks.bench
    for page in (0x6000, 0x7000):
        bench.write(page, 0x87, 4)
    bench.run("mov eax, 0x6000\nmov cr3, eax\nmov eax, cr4\nor eax, 0x10\nmov cr4, eax", most=5)
    bench["cr0"] = bench["cr0"] | 1 << 31
    bench.cpu.switch_context()
    bench["rip"] = CODE
    tasks.fill(cr3=0x7000)
    tasks.run(f"jmp {NEW_SELECTOR}:0", most=1)
    assert registers(bench, "cr3", "rip") == (0x7000, TASK)


def test_without_paging_cr3_stays(tasks):
    tasks.fill(cr3=0x7000)
    tasks.run(f"jmp {NEW_SELECTOR}:0", most=1)
    assert tasks.bench["cr3"] == 0


def test_a_task_brings_its_ldt(tasks):
    tasks.fill(ldt=LDT)
    tasks.run(f"jmp {NEW_SELECTOR}:0", most=1)
    assert registers(tasks.bench, "ldtr_sel", "ldtr_base", "rip") == (LDT, 0x4000, TASK)


def test_a_task_may_be_a_virtual_8086_one(tasks):
    bench = tasks.bench
    bench.load("mov ax, 5\nhlt", 0x12340, 16)
    tasks.fill(eflags=2 | VM | IOPL3, cs=0x1200, eip=0x340, ss=0x2000, esp=0x100, ds=0x3000)
    tasks.run(f"jmp {NEW_SELECTOR}:0", most=2)
    assert registers(bench, "cs_base", "rip", "ss_base", "ds_base", "rax") == (
        0x12000, 0x343, 0x20000, 0x30000, 5,
    )  # fmt: skip


def test_a_16bit_tss_holds_half_of_it(tasks):
    bench = tasks.bench
    bench.write(GDT + NEW_SELECTOR, descriptor(NEW_TSS, 0x2B, 0x81))
    words = [0, 0, 0, 0, 0, 0, 0, 0x2000, 2, 1, 2, 3, 4, 0x3000, 6, 7, 8, KERNEL_DATA, KERNEL_CODE,
             KERNEL_DATA, KERNEL_DATA, 0]  # fmt: skip
    for n, word in enumerate(words):
        bench.write(NEW_TSS + 2 * n, word, 2)
    bench.load(f"mov eax, 0x12345678\njmp {TSS_SELECTOR}:0", 0x2000 + 0x10000)
    bench.write(NEW_TSS + 0xE, 0x5800, 2)
    bench.load("mov eax, 0x12345678\niretd", 0x5800)
    tasks.run(f"call {NEW_SELECTOR}:0\nhlt", most=1)
    assert registers(bench, "rip", "rax", "rcx", "rsp", "rdi") == (0x5800, 1, 2, 0x3000, 8)
    assert (bench["fs_ar"] >> 16, bench.read(NEW_TSS, 2)) == (1, TSS_SELECTOR)
    bench.runner.run(bench.cpu.now() + 2)
    assert bench["rip"] == CODE + 7
    assert (bench.read(NEW_TSS + 0x12, 2), bench.read(NEW_TSS + 0xE, 2)) == (0x5678, 0x5806)


# --- faults in the old task ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rights", "limit", "vector"),
    [(AVAILABLE, 0x66, TS), (BUSY, 0x67, GP), (0x09, 0x67, NP), (0x81, 0x2A, TS)],
)
def test_an_unfit_tss_faults_before_anything_changes(tasks, rights, limit, vector):
    bench = tasks.bench
    bench.write(GDT + NEW_SELECTOR, descriptor(NEW_TSS, limit, rights))
    assert bench.fault(f"call {NEW_SELECTOR}:0") == (vector, NEW_SELECTOR)
    assert (bench.frame(1), bench["tr_sel"], tasks.saved("eip")) == (CODE, TSS_SELECTOR, 0)


@pytest.mark.parametrize("selector", [NEW_SELECTOR | 4, KERNEL_DATA, 0x200])
def test_a_gate_must_name_a_tss_of_the_gdt(tasks, selector):
    tasks.gate_to(selector)
    assert tasks.bench.fault(f"jmp {GATE}:0") == (GP, selector)


def test_an_external_cause_shows_in_the_error_code(tasks):
    bench = tasks.bench
    tasks.gate_to(NEW_SELECTOR, at=0)
    bench.write(GDT + NEW_SELECTOR, descriptor(NEW_TSS, 0x67, 0x09))
    bench.run("xor ecx, ecx\ndiv ecx")
    assert bench.vector == 8  # #DE, then #NP
    tasks.gate_to(NEW_SELECTOR, at=6)
    bench["rip"], bench["activity"], bench["rsp"] = CODE, 0, STACK
    assert bench.fault("ud2") == (NP, NEW_SELECTOR | 1)


def test_iret_needs_a_busy_tss_to_go_back_to(tasks):
    bench = tasks.bench
    bench.write(TSS, NEW_SELECTOR, 2)
    bench.state.rflags = 2 | NT
    assert bench.fault("iretd") == (TS, NEW_SELECTOR)
    assert bench.frame(1) == CODE


def test_a_page_fault_on_the_new_tss_happens_in_the_old_task(tasks):
    bench = tasks.bench
    bench.write(0x6000, 0x87, 4)
    bench.run("mov eax, 0x6000\nmov cr3, eax\nmov eax, cr4\nor eax, 0x10\nmov cr4, eax", most=5)
    bench["cr0"] = bench["cr0"] | 1 << 31
    bench.cpu.switch_context()
    bench["rip"] = CODE
    bench.write(GDT + NEW_SELECTOR, descriptor(0x400000, 0x67, AVAILABLE))
    assert bench.fault(f"jmp {NEW_SELECTOR}:0")[0] == 14
    assert (bench["cr2"], bench["tr_sel"], bench.frame(1)) == (0x400000, TSS_SELECTOR, CODE)
    assert tasks.kind(TSS_SELECTOR) == BUSY


# --- faults in the new task ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "vector", "error"),
    [
        ({"ldt": KERNEL_DATA}, TS, KERNEL_DATA), ({"ldt": LDT | 4}, TS, LDT | 4),
        ({"cs": 0}, TS, 0), ({"cs": KERNEL_DATA}, TS, KERNEL_DATA),
        ({"cs": KERNEL_CODE | 3}, TS, KERNEL_CODE), ({"ss": 0}, TS, 0),
        ({"ss": READ_ONLY}, TS, READ_ONLY), ({"ss": NOT_PRESENT}, SS, NOT_PRESENT),
        ({"ss": USER_DATA}, TS, USER_DATA & ~3), ({"ss": KERNEL_DATA | 1}, TS, KERNEL_DATA),
        ({"ds": NOT_PRESENT}, NP, NOT_PRESENT), ({"es": 0x200}, TS, 0x200),
        ({"gs": TSS_SELECTOR}, TS, TSS_SELECTOR), ({"fs": KERNEL_DATA | 3}, TS, KERNEL_DATA),
    ],
)  # fmt: skip
def test_bad_segments_fault_in_the_new_task(tasks, changes, vector, error):
    bench = tasks.bench
    tasks.fill(**changes)
    tasks.handle_in_a_task(vector)
    tasks.run(f"jmp {NEW_SELECTOR}:0", most=4)
    assert registers(bench, "rip", "tr_sel") == (TASK + 0x101, THIRD)
    assert (bench.read(TASK_STACK - 4, 4), bench.read(THIRD_TSS, 2)) == (error, NEW_SELECTOR)
    assert (tasks.saved("eip", NEW_TSS), tasks.saved("eip")) == (TASK, CODE + 7)


def test_an_entry_point_beyond_the_code_segment_faults_in_the_new_task(tasks):
    bench = tasks.bench
    bench.write(GDT + 0x60, descriptor(0, 0xFFFF, 0x409A))
    tasks.fill(cs=0x60)
    tasks.run(f"jmp {NEW_SELECTOR}:0", most=3)
    assert (bench.vector, bench.frame(1), bench["tr_sel"]) == (GP, TASK, NEW_SELECTOR)


# --- VMX non-root operation ------------------------------------------------------------------

TASK_SWITCH_EXIT, BY_CALL, BY_IRET, BY_JMP, BY_GATE = 9, 0, 1 << 30, 2 << 30, 3 << 30


@pytest.mark.parametrize(
    ("source", "by", "length", "vectoring"),
    [
        (f"call {NEW_SELECTOR}:0", BY_CALL, 7, 0), (f"jmp {NEW_SELECTOR}:0", BY_JMP, 7, 0),
        (f"call {GATE}:0", BY_CALL, 7, 0), ("int 0x30", BY_GATE, 2, 1), ("ud2", BY_GATE, 0, 1),
    ],
)  # fmt: skip
def test_a_guests_task_switch_is_a_vm_exit(tasks, source, by, length, vectoring):
    bench = tasks.bench
    bench["vmx"] = 2
    tasks.gate_to(NEW_SELECTOR)
    for vector in (6, 0x30):
        tasks.gate_to(NEW_SELECTOR, at=vector)
    assert bench.exits(source)
    assert registers(bench, "exit_reason", "exit_qualification", "exit_length", "event_valid") == (
        TASK_SWITCH_EXIT, NEW_SELECTOR | by, length, vectoring,
    )  # fmt: skip
    assert registers(bench, "tr_sel", "rip") == (TSS_SELECTOR, CODE)
    assert (tasks.kind(TSS_SELECTOR), tasks.kind(NEW_SELECTOR)) == (BUSY, AVAILABLE)


def test_a_guests_return_to_its_link_is_a_vm_exit(tasks):
    bench = tasks.bench
    bench["vmx"] = 2
    bench.write(TSS, NEW_SELECTOR, 2)
    bench.write(GDT + NEW_SELECTOR, descriptor(NEW_TSS, 0x67, BUSY))
    bench.state.rflags = 2 | NT
    assert bench.exits("iretd")
    assert registers(bench, "exit_qualification", "exit_length") == (NEW_SELECTOR | BY_IRET, 1)


def test_a_guests_bad_tss_faults_instead_of_exiting(tasks):
    bench = tasks.bench
    bench["vmx"] = 2
    bench.write(GDT + NEW_SELECTOR, descriptor(NEW_TSS, 0x66, AVAILABLE))
    assert not bench.exits(f"jmp {NEW_SELECTOR}:0")
    assert (bench.vector, bench.frame(0)) == (TS, NEW_SELECTOR)
