"""Broken VM-entry rules explained: every one of them, and values that really would pass."""

import pytest

import vtx
from tests.vtx.engines import QUICK_ENGINES
from tests.vtx.vmx.bench import VMCS, Bench, legal_fields
from tests.vtx.vmx.test_checks import BROKEN, IDS, NEVER_FIRST
from vtx.spec import SpecError, field, profiles
from vtx.vmx.capability import REVISION
from vtx.vmx.checks import NumberView, checks, violated
from vtx.vmx.explain import BrokenCheck, explain
from vtx.vmx.predicate import predicate_of

MEMORY = {VMCS: REVISION.to_bytes(4, "little")}


def explained(change: dict[str, int], efer: int = 0x500) -> tuple[BrokenCheck, ...]:
    values: dict[str | int, int] = {**legal_fields(), **change}
    values.pop("efer", None)
    return explain(values, efer=efer, vmcs_pointer=VMCS, memory=MEMORY)


def reader(width: int, hpa: int) -> int:
    return REVISION if hpa == VMCS else 0


@pytest.mark.parametrize(
    ("rule", "change"),
    [*BROKEN, *NEVER_FIRST],
    ids=[*IDS, *(f"{rule}-among-others" for rule, _ in NEVER_FIRST)],
)
def test_every_broken_rule_is_listed_with_values_that_would_pass(
    rule: str, change: dict[str, int]
) -> None:
    efer = change.get("efer", 0x500)
    values = {**legal_fields(), "vmcs_pointer": VMCS, **change, "efer": efer}

    found = explained(change, efer)

    assert [b.id for b in found] == [c.id for c in violated(values, memory=reader)]
    for broken in found:
        if broken.id == "guest.link-pointer-shadow":
            continue
        assert broken.nearest, broken.id
        for passing in broken.nearest:
            view = NumberView({**values, **passing}, memory=reader)
            assert view.holds(broken.check), (broken.id, passing)
            assert any(values.get(name, 0) != value for name, value in passing.items())


@pytest.mark.parametrize(("rule", "change"), BROKEN, ids=IDS)
def test_the_best_value_mends_a_vmcs_with_one_broken_rule(
    rule: str, change: dict[str, int]
) -> None:
    found = explained(change)
    if len(found) > 1:
        pytest.skip("more than one rule is broken")
    assert explained(change | found[0].nearest[0]) == ()


@QUICK_ENGINES
@pytest.mark.parametrize(
    "change",
    [
        {"CR3_TARGET_COUNT": 9},
        {"HOST_CS_SELECTOR": 0},
        {"GUEST_RFLAGS": 0},
        {"GUEST_TR_ACCESS_RIGHTS": 0x10089},
    ],
)
def test_vm_entry_succeeds_with_the_values_that_are_said_to_pass(
    engine: str, change: dict[str, int]
) -> None:
    fields = dict(change)
    while broken := explained(fields):
        fields |= broken[0].nearest[0]

    bench = Bench(engine, fields=fields)

    assert bench.enter() == 0
    assert bench.word("vmx") == 2


@pytest.mark.parametrize(
    ("change", "nearest"),
    [
        ({"CR3_TARGET_COUNT": 9}, {"CR3_TARGET_COUNT": 1}),
        ({"CR3_TARGET_COUNT": 5}, {"CR3_TARGET_COUNT": 4}),
        ({"PINBASED_CONTROLS": 0}, {"PINBASED_CONTROLS": 0x16}),
        ({"HOST_CS_SELECTOR": 0}, {"HOST_CS_SELECTOR": 8}),
        ({"HOST_RIP": 0x8000_0000_0000}, {"HOST_RIP": 0}),
        ({"VMCS_LINK_POINTER": VMCS}, {"VMCS_LINK_POINTER": (1 << 64) - 1}),
        ({"GUEST_CR0": 0x8000_0011}, {"GUEST_CR0": 0x8000_0031}),
    ],
)
def test_the_nearest_value_is_the_one_with_the_fewest_bits_that_breaks_nothing_else(
    change: dict[str, int], nearest: dict[str, int]
) -> None:
    assert explained(change)[0].nearest[0] == nearest


def test_a_count_that_is_too_high_is_told_the_highest_too() -> None:
    assert {"CR3_TARGET_COUNT": 4} in explained({"CR3_TARGET_COUNT": 9})[0].nearest


def test_segments_that_are_wrong_together_are_mended_together() -> None:
    change = {f"GUEST_{name}_ACCESS_RIGHTS": 0xC083 for name in ("DS", "ES", "FS")}

    (broken,) = explained(change)

    assert broken.id == "guest.segment-s"
    assert broken.nearest[0] == dict.fromkeys(change, 0xC093)


@pytest.mark.parametrize("profile", [row.name for row in profiles()])
def test_the_program_of_a_rule_says_what_its_predicate_says(profile: str) -> None:
    for _, change in (*BROKEN, *NEVER_FIRST):
        values = {**legal_fields(), "efer": 0x500, "vmcs_pointer": VMCS, **change}
        view = NumberView(values, profile, reader)
        for rule in checks():
            assert predicate_of(rule, profile).holds(values, reader) == view.holds(rule), rule.id


def test_fields_go_by_name_or_encoding_and_a_high_half_by_its_own() -> None:
    by_name: dict[str | int, int] = dict(legal_fields())
    by_encoding: dict[str | int, int] = {}
    for name, value in legal_fields().items():
        row = field(name)
        if row.high_encoding is not None:
            by_encoding[row.encoding] = value & 0xFFFF_FFFF | value >> 32 << 32
            by_encoding[f"{row.high_encoding:#x}"] = value >> 32
        else:
            by_encoding[f"{row.encoding:#x}"] = value

    assert vtx.explain(by_name) == vtx.explain(by_encoding) == ()
    assert vtx.explain({**by_name, "VMCS_LINK_POINTER": -1}) == ()
    assert vtx.explain({**by_name, 0x2801: 0})[0].id == "guest.link-pointer-address"


@pytest.mark.parametrize(
    ("vmcs", "said"),
    [
        ({"GUEST_RIPP": 1}, "did you mean GUEST_RIP"),
        ({0x1: 1}, "no VMCS field has encoding"),
        ({"GUEST_CS_SELECTOR": 1 << 16}, "GUEST_CS_SELECTOR = 0x10000 does not fit into 16 bits"),
        ({"VPID": -0x8001}, "does not fit into 16 bits"),
        ({0x2801: 1 << 32}, "does not fit into 32 bits"),
    ],
)
def test_a_field_or_value_that_cannot_be_is_refused(vmcs: dict[str | int, int], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        vtx.explain(vmcs)


def test_memory_and_state_that_a_rule_looked_at_are_shown() -> None:
    (revision,) = explained({"VMCS_LINK_POINTER": 0x9000})
    outside = explained({}, efer=0)

    assert revision.memory == {0x9000: (32, 0)}
    assert outside[0].id == "host.address-space-size-outside-ia32e"
    assert outside[0].state == {"efer": 0}


def test_without_a_profile_s_control_its_rules_are_not_asked() -> None:
    change: dict[str | int, int] = {**legal_fields(), "GUEST_CR4": 0x2020 | 1 << 21}

    assert {b.id for b in explain(change)} == {"guest.cr4-fixed"}
    assert explain(change, profile="max") == ()
