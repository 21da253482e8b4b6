"""Which CPUID features the machine implements: the one list that CPUID is computed from.

A CPU shows what its profile's silicon has *and* this list names. Adding a feature here is the
last step of building it.
"""

from vtx.spec import advertised

BUILT = frozenset(
    {
        # basic
        "PSE", "TSC", "MSR", "PAE", "MCE", "CX8", "APIC", "SEP", "MTRR", "PGE", "MCA", "CMOV",
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


def features_of(profile: str, *, hide_vmx: bool = False) -> frozenset[str]:
    """Names of the CPUID features that a CPU of `profile` shows."""
    built = BUILT - {"VMX"} if hide_vmx else BUILT
    return advertised(built, profile)
