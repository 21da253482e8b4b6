"""Which instructions a CPU has follows from what it advertises, by the names of the spec."""

from iced_x86 import CpuidFeature, Decoder

from vtx.engine.families import load_all
from vtx.isa.features import ADVERTISED_AS, ALWAYS, code_of, meaning_of
from vtx.isa.instruction import SEMANTICS
from vtx.spec import features, profile

HASWELL = profile("haswell").features
ICED_FEATURES = frozenset(name for name in vars(CpuidFeature) if name.isupper())


def _meaning(code: str, advertised: frozenset[str], bits: int = 64) -> str | None:
    return meaning_of(Decoder(bits, bytes.fromhex(code)).decode(), advertised)


def test_every_feature_is_one_that_iced_and_the_spec_know() -> None:
    known = {row.name for row in features()}
    assert known >= set(ADVERTISED_AS.values())
    assert ALWAYS | set(ADVERTISED_AS) <= ICED_FEATURES
    assert not ALWAYS & set(ADVERTISED_AS)


def test_a_haswell_has_what_it_advertises() -> None:
    for code, mnemonic in {
        "f3480fb8c0": "POPCNT", "0f38f000": "MOVBE", "c4e2f8f3c8": "BLSR", "c4e2f9f7c0": "SHLX",
        "f30fbdc0": "LZCNT", "f3480faec0": "RDFSBASE", "0fc7f0": "RDRAND", "0fc708": "CMPXCHG8B",
        "0f01c1": "VMCALL", "660f388000": "INVEPT", "0f05": "SYSCALL", "0fc300": "MOVNTI",
        "0faee8": "LFENCE", "0fae38": "CLFLUSH", "0f1800": "PREFETCHNTA",
    }.items():  # fmt: skip
        assert _meaning(code, HASWELL) == mnemonic


def test_a_haswell_lacks_what_came_later() -> None:
    for code in (
        "660f38f6c0",  # adcx
        "0f01cb",  # stac
        "0fc7f8",  # rdseed
        "660fae38",  # clflushopt
        "660fae30",  # clwb
        "0f38f900",  # movdiri
        "0f01ee",  # rdpkru
        "0f01d6",  # xtest
        "0f01d9",  # vmmcall
    ):
        assert _meaning(code, HASWELL) is None, code


def test_vmx_instructions_are_undefined_on_a_cpu_without_vmx() -> None:
    assert _meaning("0f01c1", HASWELL - {"VMX"}) is None


def test_hints_of_later_processors_are_nops_everywhere() -> None:
    for code in ("f30f1efa", "f3480f1ec8", "0f1c00", "0f0d08", "0f183d00000000"):
        meaning = _meaning(code, frozenset())
        assert meaning is not None
        load_all()
        assert SEMANTICS[meaning] is SEMANTICS["NOP"]


def test_vector_forms_that_share_a_mnemonic_are_not_taken_for_strings() -> None:
    """MOVSD and CMPSD; even a CPU said to have SSE2 does not run them as strings."""
    load_all()
    decoded = Decoder(64, bytes.fromhex("f20f10c1")).decode()
    assert code_of(decoded) == "MOVSD_XMM_XMMM64"
    assert _meaning("f20f10c1", frozenset()) is None


def test_what_every_x86_64_processor_has_needs_no_feature() -> None:
    for code in ("90", "4889c3", "c8000000", "f4", "0fa2", "0f09", "480fc8", "0fc1c3"):
        assert _meaning(code, frozenset()) is not None, code
