"""The wired PC: interrupts from device to vector, time, stops, what firmware leaves."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vtx.machine.bus import PcFrames
from vtx.machine.devices import timebase
from vtx.machine.devices.timebase import ManualClock
from vtx.machine.memory import PhysicalMemory
from vtx.machine.platform import Platform, StopRequest
from vtx.spec.places import port_ranges

LAPIC, IOAPIC = 0xFEE00000, 0xFEC00000


class Machine:
    def __init__(self, **options):
        self.clock = ManualClock()
        self.serial, self.debug = bytearray(), bytearray()
        ram_size = options.pop("ram_size", 2 << 20)
        self.platform = Platform(
            self.clock,
            options.pop("memory", None) or PhysicalMemory(ram_size),
            ram_size=ram_size,
            serial=self.serial.extend,
            debug=self.debug.extend,
            **options,
        )
        self.bus = self.platform.bus

    def out(self, *writes):
        for port, value in writes:
            self.bus.port_out(port, 8, value)

    def program_pics(self, master_mask=0, slave_mask=0):
        for base, vector, wiring, mask in (
            (0x20, 0x20, 4, master_mask),
            (0xA0, 0x28, 2, slave_mask),
        ):
            self.out((base, 0x11), (base + 1, vector), (base + 1, wiring), (base + 1, 1))
            self.out((base + 1, mask))

    def redirect(self, pin, low):
        self.bus.store(IOAPIC, 32, 0x10 + 2 * pin)
        self.bus.store(IOAPIC + 0x10, 32, low)

    def start_pit(self, count=1193):
        self.out((0x43, 0x34), (0x40, count & 0xFF), (0x40, count >> 8))

    def step(self):
        """Skip to the next event, as an idle CPU does."""
        due = self.platform.next_event()
        assert due is not None
        self.clock.time = max(due, self.clock.time)
        self.platform.advance(self.clock.time)

    def take(self):
        return self.platform.acknowledge_interrupt() if self.platform.interrupt_pending() else None


@pytest.fixture
def pc():
    return Machine()


def test_a_fresh_machine_has_nothing_to_wait_for(pc):
    assert pc.platform.next_event() is None
    assert not pc.platform.interrupt_pending()
    assert pc.platform.stop_request is None


def test_the_timer_interrupts_through_the_pic_at_exact_times(pc):
    pc.program_pics(master_mask=0xFE)
    pc.start_pit()
    start = timebase.PIT.count_at(pc.clock.time) + 1
    times = []
    while len(times) < 20:
        pc.step()
        if pc.take() == 0x20:
            times.append(pc.clock.time)
            pc.out((0x20, 0x20))

    assert times == [timebase.PIT.time_of(start + 1193 * i) for i in range(1, 21)]


def test_the_timer_interrupts_through_ioapic_pin_2(pc):
    pc.redirect(2, 0x51)
    pc.start_pit()
    while not pc.platform.interrupt_pending():
        pc.step()
    assert pc.take() == 0x51
    pc.bus.store(LAPIC + 0xB0, 32, 0)
    assert pc.bus.load(LAPIC + 0x120, 32) == 0


def test_masked_sources_make_no_events_but_lose_nothing(pc):
    pc.program_pics(master_mask=0xFF)
    pc.start_pit()
    assert pc.platform.next_event() is None
    pc.clock.time = 10**9
    pc.out((0x21, 0xFE))
    assert pc.take() == 0x20


def test_serial_input_interrupts_on_irq_4_by_pic_and_by_ioapic(pc):
    pc.program_pics()
    pc.redirect(4, 0x44)
    pc.out((0x3F9, 1))
    pc.platform.uart.receive(b"k")
    assert pc.take() == 0x24  # ExtINT comes first
    assert pc.take() == 0x44
    assert pc.bus.port_in(0x3F8, 8) == ord("k")


def test_the_rtc_interrupts_on_irq_8_through_the_slave(pc):
    pc.program_pics(master_mask=0xFB)
    pc.out((0x70, 0x0B), (0x71, 0x12))
    pc.step()
    assert pc.clock.time == timebase.TSC_HZ
    assert pc.take() == 0x28


def test_masking_lint0_cuts_the_pic_off_and_disabling_the_apic_lets_it_through(pc):
    pc.program_pics()
    pc.out((0x3F9, 1))
    pc.bus.store(LAPIC + 0x350, 32, 0x10700)
    pc.platform.uart.receive(b"k")
    assert not pc.platform.interrupt_pending()
    assert pc.platform.write_msr(0x1B, 0xFEE00100)
    assert pc.take() == 0x24


def test_a_level_interrupt_through_the_ioapic_ends_with_the_apics_eoi(pc):
    pc.redirect(5, 0x8039)
    pc.platform.irqs[5].set(True)
    assert pc.take() == 0x39
    pc.bus.store(LAPIC + 0xB0, 32, 0)
    assert pc.take() == 0x39
    pc.platform.irqs[5].set(False)
    pc.bus.store(LAPIC + 0xB0, 32, 0)
    assert pc.take() is None


def test_the_lapic_timer_is_an_event_and_a_vector(pc):
    pc.bus.store(LAPIC + 0x3E0, 32, 0xB)
    pc.bus.store(LAPIC + 0x320, 32, 0x40)
    pc.bus.store(LAPIC + 0x380, 32, 1234)
    pc.step()
    assert pc.clock.time == 1234
    assert pc.take() == 0x40


def test_the_apic_page_follows_its_base_and_vanishes_in_x2apic_mode(pc):
    assert pc.bus.load(LAPIC + 0x30, 32) == 0x50014
    version = pc.bus.layout_version
    pc.bus.store(0x8030, 32, 0x1234)
    assert pc.platform.write_msr(0x1B, 0x8900)
    assert pc.bus.layout_version > version
    assert pc.bus.ram_offset(0x8000) == -1
    assert pc.bus.load(0x8030, 32) == 0x50014
    assert pc.bus.load(LAPIC + 0x30, 32) == 0xFFFFFFFF
    assert pc.platform.write_msr(0x1B, 0x8D00)
    assert pc.bus.load(0x8030, 32) == 0x1234
    assert pc.platform.read_msr(0x803) == 0x50014


def test_nmi_waits_until_it_is_taken(pc):
    pc.platform.nmi.set(True)
    assert pc.platform.nmi_pending()
    pc.platform.take_nmi()
    assert not pc.platform.nmi_pending()


@pytest.mark.parametrize(
    ("port", "width", "value", "stop"),
    [
        (0x604, 16, 0x2000, StopRequest("power_off", 0)),
        (0xF4, 8, 0x10, StopRequest("debug_exit", 0x10)),
        (0xF4, 32, 0x12345678, StopRequest("debug_exit", 0x12345678)),
        (0x64, 8, 0xFE, StopRequest("reset", 0)),
        (0x92, 8, 0x01, StopRequest("reset", 0)),
        (0xCF9, 8, 0x06, StopRequest("reset", 0)),
    ],
)
def test_a_stop_says_why_and_the_first_one_counts(pc, port, width, value, stop):
    pc.bus.port_out(port, width, value)
    pc.bus.port_out(0xF4, 8, 0x77)
    assert pc.platform.stop_request == stop


def test_consoles_are_apart(pc):
    for byte in b"com":
        pc.bus.port_out(0x3F8, 8, byte)
    pc.bus.port_out(0xE9, 8, ord("!"))
    assert (pc.serial, pc.debug) == (b"com", b"!")
    assert pc.bus.port_in(0xE9, 8) == 0xE9


def test_fw_cfg_tells_ram_and_cpus():
    pc = Machine(cpu_count=2)
    pc.bus.port_out(0x510, 16, 5)
    assert pc.bus.port_in(0x511, 8) == 2
    pc.bus.port_out(0x510, 16, 3)
    size = bytes(pc.bus.port_in(0x511, 8) for _ in range(8))
    assert int.from_bytes(size, "little") == 2 << 20


def test_absent_devices_read_ones(pc):
    pc.bus.port_out(0x80, 8, 0x55)
    pc.bus.port_out(0xCF8, 32, 0x80000000)
    assert pc.bus.port_in(0x80, 8) == 0xFF
    assert pc.bus.port_in(0xCF8, 32) == 0xFFFFFFFF
    assert pc.bus.port_in(0xCFC, 16) == 0xFFFF


class EveryOther:
    """A frame map that leaves a hole after each frame and runs backwards."""

    def __init__(self, ram_size):
        self.inner = PcFrames(ram_size)
        self.last = 2 * ram_size - 4096

    def frame_of(self, gpn):
        frame = self.inner.frame_of(gpn)
        return None if frame is None else self.last - 2 * frame


def test_a_platform_over_scattered_frames_looks_the_same_from_inside(pc):
    ram = 2 << 20
    scattered = Machine(memory=PhysicalMemory(2 * ram), ram_size=ram, frames=EveryOther(ram))

    assert scattered.bus.read_bytes(0, ram) == pc.bus.read_bytes(0, ram)
    assert scattered.bus.ram_offset(0x1000) == 2 * ram - 4096 - 0x2000


def test_second_cpus_get_ipis_through_their_own_apic():
    pc = Machine(cpu_count=2)
    seen = []
    pc.platform.lapics[1].on_startup = seen.append
    pc.bus.store(LAPIC + 0x310, 32, 1 << 24)
    pc.bus.store(LAPIC + 0x300, 32, 0x4609)
    pc.platform.lapic_window.current = pc.platform.lapics[1]
    assert seen == [9]
    assert pc.bus.load(LAPIC + 0x20, 32) == 1 << 24


def test_which_msrs_are_the_local_apics():
    handled = {index for index in range(0x1000) if Platform.handles_msr(index)}
    assert handled == {0x1B, 0x6E0, *range(0x800, 0x900)}


def test_every_port_place_of_the_spec_is_answered_by_a_device(pc):
    class Probe:
        def port_in(self, port, width_bits):
            return 0

        def port_out(self, port, width_bits, value):
            pass

    free = set()
    for place in port_ranges():
        for port in range(place.first, place.last + 1):
            try:
                pc.bus.attach_ports(port, 1, Probe())
                free.add(place.name)
            except ValueError:
                continue
    assert free == {"post"}  # writes there are a delay and go nowhere


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.integers(1, 400_000), st.just(0)),
        st.tuples(st.just("pit"), st.sampled_from((0x30, 0x34, 0x36)), st.integers(40, 5000)),
        st.tuples(st.just("pic"), st.sampled_from((0x00, 0x01, 0x04, 0xFF)), st.just(0)),
        st.tuples(st.just("rtc"), st.sampled_from((0x23, 0x26)), st.sampled_from((0x02, 0x42))),
        st.tuples(
            st.just("lapic"), st.sampled_from((0x40, 0x10040, 0x20040)), st.integers(1, 9999)
        ),
        st.tuples(st.just("take"), st.just(0), st.just(0)),
    ),
    min_size=1,
    max_size=25,
)


def perform(pc, kind, first, second):
    """One thing a guest does; returns what it sees."""
    match kind:
        case "pit":
            pc.out((0x43, first), (0x40, second & 0xFF), (0x40, second >> 8))
        case "pic":
            pc.out((0x21, first), (0xA1, 0x00))
        case "rtc":
            pc.out((0x70, 0x0A), (0x71, first), (0x70, 0x0B), (0x71, second))
        case "lapic":
            pc.bus.store(LAPIC + 0x320, 32, first)
            pc.bus.store(LAPIC + 0x380, 32, second)
        case "take":
            vector = pc.take()
            pc.out((0x20, 0x20), (0xA0, 0x20), (0x70, 0x0C))
            pc.bus.store(LAPIC + 0xB0, 32, 0)
            return vector, pc.bus.port_in(0x71, 8)
    return None


@settings(max_examples=150, deadline=None, derandomize=True)
@given(OPERATIONS, st.integers(50, 3000))
def test_what_a_guest_sees_does_not_depend_on_how_often_devices_are_advanced(operations, stride):
    often, seldom = Machine(), Machine()
    for pc in (often, seldom):
        pc.program_pics()
    for kind, first, second in operations:
        if kind == "wait":
            target = often.clock.time + first
            for now in range(often.clock.time, target, max(stride, first // 200)):
                often.clock.time = now
                often.platform.advance(now)
            for pc in (often, seldom):
                pc.clock.time = target
                pc.platform.advance(target)
        seen = [perform(pc, kind, first, second) for pc in (often, seldom)]
        assert seen[0] == seen[1]
        assert often.platform.interrupt_pending() == seldom.platform.interrupt_pending()
        assert often.platform.next_event() == seldom.platform.next_event()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(OPERATIONS)
def test_nothing_interrupts_before_the_announced_event(operations):
    pc = Machine()
    pc.program_pics()
    for kind, first, second in operations:
        if kind != "wait":
            perform(pc, kind, first, second)
            continue
        due = pc.platform.next_event()
        pending = pc.platform.interrupt_pending()
        limit = pc.clock.time + first if due is None else min(due - 1, pc.clock.time + first)
        pc.clock.time = max(limit, pc.clock.time)
        pc.platform.advance(pc.clock.time)
        assert pc.platform.interrupt_pending() == pending
