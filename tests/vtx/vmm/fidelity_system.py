"""Steps that use ports, MSRs, control and debug registers, descriptor tables, and the rest of
the instructions that a VMM may want to know of."""

from fidelity_memory import PORTS, accesses, pointers
from fidelity_strategies import NUMBERS, SELECTORS, Steps, lines
from hypothesis import strategies as st

MSRS = (
    0x10, 0x17, 0x1B, 0x3A, 0x3B, 0x79, 0x8B, 0xCE, 0xFE, 0x174, 0x175, 0x176, 0x179, 0x17A,
    0x1A0, 0x1D9, 0x200, 0x201, 0x20F, 0x250, 0x258, 0x26F, 0x277, 0x2FF, 0x480, 0x48C, 0x6E0,
    0xC0000080, 0xC0000081, 0xC0000082, 0xC0000083, 0xC0000084, 0xC0000100, 0xC0000101,
    0xC0000102, 0xC0000103, 0x12345678,
)  # fmt: skip
X2APIC = (
    0x802, 0x803, 0x808, 0x80A, 0x80B, 0x80D, 0x80F, 0x810, 0x820, 0x828, 0x830, 0x832, 0x835,
    0x838, 0x839, 0x83E, 0x83F, 0x840,
)  # fmt: skip
LEAVES = (
    *range(0x10), 0x14, 0x15, 0x16, 0x40000000, *range(0x80000000, 0x80000009), 0xFFFFFFFF,
)  # fmt: skip


def ports(long: bool) -> Steps:
    """IN and OUT."""
    return lines(
        """
        mov edx, {p:#x}; in {a}, dx
        mov edx, {p:#x}; mov eax, {n:#x}; out dx, {a}
        in {a}, {i:#x}
        mov eax, {n:#x}; out {i:#x}, al
        mov al, {cmos:#x}; out 0x70, al; in al, 0x71
        mov al, {cmos:#x}; out 0x70, al; mov al, {n:#x} & 0x7f; out 0x71, al
        mov edx, 0x510; mov eax, {item:#x}; out dx, ax; inc edx; in al, dx; in al, dx
        """,
        long,
        p=st.sampled_from(PORTS),
        i=st.sampled_from([p for p in PORTS if p < 0x100]),
        a=st.sampled_from(("al", "ax", "eax")),
        n=NUMBERS,
        cmos=st.integers(0, 127),
        item=st.sampled_from((0, 1, 3, 5, 0x19, 0x8000)),
    )


def model_specific(long: bool) -> Steps:
    """RDMSR and WRMSR: MSRs that exist or do not, values legal, reserved and not canonical."""
    return lines(
        """
        mov ecx, {m:#x}; rdmsr
        mov ecx, {m:#x}; mov eax, {n:#x}; mov edx, {high:#x}; wrmsr
        mov ecx, {m:#x}; mov eax, {n:#x}; mov edx, {high:#x}; wrmsr; rdmsr
        mov ecx, {m:#x}; rdmsr; btc {half}, {bit}; wrmsr; rdmsr
        mov ecx, {x:#x}; mov eax, {n:#x}; mov edx, {high:#x}; {do}
        mov ecx, 0x1b; mov eax, 0xfee00d00; xor edx, edx; wrmsr
        mov ecx, 0x1b; mov eax, {base:#x}; xor edx, edx; wrmsr
        mov ecx, 0x1b; mov eax, 0xfee00d00; xor edx, edx; wrmsr; mov ecx, {x:#x}; rdmsr
        mov ecx, 0x1b; mov eax, 0xfee00d00; mov dl, 0; wrmsr; mov ecx, {x:#x}; mov al, 0x41; wrmsr
        mov ecx, 0x6e0; rdtsc; add eax, {soon}; wrmsr; sti
        mov ecx, 0x10; mov eax, {n:#x}; xor edx, edx; wrmsr; rdtsc
        mov ecx, 0x3b; mov eax, {n:#x}; xor edx, edx; wrmsr; rdtsc
        mov ecx, 0xc0000101; rdmsr; mov eax, {p:#x}; wrmsr; mov eax, gs:[0]
        """,
        long,
        m=st.sampled_from(MSRS),
        x=st.sampled_from(X2APIC),
        n=NUMBERS,
        high=st.sampled_from((0, 0, 0, 1, 0x7F, 0x7FFF, 0x8000, 0xFFFF8000, 0xFFFFFFFF, 0x1B0008)),
        half=st.sampled_from(("eax", "edx")),
        bit=st.integers(0, 31),
        do=st.sampled_from(("rdmsr", "wrmsr", "wrmsr; rdmsr")),
        base=st.sampled_from((0xFEE00100, 0xFEE00900, 0xFEE00500, 0x100900, 0xFEC00900)),
        soon=st.integers(0, 60),
        p=pointers(False),
    )


