"""Which decoded instructions a CPU has: iced's feature names against the advertised set.

An instruction whose feature is not advertised raises #UD. The features listed as implemented
here bound what any CPU profile may advertise.
"""

from iced_x86 import Code, CpuidFeature, Mnemonic
from iced_x86 import Instruction as Decoded


def _names(enumeration: object) -> dict[int, str]:
    return {
        value: name
        for name, value in vars(enumeration).items()
        if isinstance(value, int) and not name.startswith("_")
    }


_MNEMONICS = _names(Mnemonic)
_FEATURES = _names(CpuidFeature)
_CODES = _names(Code)

ALWAYS = frozenset(
    {
        "INTEL8086", "INTEL186", "INTEL286", "INTEL386", "INTEL486", "X64", "MULTIBYTENOP",
        "CPUID", "PAUSE", "RDPMC", "CET_IBT", "CLDEMOTE", "PREFETCHW", "PREFETCHWT1",
        "PREFETCHITI", "WBNOINVD",
    }
)  # fmt: skip
"""Features every x86-64 processor has, and hints that are NOPs (or WBINVD) where absent."""

ADVERTISED_AS = {
    "CX8": "CX8", "CMOV": "CMOV", "TSC": "TSC", "MSR": "MSR", "SEP": "SEP", "CLFSH": "CLFSH",
    "SYSCALL": "SYSCALL", "CMPXCHG16B": "CX16", "POPCNT": "POPCNT", "MOVBE": "MOVBE",
    "BMI1": "BMI1", "BMI2": "BMI2", "LZCNT": "LZCNT", "FSGSBASE": "FSGSBASE",
    "INVPCID": "INVPCID", "RDTSCP": "RDTSCP", "RDRAND": "RDRAND", "RDSEED": "RDSEED",
    "MONITOR": "MONITOR", "VMX": "VMX", "INVEPT": "VMX", "INVVPID": "VMX", "XSAVE": "XSAVE",
    "SMAP": "SMAP", "ADX": "ADX", "CLFLUSHOPT": "CLFLUSHOPT", "CLWB": "CLWB", "RDPID": "RDPID",
    "FPU": "FPU", "MMX": "MMX", "SSE": "SSE", "SSE2": "SSE2",
}  # fmt: skip
"""iced's feature -> the name in spec/cpuid.toml that advertises it. Which EPT and VPID
invalidations exist is for their own semantics to check, against IA32_VMX_EPT_VPID_CAP."""

# Encodings that iced files under another feature although every modelled CPU runs them: moves
# and fences that touch no vector state, and NOP space that CET gave a meaning.
_INTEGER_CODES = frozenset(
    {"LFENCE", "MFENCE", "SFENCE", "PREFETCHNTA_M8", "PREFETCHT0_M8", "PREFETCHT1_M8",
     "PREFETCHT2_M8", "MOVNTI_M32_R32", "MOVNTI_M64_R64", "RDSSPD_R32", "RDSSPQ_R64"}
)  # fmt: skip

_WITHOUT = {"TZCNT": ("BMI1", "BSF"), "LZCNT": ("LZCNT", "BSR")}
"""Mnemonic -> its feature, and what the encoding means without: the prefix is ignored."""


def mnemonic_of(decoded: Decoded) -> str:
    """iced's upper-case mnemonic."""
    return _MNEMONICS[decoded.mnemonic]


def meaning_of(decoded: Decoded, features: frozenset[str]) -> str | None:
    """Mnemonic of what a CPU that advertises `features` does; None: it has no such thing."""
    mnemonic = mnemonic_of(decoded)
    if decoded_is_available(decoded, features):
        return mnemonic
    feature, otherwise = _WITHOUT.get(mnemonic, ("", None))
    return otherwise if feature not in features else None


def code_of(decoded: Decoded) -> str:
    """iced's name of the instruction form, for example ADD_RM32_R32."""
    return _CODES[decoded.code]


def decoded_is_available(decoded: Decoded, features: frozenset[str]) -> bool:
    """Whether a CPU that advertises `features` has this instruction."""
    if code_of(decoded) in _INTEGER_CODES:
        return True
    for feature in decoded.cpuid_features():
        name = _FEATURES[feature]
        if name not in ALWAYS and ADVERTISED_AS.get(name) not in features:
            return False
    return True
