"""RDMSR, WRMSR and kin."""