def control_registers(long: bool) -> Steps:
    """Moves to and from control registers, one bit turned over, and the short forms."""
    block = """
        mov {r}ax, {cr}; btc {r}ax, {bit}; mov {cr}, {r}ax
        mov {r}ax, {cr}; btc {r}ax, {known}; mov {cr}, {r}ax; mov {r}bx, {cr}
        mov {r}ax, cr0; btc {r}ax, {bit0}; mov cr0, {r}ax; mov {r}bx, cr0
        mov {r}ax, cr3; btc {r}ax, {bit3}; mov cr3, {r}ax
        mov {r}ax, cr3; btc {r}ax, {bit}; mov cr3, {r}ax
        mov {r}ax, {n:#x}; mov cr2, {r}ax; mov {r}bx, cr2
        mov {reg}, cr{number}
        mov cr{number}, {reg}
        clts
        smsw ax
        smsw {r}ax
        mov {r}ax, cr3; mov cr3, {r}ax
        mov eax, {status:#x}; lmsw ax
        mov {r}ax, cr0; or {r}ax, 8; mov cr0, {r}ax; clts; mov {r}bx, cr0
        mov {r}ax, cr0; or {r}ax, 8; mov cr0, {r}ax; fninit
        mov {r}ax, cr0; xor {r}ax, 0x10000; mov cr0, {r}ax; {access}
        mov {r}ax, cr0; or {r}ax, 0x40000; mov cr0, {r}ax
    """
    if long:
        block += """
        mov eax, {tpr:#x}; mov cr8, rax; mov rbx, cr8
        mov rax, cr4; bts rax, 17; mov cr4, rax; mov rax, cr3; add rax, {pcid}; mov cr3, rax
        mov eax, {pcid}; mov rsi, rsp; push {d:#x}; push {d:#x}; invpcid rax, [rsp]; mov rsp, rsi
        """
    short = accesses(long).filter(lambda step: len(step) < 45 and ";" not in step)
    return lines(
        block,
        long,
        cr=st.sampled_from(("cr0", "cr4")),
        bit=st.integers(0, 63 if long else 31),
        known=st.sampled_from((1, 2, 3, 5, 7, 9, 13, 16, 18, 20, 21)),
        bit0=st.integers(0, 31),
        bit3=st.integers(0, 11),
        n=NUMBERS,
        reg=st.sampled_from([("r" if long else "e") + name for name in ("bx", "sp", "si")]),
        number=st.sampled_from((0, 2, 3, 4)),
        status=st.sampled_from((0, 1, 3, 8, 9, 0xF, 0xE, 0xFFFF)),
        access=short,
        tpr=st.sampled_from((0, 1, 4, 5, 15, 16, 0x100)),
        pcid=st.integers(0, 5),
        d=st.sampled_from((0, 1, 0x1000, 0x400000)),
    )


def debug_registers(long: bool) -> Steps:
    """Moves, and breakpoints on slots and on data."""
    return lines(
        """
        mov {r}ax, dr{any}
        mov {r}ax, {n:#x}; mov dr{any}, {r}ax
        mov {r}ax, {slot:#x}; mov dr{first}, {r}ax; mov eax, {code:#x}; mov dr7, {r}ax
        mov eax, {data:#x}; mov dr0, {r}ax; mov eax, {watch:#x}; mov dr7, {r}ax; {do}
        mov {r}ax, cr4; btc {r}ax, 3; mov cr4, {r}ax; mov {r}ax, dr4
        mov eax, 0x2400; mov dr7, {r}ax; mov {r}bx, dr0
        """,
        long,
        any=st.integers(0, 7),
        n=NUMBERS,
        slot=st.integers(0, 8).map(lambda n: 0x108F00 + 64 * n),
        first=st.integers(0, 3),
        code=st.sampled_from((0x401, 0x402, 0x4FF, 0x2401)),
        data=st.sampled_from((0x10B100, 0x400000, 0x407080)),
        watch=st.sampled_from((0xD0401, 0xF0401, 0x10401, 0xC0401, 0xE0401)),
        do=st.sampled_from((
            "mov eax, [DATA]", "mov [DATA], eax", "mov [TEST], eax", "in al, 0x60",
            "mov eax, [TEST + 0x7080]", "add dword ptr [DATA], 1",
        )),
    )  # fmt: skip


