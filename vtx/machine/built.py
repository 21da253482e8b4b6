"""Which CPUID features the machine implements: the one list that CPUID is computed from.

A CPU shows what its profile's silicon has *and* this list names. Adding a feature here is the
last step of building it.
"""

from vtx.spec import advertised

BUILT = frozenset(
    {
        # basic
        "DE", "PSE", "TSC", "MSR", "PAE", "MCE", "CX8", "APIC", "SEP", "MTRR", "PGE", "MCA", "CMOV",
        "PAT", "PSE36", "CLFSH", "HTT",
        "PCID", "CX16", "X2APIC", "MOVBE", "POPCNT", "TSC_DEADLINE", "RDRAND", "VMX", "ARAT",
        # structured extended features
        "FSGSBASE", "TSC_ADJUST", "BMI1", "BMI2", "SMEP", "ERMS", "INVPCID", "RDSEED", "ADX",
        "SMAP", "CLFLUSHOPT", "CLWB", "UMIP", "RDPID", "FSRM",
        # extended
        "LAHF_LM", "LZCNT", "SYSCALL", "NX", "PDPE1GB", "RDTSCP", "LM", "INVARIANT_TSC",
        "PREFETCHW",
    }
)  # fmt: skip


CR4_FEATURES = {
    0: "VME", 1: "VME", 2: "TSC", 3: "DE", 4: "PSE", 5: "PAE", 6: "MCE", 7: "PGE", 8: "MSR",
    9: "FXSR", 10: "SSE", 11: "UMIP", 13: "VMX", 16: "FSGSBASE", 17: "PCID", 18: "XSAVE",
    20: "SMEP", 21: "SMAP",
}  # fmt: skip
"""CR4 bit -> the CPUID feature that brings it (SDM 3A, Control Registers). PCE comes with
RDPMC, which every such CPU has."""


def cr4_allowed(features: frozenset[str]) -> int:
    """The CR4 bits that software may set on a CPU that shows these features."""
    return sum(1 << bit for bit, name in CR4_FEATURES.items() if name in features)


def features_of(profile: str, *, hide_vmx: bool = False) -> frozenset[str]:
    """Names of the CPUID features that a CPU of `profile` shows."""
    built = BUILT - {"VMX"} if hide_vmx else BUILT
    return advertised(built, profile)
