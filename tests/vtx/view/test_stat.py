"""Counting exits."""

from __future__ import annotations

import io
from statistics import mean, stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vtx.trace import Event, Exit, Interrupt, Probe
from vtx.view.stat import NAMES, SORTS, exit_statistics, show_statistics


def exit_at(retired: int, reason: str = "CPUID", *, vcpu: int = 0, **more: object) -> Exit:
    given = {"seq": 0, "number": 10, "qualification": 0, "rip": 0x1000}
    fields = {**given, "retired": retired, "reason": reason, "vcpu": vcpu, **more}
    return Exit(**fields)  # type: ignore[arg-type]


EVENTS: list[Event] = [
    exit_at(10, "CPUID", rip=0x1000, symbol="main+0x2"),
    exit_at(13, "HLT", rip=0x2000, symbol="idle"),
    Interrupt(retired=20, vector=32),
    exit_at(33, "CPUID", rip=0x1000, symbol="main+0x8"),
    exit_at(34, "CPUID", rip=0x1008, symbol=""),
]


def table(events: list[Event], **options: str) -> list[str]:
    out = io.StringIO()
    show_statistics(exit_statistics(events, **options), out)
    return out.getvalue().splitlines()


def test_an_exit_costs_the_instructions_retired_since_the_exit_before() -> None:
    found = exit_statistics(EVENTS)
    rows = {row.name: row for row in found.rows}

    assert (rows["CPUID"].samples, rows["CPUID"].retired) == (3, 10 + 20 + 1)
    assert (rows["CPUID"].min, rows["CPUID"].max) == (1, 20)
    assert (rows["HLT"].min, rows["HLT"].max, rows["HLT"].avg) == (3, 3, 3.0)
    assert (found.total.samples, found.total.retired) == (4, 34)


def test_each_vcpu_has_its_own_exit_before() -> None:
    found = exit_statistics([exit_at(10), exit_at(4, vcpu=1), exit_at(12), exit_at(5, vcpu=1)])

    assert (found.total.retired, found.rows[0].min, found.rows[0].max) == (17, 1, 10)


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=30))
def test_average_and_error_are_those_of_statistics(costs: list[int]) -> None:
    place, events = 0, []
    for cost in costs:
        place += cost
        events.append(exit_at(place))
    row = exit_statistics(events).rows[0]

    assert row.avg == pytest.approx(mean(costs))
    error = stdev(costs) / len(costs) ** 0.5 / mean(costs) * 100 if sum(costs) else 0
    assert row.error == pytest.approx(error, abs=1e-6)


def test_rows_can_be_by_reason_rip_or_symbol() -> None:
    assert set(NAMES) == {"reason", "rip", "symbol"}
    assert [row.name for row in exit_statistics(EVENTS, by="reason").rows] == ["CPUID", "HLT"]
    assert [row.name for row in exit_statistics(EVENTS, by="rip").rows] == [
        "0x1000",
        "0x1008",
        "0x2000",
    ]
    assert [row.name for row in exit_statistics(EVENTS, by="symbol").rows] == [
        "main",
        "(no symbol)",
        "idle",
    ]


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ("samples", ["CPUID", "HLT"]),
        ("retired", ["CPUID", "HLT"]),
        ("min", ["CPUID", "HLT"]),
        ("max", ["CPUID", "HLT"]),
        ("avg", ["CPUID", "HLT"]),
        ("name", ["CPUID", "HLT"]),
    ],
)
def test_every_sort_flag_orders_rows(sort: str, order: list[str]) -> None:
    assert [row.name for row in exit_statistics(EVENTS, sort=sort).rows] == order


def test_sort_flags_differ_where_rows_do() -> None:
    events = [exit_at(5, "A"), exit_at(105, "B"), exit_at(107, "A"), exit_at(107, "C")]
    order = {
        sort: "".join(row.name for row in exit_statistics(events, sort=sort).rows) for sort in SORTS
    }

    assert order == {
        "samples": "ABC",
        "retired": "BAC",
        "min": "CAB",
        "max": "BAC",
        "avg": "BAC",
        "name": "ABC",
    }


def test_the_table_has_perfs_columns_with_instructions_for_time() -> None:
    lines = table(EVENTS)

    assert lines[0].split() == [
        "VM-EXIT",
        "Samples",
        "Samples%",
        "Retired%",
        "Min",
        "Max",
        "Avg",
        "+-",
    ]
    assert lines[1].split()[:7] == ["CPUID", "3", "75.00%", "91.18%", "1", "20", "10.33"]
    assert lines[-1] == "Total samples: 4, total retired: 34 instructions"


def test_json_has_the_same_numbers() -> None:
    found = exit_statistics(EVENTS).as_dict()

    assert found["total"] == {"samples": 4, "retired": 34}
    assert found["rows"][1] == {
        "reason": "HLT",
        "samples": 1,
        "samples_percent": 25.0,
        "retired": 3,
        "retired_percent": 8.82,
        "min": 3,
        "max": 3,
        "avg": 3.0,
        "error_percent": 0.0,
    }


def test_a_trace_without_exits_says_so() -> None:
    assert table([Interrupt(retired=1, vector=32)]) == ["No VM exits."]


def test_names_cannot_drive_a_terminal() -> None:
    assert "\x1b" not in "".join(table([exit_at(1, "EVIL\x1b[2J")]))


def hit(retired: int, symbol: str, cr3: int) -> Probe:
    return Probe(retired=retired, rip=0x1000, symbol=symbol, cr3=cr3)


PROBED = [hit(5, "fork", 0x1000), *EVENTS, hit(70, "exit", 0x2000), hit(1999, "fork", 0x2000)]


def test_probes_have_a_table_of_their_own_with_hits_places_and_address_spaces() -> None:
    lines = table(PROBED)

    assert lines[: len(table(EVENTS))] == table(EVENTS)
    assert [line.split("  ")[0] for line in lines[-4:]] == ["", "PROBE", "fork", "exit"]
    assert lines[-2].split() == ["fork", "2", "5", "1,999", "2"]
    assert lines[-1].split() == ["exit", "1", "70", "70", "1"]


def test_json_has_the_probes() -> None:
    assert exit_statistics(EVENTS).as_dict()["probes"] == []
    assert exit_statistics(PROBED).as_dict()["probes"] == [
        {"symbol": "fork", "hits": 2, "first": 5, "last": 1999, "address_spaces": 2},
        {"symbol": "exit", "hits": 1, "first": 70, "last": 70, "address_spaces": 1},
    ]


def test_a_trace_of_the_bare_machine_has_probes_and_no_exits() -> None:
    lines = table([hit(5, "fork", 0x1000)])

    assert lines[:2] == ["No VM exits.", ""]
    assert lines[3].split() == ["fork", "1", "5", "5", "1"]
