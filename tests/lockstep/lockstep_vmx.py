"""The same programs in VMX non-root operation, under a VMM of a few lines.

The VMM only does what keeps a guest going: it skips what it intercepts, injects again what it
took away, and opens EPT pages on demand. Which controls are set depends on the program's seed.
RAM holds the VMCS too, so comparing it compares every field at every exit.
"""

from dataclasses import replace
from random import Random

import lockstep_places as at
from lockstep_machine import Image, image_of
from lockstep_program import Program, place
from lockstep_run import (
    MODEL,
    Divergence,
    Side,
    disassembly,
    memory_differences,
    same_words,
    word_differences,
)

from vtx.engine.run import Ended, Runner
from vtx.isa.layout import SEGMENT_NAMES
from vtx.spec import EXITS, control
from vtx.spec.registers import CR0, CR4
from vtx.vmm.controls import ControlPlan
from vtx.vmm.port import Port

VMXON, VMCS, HOST_TABLES, MSR_BITMAP, EPT = 0x80000, 0x81000, 0x82000, 0x86000, 0x88000
_PIN = ("EXTERNAL_INTERRUPT_EXITING", "NMI_EXITING")
_TIMER = control("pin.PREEMPTION_TIMER")
_PROC = ("HLT_EXITING", "INVLPG_EXITING", "RDTSC_EXITING", "CR3_LOAD_EXITING",
         "CR3_STORE_EXITING", "MOV_DR_EXITING", "UNCONDITIONAL_IO_EXITING", "PAUSE_EXITING",
         "INTERRUPT_WINDOW_EXITING", "MONITOR_TRAP_FLAG")  # fmt: skip
_SEC = ("DESCRIPTOR_TABLE_EXITING", "WBINVD_EXITING")
_VECTORS = (0, 1, 3, 4, 5, 6, 7, 10, 11, 12, 13, 14, 17)
_CR0_FIXED, _CR4_FIXED = CR0.NE, CR4.VMXE
_VALID = 1 << 31
_NMI_TYPE, _EXTERNAL = 2, 0
_MOST_EXITS = 80


