"""INIT and start-up IPIs wait for their CPU until it takes them."""

from vtx.machine.signals import Signals


def test_nothing_waits_at_first() -> None:
    signals = Signals()

    assert not signals.waiting
    assert signals.take_startup() is None


def test_of_several_startup_ipis_the_first_starts_the_cpu() -> None:
    signals = Signals()
    signals.raise_init()
    signals.raise_startup(8)
    signals.raise_startup(9)
    signals.take_init()

    assert signals.waiting
    assert signals.take_startup() == 8
    assert not signals.waiting


def test_init_makes_an_earlier_startup_ipi_void() -> None:
    signals = Signals()
    signals.raise_startup(8)
    signals.raise_init()
    signals.take_init()

    assert not signals.waiting
    assert signals.take_startup() is None


def test_a_startup_ipi_can_be_dropped_while_init_waits() -> None:
    signals = Signals()
    signals.raise_init()
    signals.raise_startup(8)

    assert signals.take_startup() == 8
    assert signals.waiting and signals.init


def test_taking_init_tells_the_local_apic_and_the_observer() -> None:
    signals, seen = Signals(), []
    signals.on_init = lambda: seen.append("apic")
    signals.on_taken = lambda kind, vector: seen.append((kind, vector))
    signals.raise_init()
    assert seen == []
    signals.take_init()

    assert seen == ["apic", ("init", 0)]
