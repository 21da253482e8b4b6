"""CPU state behind INIT and a start-up IPI (SDM 3A, Processor State After Reset)."""

from vtx.isa.layout import GPR_NAMES
from vtx.machine.computer import Computer
from vtx.machine.cpu import Cpu
from vtx.machine.cpu_model import cpu_model
from vtx.machine.reset import init_cpu, start_cpu
from vtx.spec import profile
from vtx.spec.registers import CR0


def disturbed() -> Cpu:
    """A CPU on which software has run, in 64-bit mode."""
    cpu = Computer(cpu=cpu_model("haswell"), ram_size=1 << 20).cpu
    for name in (*GPR_NAMES, "rip", "cr2", "cr3", "cr4", "dr0", "dr3", "dr6", "dr7", "efer"):
        cpu.state.write(name, 0x1234_5678)
    cpu.state.write("cr0", CR0.PG | CR0.PE | CR0.NE | CR0.CD | CR0.WP)
    for name in ("lstar", "pat", "tsc_aux", "tsc_adjust", "kernel_gs_base", "sysenter_eip",
                 "mtrr_def_type", "retired", "idle", "apic_base"):  # fmt: skip
        cpu.state.write(name, 0x77)
    cpu.state.rflags = 0x246
    for name in ("interruptibility", "pending_debug"):
        cpu.state.write(name, 8)
    for name in ("cs", "ss", "ldtr", "tr"):
        cpu.state.write_segment(name, 0x33, 0x1000, 0x2000, 0xA09B)
    for name in ("gdtr", "idtr"):
        cpu.state.write(f"{name}_base", 0x5000)
        cpu.state.write(f"{name}_limit", 0x7F)
    return cpu


def segment(cpu: Cpu, name: str) -> tuple[int, ...]:
    return tuple(cpu.state.read(f"{name}_{part}") for part in ("sel", "base", "limit", "ar"))


def test_init_leaves_the_registers_of_the_manuals_table() -> None:
    cpu = disturbed()
    init_cpu(cpu)

    assert cpu.state.rflags == 2
    assert cpu.state.read("rip") == 0xFFF0
    assert segment(cpu, "cs") == (0xF000, 0xFFFF_0000, 0xFFFF, 0x93)
    for name in ("es", "ss", "ds", "fs", "gs"):
        assert segment(cpu, name) == (0, 0, 0xFFFF, 0x93)
    assert segment(cpu, "ldtr") == (0, 0, 0xFFFF, 0x82)
    assert segment(cpu, "tr") == (0, 0, 0xFFFF, 0x8B)
    for name in ("gdtr", "idtr"):
        assert (cpu.state.read(f"{name}_base"), cpu.state.read(f"{name}_limit")) == (0, 0xFFFF)
    assert cpu.state.read("rdx") == profile("haswell").signature
    assert all(cpu.state.read(name) == 0 for name in GPR_NAMES if name != "rdx")
    assert all(cpu.state.read(name) == 0 for name in ("cr2", "cr3", "cr4", "efer", "dr0", "dr3"))
    assert (cpu.state.read("dr6"), cpu.state.read("dr7")) == (0xFFFF_0FF0, 0x400)
    assert (cpu.state.read("interruptibility"), cpu.state.read("pending_debug")) == (0, 0)


def test_init_keeps_the_cache_bits_of_cr0_and_sets_et() -> None:
    cpu = disturbed()
    init_cpu(cpu)

    assert cpu.state.read("cr0") == CR0.CD | CR0.ET


def test_init_keeps_msrs_and_time() -> None:
    cpu = disturbed()
    init_cpu(cpu)

    for name in ("lstar", "pat", "tsc_aux", "tsc_adjust", "kernel_gs_base", "sysenter_eip",
                 "mtrr_def_type", "retired", "idle", "apic_base"):  # fmt: skip
        assert cpu.state.read(name) == 0x77, name


def test_a_startup_ipi_starts_real_mode_code_at_its_page() -> None:
    cpu = disturbed()
    init_cpu(cpu)
    assert cpu.state.read("activity") == 3
    start_cpu(cpu, 0x9A)

    assert segment(cpu, "cs") == (0x9A00, 0x9A000, 0xFFFF, 0x93)
    assert (cpu.state.read("rip"), cpu.state.read("activity")) == (0, 0)


def test_only_the_first_cpu_of_a_machine_is_awake_and_the_bootstrap_processor() -> None:
    computer = Computer(cpu=cpu_model("haswell"), ram_size=1 << 20, cpu_count=3)

    assert [cpu.state.read("activity") for cpu in computer.cpus] == [0, 3, 3]
    assert [cpu.state.read("apic_base") & 1 << 8 for cpu in computer.cpus] == [1 << 8, 0, 0]