class VmxSide(Side):
    """One engine whose programs are guests."""

    def load_guest(self, image: Image, program: Program) -> None:
        """Stand before the first VM entry of a program."""
        self.load(image, program)
        random = Random(f"vmx {program.seed}")
        self.random = random
        self.ept = random.random() < 0.6
        self.timer = random.choice((5, 40, 90))
        state = self.cpu.state
        guest = {name: state.read(name) for name in image.words}
        state.write("cr0", 0x8001_0031)
        self.port = Port(self.computer, self.engine)
        self._host_tables()
        self.port.start(VMXON, HOST_TABLES)
        self.port.load_vmcs(VMCS)
        self._write_controls(program)
        self._write_guest(guest, image)
        self.runner = Runner(self.engine, self.source, python_root=True)
        self.launched, self.exits = False, 0

    def _host_tables(self) -> None:
        store = self.cpu.bus.store
        store(HOST_TABLES, 64, HOST_TABLES + 0x1003)
        store(HOST_TABLES + 0x1000, 64, HOST_TABLES + 0x2003)
        store(HOST_TABLES + 0x2000, 64, 0x83)
        for level in range(3):
            store(EPT + 0x1000 * level, 64, EPT + 0x1000 * (level + 1) | 7)
        for page in range(0x40):
            lacks = self.random.choice((1, 2, 4, 7)) if self.random.random() < 0.1 else 0
            rights = 7 & ~lacks if lacks != 1 else 4
            store(EPT + 0x3000 + 8 * page, 64, page << 12 | 6 << 3 | rights)

    def _write_controls(self, program: Program) -> None:
        random = self.random

        def some(word: str, names: tuple[str, ...], chance: float):  # type: ignore[no-untyped-def]
            return tuple(control(f"{word}.{n}") for n in names if random.random() < chance)

        pin = some("pin", _PIN, 0.4) + ((_TIMER,) if random.random() < 0.2 else ())
        proc, sec = some("proc", _PROC, 0.15), some("sec", _SEC, 0.2)
        if self.ept:
            sec += (control("sec.ENABLE_EPT"),)
            sec += (control("sec.ENABLE_VPID"),) if random.random() < 0.5 else ()
        if sec:
            proc += (control("proc.ACTIVATE_SECONDARY_CONTROLS"),)
        ControlPlan(pin, proc, sec).write(self.port, MODEL.silicon)
        write = self.port.vmwrite
        if random.random() < 0.5:
            acknowledge = control("exit.ACK_INTERRUPT_ON_EXIT").mask
            write("VMEXIT_CONTROLS", self.port.vmread("VMEXIT_CONTROLS") | acknowledge)
        bitmap = sum(1 << v for v in _VECTORS if random.random() < 0.15)
        write("EXCEPTION_BITMAP", bitmap)
        if random.random() < 0.3:
            write("PF_ERROR_CODE_MASK", random.randrange(8))
            write("PF_ERROR_CODE_MATCH", random.randrange(8))
        write("VMCS_LINK_POINTER", (1 << 64) - 1)
        write("TSC_OFFSET", random.choice((0, 0x1234_5678)))
        write("CR0_GUEST_HOST_MASK", random.choice((0, CR0.WP, _CR0_FIXED)))
        write("CR4_GUEST_HOST_MASK", random.choice((0, CR4.PGE, _CR4_FIXED)))
        if self.ept:
            write("EPT_POINTER", EPT | 3 << 3 | 6)
            write("VPID", 1)
        self._set_timer()

    def _set_timer(self) -> None:
        if self.port.vmread("PINBASED_CONTROLS") & _TIMER.mask:
            self.port.vmwrite("PREEMPTION_TIMER_VALUE", self.timer)

    def _write_guest(self, guest: dict[str, int], image: Image) -> None:
        write, long = self.port.vmwrite, bool(guest["efer"] & 0x100)
        for name in SEGMENT_NAMES:
            sel, base, limit, rights = image.segments[name]
            upper = name.upper()
            write(f"GUEST_{upper}_SELECTOR", sel)
            write(f"GUEST_{upper}_BASE", base)
            write(f"GUEST_{upper}_LIMIT", limit)
            write(f"GUEST_{upper}_ACCESS_RIGHTS", rights)
        write("GUEST_CR0", guest["cr0"] | _CR0_FIXED)
        write("GUEST_CR4", guest["cr4"] | _CR4_FIXED)
        write("GUEST_CR3", guest["cr3"])
        efer = guest["efer"] | 0x400 * long
        write("GUEST_IA32_EFER", efer)
        write("GUEST_IA32_PAT", self.cpu.state.read("pat"))
        if long:
            mask = control("entry.IA32E_MODE_GUEST").mask
            write("VMENTRY_CONTROLS", self.port.vmread("VMENTRY_CONTROLS") | mask)
        for n in range(4):
            write(f"GUEST_PDPTE{n}", guest.get(f"pdpte{n}", 0))
        write("GUEST_DR7", guest.get("dr7", 0x400))
        write("GUEST_RFLAGS", image.rflags)
        write("GUEST_RIP", guest["rip"])
        write("GUEST_RSP", guest["rsp"])
        for name in ("gdtr", "idtr"):
            write(f"GUEST_{name.upper()}_BASE", guest[f"{name}_base"])
            write(f"GUEST_{name.upper()}_LIMIT", guest[f"{name}_limit"])

    # --- running -------------------------------------------------------------------------------
    def run(self, limit: int) -> str:
        """One slice: to the limit, to a VM exit (its number), or to the end ("over ...")."""
        try:
            if self.cpu.state.read("vmx") != 2 and not self._enter():
                return f"over: entry refused, {self.port.instruction_error()}"
            if self.cpu.state.read("vmx") != 2:  # VM entry failed on the guest's state
                return "over: entry failed"
            ended = self.runner.run(limit)
        except Exception as error:  # an engine's bug is a finding like any other
            return f"{type(error).__name__}: {error}"
        if ended is not Ended.VM_EXIT:
            return ended.value
        return f"exit {self.port.vmread('EXIT_REASON'):#x}"

    def _enter(self) -> bool:
        result = self.engine.call("vmx_enter", int(not self.launched))
        if result is None:
            self.engine.settle(self.cpu.status)
        else:
            self.engine.settle(0)
            if result[0]:
                return False
        self.launched = True
        return True

    # --- the VMM -------------------------------------------------------------------------------
    def answer(self) -> bool:
        """Deal with a VM exit; False when the guest is at its end."""
        read, write = self.port.vmread, self.port.vmwrite
        self.exits += 1
        reason = read("EXIT_REASON")
        if reason >> 31 or self.exits > _MOST_EXITS:
            return False
        write("VMENTRY_INTERRUPTION_INFO", 0)
        if read("IDT_VECTORING_INFO") & _VALID:
            self._inject(read("IDT_VECTORING_INFO"), read("IDT_VECTORING_ERROR_CODE"))
        match reason:
            case EXITS.EXCEPTION_OR_NMI:
                self._exception()
            case EXITS.EXTERNAL_INTERRUPT:
                self._external()
            case EXITS.TRIPLE_FAULT | EXITS.TASK_SWITCH:
                return False
            case EXITS.HLT if not read("GUEST_RFLAGS") & 0x200:
                return False
            case EXITS.EPT_VIOLATION | EXITS.EPT_MISCONFIGURATION:
                gpa = read("GUEST_PHYSICAL_ADDRESS")
                if gpa >= 0x40000:
                    return False
                self.port.store(EPT + 0x3000 + 8 * (gpa >> 12), gpa & ~0xFFF | 6 << 3 | 7)
                self.port.invept(read("EPT_POINTER"))
            case EXITS.PREEMPTION_TIMER:
                self._set_timer()
            case EXITS.MONITOR_TRAP_FLAG:
                if self.exits % 9 == 0:
                    self._clear("proc.MONITOR_TRAP_FLAG")
            case EXITS.INTERRUPT_WINDOW:
                self._clear("proc.INTERRUPT_WINDOW_EXITING")
            case _:
                if not read("EXIT_INSTRUCTION_LENGTH"):
                    return False
                self._skip()
        return True

    def _clear(self, name: str) -> None:
        word = self.port.vmread("PROCBASED_CONTROLS")
        self.port.vmwrite("PROCBASED_CONTROLS", word & ~control(name).mask)

    def _skip(self) -> None:
        read, write = self.port.vmread, self.port.vmwrite
        write("GUEST_RIP", read("GUEST_RIP") + read("EXIT_INSTRUCTION_LENGTH"))
        blocking = read("GUEST_INTERRUPTIBILITY_STATE")
        write("GUEST_INTERRUPTIBILITY_STATE", blocking & ~3)
        write("GUEST_ACTIVITY_STATE", 0)

    def _inject(self, info: int, error: int) -> None:
        write, kind = self.port.vmwrite, info >> 8 & 7
        write("VMENTRY_INTERRUPTION_INFO", info & ~(1 << 12))
        write("VMENTRY_EXCEPTION_ERROR_CODE", error)
        if kind in (4, 5, 6):
            length = self.port.vmread("EXIT_INSTRUCTION_LENGTH")
            write("VMENTRY_INSTRUCTION_LENGTH", length)
        if kind == _NMI_TYPE:
            blocking = self.port.vmread("GUEST_INTERRUPTIBILITY_STATE")
            write("GUEST_INTERRUPTIBILITY_STATE", blocking & ~8)

    def _exception(self) -> None:
        read = self.port.vmread
        info = read("EXIT_INTERRUPTION_INFO")
        if info & 0xFF == 14 and info >> 8 & 7 == 3:
            self.port.set_register("cr2", read("EXIT_QUALIFICATION"))
        if info & 0xFF == 1 and info >> 8 & 7 == 3:
            dr6 = self.port.register("dr6") | read("EXIT_QUALIFICATION") & 0x600F
            self.port.set_register("dr6", dr6)
        self._inject(info, read("EXIT_INTERRUPTION_ERROR_CODE"))

    def _external(self) -> None:
        read = self.port.vmread
        info = read("EXIT_INTERRUPTION_INFO")
        if not info & _VALID:
            info = _VALID | self.source.acknowledge_interrupt()
        free = read("GUEST_RFLAGS") & 0x200 and not read("GUEST_INTERRUPTIBILITY_STATE") & 3
        if free and not read("VMENTRY_INTERRUPTION_INFO") & _VALID:
            self._inject(info, 0)


