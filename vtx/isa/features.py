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
        "INTEL8086", "INTEL8086_ONLY", "INTEL186", "INTEL286", "INTEL286_ONLY", "INTEL386",
        "INTEL386_ONLY", "INTEL386_486_ONLY", "INTEL486", "INTEL486_A_ONLY", "INTEL286_386_ONLY",
        "X64", "MULTIBYTENOP", "CPUID", "PAUSE", "RDPMC", "UDBG", "SMM", "CET_IBT", "CET_SS",
        "RTM", "CLDEMOTE", "WBNOINVD",
    }
)  # fmt: skip
"""Features every x86-64 processor has, and hint encodings that are NOPs where absent."""

ADVERTISED_AS = {
    "CX8": "cx8", "CMOV": "cmov", "TSC": "tsc", "MSR": "msr", "SEP": "sep", "CLFSH": "clfsh",
    "SYSCALL": "syscall", "CMPXCHG16B": "cx16", "POPCNT": "popcnt", "MOVBE": "movbe",
    "BMI1": "bmi1", "BMI2": "bmi2", "LZCNT": "lzcnt", "FSGSBASE": "fsgsbase",
    "INVPCID": "invpcid", "RDTSCP": "rdtscp", "RDRAND": "rdrand", "RDSEED": "rdseed",
    "MONITOR": "monitor", "VMX": "vmx", "XSAVE": "xsave", "SMAP": "smap", "ADX": "adx",
    "CLFLUSHOPT": "clflushopt", "CLWB": "clwb", "PREFETCHW": "prefetchw", "RDPID": "rdpid",
    "SSE": "sse", "SSE2": "sse2", "FPU": "fpu", "MMX": "mmx",
}  # fmt: skip
"""iced's feature -> the name in spec/cpuid.toml."""

# Encodings that iced files under an FPU/SIMD feature although they touch no such state.
_INTEGER_CODES = frozenset(
    {"LFENCE", "MFENCE", "SFENCE", "PREFETCHNTA_M8", "PREFETCHT0_M8", "PREFETCHT1_M8",
     "PREFETCHT2_M8", "MOVNTI_M32_R32", "MOVNTI_M64_R64", "WAIT"}
)  # fmt: skip


def mnemonic_of(decoded: Decoded) -> str:
    """iced's upper-case mnemonic."""
    return _MNEMONICS[decoded.mnemonic]


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
