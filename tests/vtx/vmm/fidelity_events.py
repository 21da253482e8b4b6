"""Steps about events: interrupts from timers, INT n, IRET, single-stepping, bad stacks, rings."""

from fidelity_strategies import FLAGS, SELECTORS, Steps, lines
from hypothesis import strategies as st

_TARGET = {True: "lea rax, [rip + 1f]; push rax", False: "push offset 1f"}


def events(long: bool) -> Steps:
    """INT n, IRET to anywhere, blocking by STI and MOV SS, single-stepping."""
    target = _TARGET[long]
    return lines(
        f"""
        push {{ss:#x}}; push {{sp:#x}}; push {{f:#x}}; push {{cs:#x}}; {target}; iret{{q}}; 1: nop
        push {{ss:#x}}; push {{sp:#x}}; push {{f:#x}}; push {{cs:#x}}; {target}; iretd; 1: nop
        push {{f:#x}}; push KERNEL_CS; {target}; iretd; 1: nop
        push {{f:#x}}; popf; nop; nop
        push {{f:#x}}; popf; {{do}}; nop
        int {{known}}
        int {{vector}}
        sti; {{do}}
        cli; sti; {{do}}; cli
        mov eax, {{stack:#x}}; mov ss, eax; {{do}}; nop
        push 0x302; popf; mov eax, 0x10; mov ss, eax; {{do}}; nop
        push 0x302; popf; mov eax, 0x10; sti; mov ss, eax; {{do}}; nop
        pushf
        cli
        """,
        long,
        ss=SELECTORS,
        sp=st.sampled_from((0x107000, 0x10B000, 0x403000)),
        f=FLAGS,
        cs=SELECTORS,
        known=st.sampled_from((0, 1, 3, 4, 8, 13, 14, 0x41, 0x80)),
        vector=st.integers(0, 255),
        stack=st.sampled_from((0x10, 0x10, 0x23, 0)),
        do=st.sampled_from((
            "nop", "int3", "int1", "ud2", "int 0x80", "hlt", "sti", "cli", "pushf", "popf", "cpuid",
            "in al, 0x60", "mov eax, [TEST + 0x7080]", "mov eax, [ABSENT]", "mov eax, [TEST]",
            "rdtsc", "rep stosb", "pause",
        )),
    )  # fmt: skip


def timers(long: bool) -> Steps:
    """Interrupts that land somewhere in what follows: LAPIC timer, IPIs to itself, PIT."""
    lapic = "mov {r}di, LAPIC; mov dword ptr [{r}di + 0xf0], 0x1ff; "
    timer = lapic + (
        "mov dword ptr [{r}di + 0x3e0], 0xb; mov dword ptr [{r}di + 0x320], {lvt:#x}; "
        "mov dword ptr [{r}di + 0x380], {count}; "
    )
    ipi = lapic + "mov dword ptr [{r}di + 0x300], {command:#x}; "
    pic = "".join(
        f"mov al, {value}; out {port}, al; "
        for value, port in ((0x11, 0x20), (0x20, 0x21), (4, 0x21), (1, 0x21), (0, 0x21))
    )
    pit = pic + "mov al, {mode:#x}; out 0x43, al; mov al, {count}; out 0x40, al; "
    return lines(
        f"""
        {timer}sti
        {timer}sti
        {timer}sti; hlt
        {timer}{{flag}}
        {ipi}{{flag}}
        {pit}xor eax, eax; out 0x40, al; {{flag}}
        sti
        sti; hlt
        hlt
        """,
        long,
        lvt=st.sampled_from((0x41, 0x41, 0x41, 0x20041, 0x40041)),
        count=st.one_of(st.integers(1, 40), st.integers(1, 120)),
        command=st.sampled_from((0x44041, 0x40041, 0x4041, 0x44441, 0x40400, 0x440FF)),
        mode=st.sampled_from((0x30, 0x34, 0x36)),
        flag=st.sampled_from(("sti", "cli", "nop", "sti; hlt")),
    )


def stacks(long: bool) -> Steps:
    """Events and pushes on stacks that are missing, read-only, devices, not canonical."""
    pages = [
        0x400010, 0x401010, 0x402010, 0x403010, 0x403FFC, 0x404008, 0x407090, 0x40A010, 0x401000,
        0x402000, 0x10B104, 0x1000010, 0xFEE00090, 0,
    ]  # fmt: skip
    wild = [0x800000000010, 0xFFFF800000000000, 0x7FFFFFFFFFF8] if long else []
    return lines(
        """
        mov {r}sp, {p:#x}; {do}
        mov {r}sp, {p:#x}; {do}
        mov {r}sp, {p:#x}; {access}
        mov dword ptr [TSS + 4], {low:#x}
        mov dword ptr [TSS + 36], {low:#x}
        """,
        long,
        p=st.sampled_from(pages + wild),
        low=st.sampled_from(pages),
        do=st.sampled_from((
            "ud2", "int3", "int 0x80", "int 0x41", "sti; hlt", "mov eax, [ABSENT]", "mov ss, eax",
            "nop", "int1",
        )),
        access=lines(
            """
            push {r}ax
            pop {r}ax
            pushf
            popf
            ret
            call 1f; 1: nop
            iret{q}
            enter 8, 1
            leave
            """,
            long,
        ),
    )  # fmt: skip


def rings(long: bool) -> Steps:
    """Into ring 3, and back."""
    user_cs, target = "USER_CS64" if long else "USER_CS32", _TARGET[long]
    frame = f"push USER_DS; push USER_STACK; push {{f:#x}}; push {user_cs}; {target}; iret{{q}}"
    return lines(
        f"{frame}; 1: nop\n{frame}; 1: nop\nint TO_KERNEL",
        long,
        f=st.sampled_from((0x202, 2, 0x202, 0x3202, 0x302, 0x40202, 0x10202)),
    )
