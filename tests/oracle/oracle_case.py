"""One instruction in one state, and what comes of it: what every oracle is asked to run.

All executors share one address layout, chosen so that the host can map it as well.
"""

from dataclasses import dataclass

CODE, CODE_SIZE = 0x0100_0000, 0x10_0000
DATA, DATA_SIZE = 0x0120_0000, 0x4000
STACK, STACK_SIZE = 0x0121_0000, 0x1000
LOW, LOW_SIZE = 0x8000, 0x1000  # what 16-bit addresses reach; no host maps it
CODE_16, CODE_16_SIZE = 0x1000, 0x6000  # 16-bit code lives in the first 64 KiB, and all it uses
MEMORY_SIZE = 0x0200_0000
REGIONS = ((DATA, DATA_SIZE), (STACK, STACK_SIZE), (LOW, LOW_SIZE))

BACKGROUND = {base: bytes((n * 37 + (n >> 8) * 11 + 5) & 0xFF for n in range(size))
              for base, size in REGIONS}  # fmt: skip
ARITHMETIC = {"cf": 1 << 0, "pf": 1 << 2, "af": 1 << 4, "zf": 1 << 6, "sf": 1 << 7, "of": 1 << 11}
ALL_ARITHMETIC = sum(ARITHMETIC.values())
DF, IF = 1 << 10, 1 << 9


@dataclass(frozen=True, slots=True)
class Case:
    """An instruction's bytes at `ip`, the registers, and bytes patched over the background."""

    form: str
    mnemonic: str
    bits: int
    code: bytes
    ip: int
    gprs: tuple[int, ...]
    flags: int
    memory: tuple[tuple[int, bytes], ...]
    undefined: frozenset[str] = frozenset()
    """Flags nobody may compare."""
    result_undefined: bool = False
    uses_low: bool = False
    exits: int | None = None
    """Where a taken branch goes."""

    def region(self, base: int) -> bytes:
        """Contents of a memory region before the instruction."""
        content = bytearray(BACKGROUND[base])
        for at, patch in self.memory:
            if base <= at < base + len(content):
                content[at - base : at - base + len(patch)] = patch
        return bytes(content)

    def __str__(self) -> str:
        gprs = " ".join(f"{g:x}" for g in self.gprs)
        patches = " ".join(f"[{at:x}]={patch.hex()}" for at, patch in self.memory)
        return (
            f"{self.form} {self.bits}-bit {self.code.hex()} at {self.ip:x}\n"
            f"  gprs {gprs}\n  flags {self.flags:x} memory {patches}"
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """State behind the instruction; the vector instead of it where it faulted."""

    fault: int | None
    gprs: tuple[int, ...] = ()
    flags: int = 0
    ip: int = 0
    memory: tuple[bytes, ...] = ()


def differences(case: Case, ours: Outcome, theirs: Outcome, flag_mask: int) -> list[str]:
    """Where two outcomes of a case differ, in words; nothing undefined is compared."""
    if ours.fault is not None or theirs.fault is not None:
        return [] if ours.fault == theirs.fault else [f"fault {ours.fault} {theirs.fault}"]
    found = []
    mask = flag_mask & ~sum(ARITHMETIC[name] for name in case.undefined)
    if (ours.flags ^ theirs.flags) & mask:
        found.append(f"flags {ours.flags & mask:x} {theirs.flags & mask:x}")
    if ours.ip != theirs.ip:
        found.append(f"ip {ours.ip:x} {theirs.ip:x}")
    if case.result_undefined:
        return found
    for number, (a, b) in enumerate(zip(ours.gprs, theirs.gprs, strict=True)):
        if a != b:
            found.append(f"gpr{number} {a:x} {b:x}")
    for (base, _), a, b in zip(REGIONS, ours.memory, theirs.memory, strict=True):
        if a != b:
            at = next(n for n in range(len(a)) if a[n] != b[n])
            found.append(f"memory {base + at:x} {a[at : at + 8].hex()} {b[at : at + 8].hex()}")
    return found
