"""Raw CPUID leaves, built from a CPU profile and the set of features that are implemented.

Source: SDM 2A, CPUID - CPU Identification. Must not know machine state: the dynamic bits
(APIC, OSXSAVE, OSPKE) and the XSAVE area size that follow it are their owner's to adjust.
"""

from collections.abc import Iterable, Mapping
from math import ceil

from vtx.spec.clocks import clock
from vtx.spec.features import Cache, Profile, Register, feature, features, profile

Words = tuple[int, int, int, int]
"""EAX, EBX, ECX, EDX."""

EXTENDED = 0x8000_0000
LEAVES_WITH_SUBLEAVES = frozenset({4, 7, 0xB, 0xD})
CLFLUSH_LINE = 64
XSAVE_LEGACY_AREA = 512 + 64
XSAVE_AVX_AREA = 256
MOST_CORE_IDS = 0x3F
"""What leaf 4 says for more cores; leaf 0BH has room for all."""
X87_STATE, SSE_STATE, AVX_STATE = 1, 2, 4


def advertised(implemented: Iterable[str], cpu: str | Profile, cpus: int = 1) -> frozenset[str]:
    """The features CPUID shows: those the silicon has and the machine implements.

    Raises SpecError when `implemented` has a name that is no CPU feature.
    """
    known = frozenset(feature(name).name for name in implemented)
    silicon = cpu if isinstance(cpu, Profile) else profile(cpu)
    return (known & silicon.features) - (frozenset({"HTT"}) if cpus == 1 else frozenset())


def cpuid_words(
    implemented: Iterable[str], cpu: str | Profile, *, cpus: int = 1, apic_id: int = 0
) -> dict[tuple[int, int], Words]:
    """All CPUID leaves of one CPU: (leaf, subleaf) to (EAX, EBX, ECX, EDX).

    `implemented` are feature names (see `feature`); `cpus` counts the package's logical
    processors, `apic_id` is this one's. Read the result with `read_cpuid`.
    """
    silicon = cpu if isinstance(cpu, Profile) else profile(cpu)
    shown = advertised(implemented, silicon, cpus)
    words = {(leaf, 0): (0, 0, 0, 0) for leaf in range(silicon.max_basic_leaf + 1)}
    words |= {(leaf, 0): (0, 0, 0, 0) for leaf in range(EXTENDED, silicon.max_extended_leaf + 1)}
    words |= _identification(silicon, cpus, apic_id)
    words |= _caches(silicon, cpus)
    words |= _topology(cpus, apic_id)
    words |= _extended_state(shown)
    words |= _frequencies(silicon)
    if "MONITOR" in shown:
        words[5, 0] = (CLFLUSH_LINE, CLFLUSH_LINE, 3, 0)
    _set_feature_bits(words, shown)
    return {
        (leaf, subleaf): value
        for (leaf, subleaf), value in sorted(words.items())
        if leaf >= EXTENDED or leaf <= silicon.max_basic_leaf
    }


def read_cpuid(words: Mapping[tuple[int, int], Words], leaf: int, subleaf: int) -> Words:
    """What CPUID returns for EAX = `leaf` and ECX = `subleaf` (both 32 bits).

    A leaf past the last basic or extended one answers as the last basic leaf does.
    """
    last = words[EXTENDED, 0][0] if leaf >= EXTENDED else words[0, 0][0]
    if leaf > last:
        leaf = words[0, 0][0]
    if leaf not in LEAVES_WITH_SUBLEAVES:
        return words[leaf, 0]
    found = words.get((leaf, subleaf), (0, 0, 0, 0))
    if leaf == 0xB and (leaf, subleaf) not in words:
        return (0, 0, subleaf & 0xFF, words[leaf, 0][3])
    return found


def xcr0_supported(shown: Iterable[str]) -> int:
    """The XCR0 bits that may be set: 0 without XSAVE (SDM 1, XCR0 and state components)."""
    names = frozenset(shown)
    if "XSAVE" not in names:
        return 0
    return X87_STATE | SSE_STATE * ("SSE" in names) | AVX_STATE * ("AVX" in names)


def _identification(silicon: Profile, cpus: int, apic_id: int) -> dict[tuple[int, int], Words]:
    ebx, edx, ecx = _ascii(silicon.vendor, 3)
    brand = _ascii(silicon.brand, 12)
    counts = CLFLUSH_LINE // 8 << 8 | cpus << 16 | apic_id << 24
    address_sizes = silicon.linear_bits << 8 | silicon.maxphyaddr
    return {
        (0, 0): (silicon.max_basic_leaf, ebx, ecx, edx),
        (1, 0): (silicon.signature, counts, 0, 0),
        (EXTENDED, 0): (silicon.max_extended_leaf, 0, 0, 0),
        (EXTENDED + 2, 0): (brand[0], brand[1], brand[2], brand[3]),
        (EXTENDED + 3, 0): (brand[4], brand[5], brand[6], brand[7]),
        (EXTENDED + 4, 0): (brand[8], brand[9], brand[10], brand[11]),
        (EXTENDED + 8, 0): (address_sizes, 0, 0, 0),
    }