def _paged(program: Program) -> Program:
    pagings = program.where.pagings
    chosen = program.settings.get("paging", 0) % len(pagings)
    if pagings[chosen] != "none":
        return program
    return replace(program, settings={**program.settings, "paging": chosen + 1})


def differ_as_guests(program: Program, a: VmxSide, b: VmxSide) -> Divergence | None:
    """Run a program as the guest of both; the first difference. Guests always have paging."""
    program = _paged(program)
    image = image_of(program, place(program))
    for side in (a, b):
        side.load_guest(image, program)
    number, now = 0, 0
    while now < program.most:
        limit = min(now + program.budgets[number % len(program.budgets)], program.most)
        before = a.cpu.state.read("rip"), now
        ended = a.run(limit), b.run(limit)
        left, right = a.cpu.state.buffer, b.cpu.state.buffer
        fine = ended[0] == ended[1] and "Error" not in ended[0]
        if not fine or not same_words(left, right) or not a.same_memory(b):
            return Divergence(
                program, number, limit, before, (a.name, b.name), ended,
                tuple(word_differences(left, right)),
                tuple(memory_differences(a.cpu.memory[:], b.cpu.memory[:])),
                tuple(disassembly(program)),
            )  # fmt: skip
        if ended[0].startswith("exit"):
            if not (a.answer() and b.answer()):
                return None
        elif ended[0] != "limit":
            return None
        number, now = number + 1, a.cpu.now()
    return None


assert at.SKIPS + at.CODE_SIZE <= VMXON