def tables(long: bool) -> Steps:
    """Descriptor-table registers, selectors, and gates spoilt before they are used."""
    size = 16 if long else 8
    return lines(
        f"""
        mov dword ptr [DATA + 2], {{b:#x}}; mov word ptr [DATA], {{limit:#x}}; {{load}} [DATA]
        mov dword ptr [DATA + 6], {{high:#x}}; mov dword ptr [DATA], 0x30000fff; {{load}} [DATA]
        mov eax, {{s:#x}}; {{one}} ax
        mov eax, {{s:#x}}; {{two}} ebx, eax
        mov eax, {{s:#x}}; mov {{seg}}, eax
        sgdt [DATA]
        sidt [DATA]
        sldt eax
        str eax
        mov byte ptr [IDT + {{v}} * {size} + 5], {{rights:#x}}; {{event}}
        mov byte ptr [IDT + {{v}} * {size} + 4], {{ist}}; {{event}}
        mov word ptr [IDT + {{v}} * {size} + 2], {{s:#x}}; {{event}}
        mov word ptr [IDT + {{v}} * {size}], {{offset:#x}}; {{event}}
        """,
        long,
        b=st.sampled_from((0x102000, 0x103000, 0x400000, 0x403000, 0x407000)),
        limit=st.sampled_from((0, 0x3F, 0x7F, 0x8F, 0x7FF, 0xFFF, 0xFFFF)),
        high=st.sampled_from((0x8000, 0xFFFF, 0x10)),
        load=st.sampled_from(("lgdt", "lidt")),
        s=SELECTORS,
        one=st.sampled_from(("lldt", "ltr", "verr", "verw")),
        two=st.sampled_from(("lar", "lsl")),
        seg=st.sampled_from(("ds", "es", "fs", "gs", "ss")),
        v=st.sampled_from((1, 3, 6, 13, 14, 0x41, 0x80)),
        rights=st.sampled_from((0, 0x0E, 0x85, 0x8C, 0x8F, 0xEF, 0xEE, 0x8E)),
        ist=st.integers(0, 7),
        offset=st.sampled_from((0x1000, 0x9000, 0x8F40)),
        event=st.sampled_from(
            ("ud2", "int3", "nop", "int 0x80", "int 0x41", "mov eax, [ABSENT]", "hlt", "int1")
        ),
    )


def others(long: bool) -> Steps:
    """CPUID, VMX (which is hidden: #UD), SYSCALL and kin, time, random numbers, caches."""
    block = """
        mov eax, {leaf:#x}; mov ecx, {sub}; cpuid
        rdtsc
        rdtscp
        rdpmc
        xor ecx, ecx; rdpmc
        wbinvd
        invd
        pause
        mov eax, {n:#x}; xor ecx, ecx; xor edx, edx; monitor
        xor eax, eax; xor ecx, ecx; mwait
        mov ecx, {sub}; xgetbv
        mov ecx, {sub}; mov eax, {mask}; xor edx, edx; xsetbv
        lfence
        rdrand {r}ax
        rdrand cx
        rdseed eax
        {vmx}
        stac
        clac
        fwait
        emms
        xor eax, eax; div eax
        ud2
    """
    if long:
        block += """
        swapgs
        mov eax, {n:#x}; mov gs, ax; swapgs; mov eax, gs:[{p:#x}]
        syscall
        lea rcx, [rip + 1f]; mov r11d, {flags:#x}; sysretq; 1: nop
        mov rcx, 0x800000000000; sysretq
        lea rdx, [rip + 1f]; mov rcx, rsp; sysenter; 1: nop
        lea rdx, [rip + 1f]; mov ecx, USER_STACK; sysexitq; 1: nop
        mov rax, cr4; bts rax, 16; mov cr4, rax; wrgsbase rbx; rdgsbase rax; swapgs
        push USER_CS64; lea rax, [rip + 1f]; push rax; retfq; 1: nop
        push KERNEL_CS; lea rax, [rip + 1f]; push rax; retfq; 1: nop
        """
    else:
        block += """
        into
        mov edx, offset 1f; mov ecx, esp; sysenter; 1: nop
        mov edx, offset 1f; mov ecx, USER_STACK; sysexit; 1: nop
        push {s:#x}; push offset 1f; retf; 1: nop
        push KERNEL_CS; push offset 1f; retf; 1: nop
        mov eax, 0x58; mov fs, eax; mov ebx, fs:[0xffe]
        mov eax, 0x58; mov fs, eax; mov fs:[8], ebx
        mov eax, 0x2b; mov es, eax; mov es:[DATA], ebx
        aam 0
        pusha; popa
        push fs; pop gs
        """
    vmx = ["vmcall", "vmlaunch", "vmresume", "vmxoff", "vmfunc", "getsec", "rsm", "vmptrld [DATA]",
           "vmclear [DATA]", "vmxon [DATA]", "vmptrst [DATA]"]  # fmt: skip
    vmx += ["vmread rax, rcx", "vmwrite rax, rcx"] if long else ["vmread eax, ecx"]
    return lines(
        block,
        long,
        leaf=st.sampled_from(LEAVES),
        sub=st.integers(0, 4),
        n=NUMBERS,
        mask=st.integers(0, 7),
        vmx=st.sampled_from(vmx),
        p=pointers(False).filter(lambda p: p < 1 << 31),
        flags=st.sampled_from((2, 0x202, 0x102, 0x3202)),
        s=SELECTORS,
    )
