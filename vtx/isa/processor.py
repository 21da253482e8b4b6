"""CPUID, HLT, time stamps, caches, hints."""