def _ascii(text: str, count: int) -> list[int]:
    """`text` as `count` little-endian doublewords, padded with zero bytes."""
    raw = text.encode("ascii").ljust(4 * count, b"\0")
    return [int.from_bytes(raw[i : i + 4], "little") for i in range(0, 4 * count, 4)]


def _caches(silicon: Profile, cpus: int) -> dict[tuple[int, int], Words]:
    """Leaf 2 (descriptors), leaf 4 (one subleaf a cache, then a null one), leaf 80000006H."""
    words: dict[tuple[int, int], Words] = {(2, 0): silicon.cache_descriptors}
    for subleaf, cache in enumerate(silicon.caches):
        words[4, subleaf] = _cache_words(cache, cpus)
    words[4, len(silicon.caches)] = (0, 0, 0, 0)
    level2 = next(cache for cache in silicon.caches if cache.level == 2)
    ways_code = {1: 1, 2: 2, 4: 4, 8: 6, 16: 8}[level2.ways]
    words[EXTENDED + 6, 0] = (0, 0, level2.size_kib << 16 | ways_code << 12 | level2.line, 0)
    return words


def _cache_words(cache: Cache, cpus: int) -> Words:
    """One subleaf of leaf 4; the last level is shared by the package, the others are not."""
    sharing = cpus if cache.level == 3 else 1
    self_initializing = 1 << 8
    ids = (_id_space(sharing) - 1) << 14 | min(_id_space(cpus) - 1, MOST_CORE_IDS) << 26
    eax = cache.type | cache.level << 5 | self_initializing | ids
    ebx = (cache.line - 1) | (cache.ways - 1) << 22
    return (eax, ebx, cache.sets - 1, cache.inclusive << 1 | cache.complex << 2)


def _id_space(cpus: int) -> int:
    """The smallest power of two that holds `cpus` identifiers."""
    return 1 << (cpus - 1).bit_length()


def _topology(cpus: int, apic_id: int) -> dict[tuple[int, int], Words]:
    """Leaf 0BH: one thread a core, `cpus` cores a package, then an invalid level."""
    thread, core = 1 << 8, 2 << 8
    core_shift = (cpus - 1).bit_length()
    return {
        (0xB, 0): (0, 1, thread, apic_id),
        (0xB, 1): (core_shift, cpus, core | 1, apic_id),
    }


def _extended_state(shown: frozenset[str]) -> dict[tuple[int, int], Words]:
    """Leaf 0DH: sizes as they are with XCR0 at its reset value, x87 state alone."""
    supported = xcr0_supported(shown)
    if not supported:
        return {(0xD, 0): (0, 0, 0, 0), (0xD, 1): (0, 0, 0, 0)}
    largest = XSAVE_LEGACY_AREA + (XSAVE_AVX_AREA if supported & AVX_STATE else 0)
    words: dict[tuple[int, int], Words] = {
        (0xD, 0): (supported, XSAVE_LEGACY_AREA, largest, 0),
        (0xD, 1): (0, 0, 0, 0),
    }
    if supported & AVX_STATE:
        words[0xD, 2] = (XSAVE_AVX_AREA, XSAVE_LEGACY_AREA, 0, 0)
    return words


def _frequencies(silicon: Profile) -> dict[tuple[int, int], Words]:
    """Leaves 15H and 16H: TSC over crystal clock, and the clocks in MHz, from the clock table."""
    if silicon.max_basic_leaf < 0x16:
        return {}
    tsc, bus = clock("tsc"), clock("lapic")
    ratio = tsc.hz / bus.hz
    megahertz = ceil(tsc.hz / 1_000_000)
    return {
        (0x15, 0): (ratio.denominator, ratio.numerator, int(bus.hz), 0),
        (0x16, 0): (megahertz, megahertz, ceil(bus.hz / 1_000_000), 0),
    }


def _set_feature_bits(words: dict[tuple[int, int], Words], shown: frozenset[str]) -> None:
    position: dict[Register, int] = {"eax": 0, "ebx": 1, "ecx": 2, "edx": 3}
    for row in features():
        if row.name in shown and (row.leaf, row.subleaf) in words:
            value = list(words[row.leaf, row.subleaf])
            value[position[row.register]] |= row.mask
            words[row.leaf, row.subleaf] = (value[0], value[1], value[2], value[3])
