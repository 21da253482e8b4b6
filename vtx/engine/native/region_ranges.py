"""Ranges: runs of pages that lie next to each other in host memory, too, in LLVM text IR.

A region first tries whether an access lies in the range for its kind. One comparison says so
for an aligned access: its distance from the range's base, rotated by the size's logarithm, is
below the number of such places in the range. Accesses that are not aligned look into the table,
and so do those that miss; they leave their address behind, and now and then a range is made of
the pages around it. A range holds nothing that the TLB's second level does not hold.
"""

from vtx.engine.native.context import RANGES, TLB_RANGES
from vtx.isa.program import Access
from vtx.machine.tlb import PRIVILEGES

RANGE_SIZE = 64
BASE, DISTANCE, MISSED, LIMITS = 0, 8, 16, 32
"""Offsets in a range: gva, host address - gva, the last gva that missed or 0, and the number of
aligned places for accesses of 1, 2, 4 and 8 bytes."""
_MOST_PAGES = 1 << 16


def range_of(access: Access) -> int:
    """Offset from the table of the range for accesses of this kind."""
    index = PRIVILEGES.index(access.privilege) << 2 | access.stack << 1 | access.write
    return TLB_RANGES + RANGE_SIZE * index


_TRANSLATED = """
define internal i64 @translated(ptr %t, i64 %page, i64 %low, i64 %field) nounwind {
  %high = shl i64 %page, 3
  %key = or i64 %high, %low
  %e = call ptr @find(ptr %t, i64 %key)
  %hp = getelementptr i8, ptr %e, i64 %field
  %hva = load i64, ptr %hp
  ret i64 %hva
}
"""
"""Host address of a page for a privilege and a kind of access, or 0."""

_END = f"""
define internal i64 @range_end(ptr %t, i64 %page, i64 %step, i64 %low, i64 %field, i64 %distance)
    nounwind {{
  br label %next
next:
  %p = phi i64 [ %page, %0 ], [ %q, %on ]
  %count = phi i64 [ 0, %0 ], [ %count1, %on ]
  %q = add i64 %p, %step
  %hva = call i64 @translated(ptr %t, i64 %q, i64 %low, i64 %field)
  %gva = shl i64 %q, 12
  %d = sub i64 %hva, %gva
  %same = icmp eq i64 %d, %distance
  %known = icmp ne i64 %hva, 0
  %both = and i1 %same, %known
  %count1 = add i64 %count, 1
  %few = icmp ult i64 %count1, {_MOST_PAGES}
  %more = and i1 %both, %few
  br i1 %more, label %on, label %out
on:
  br label %next
out:
  ret i64 %p
}}
"""
"""The last page in a direction that belongs to the run of a page."""

_LIMITS = "".join(
    f"  %l{n} = lshr i64 %size, {n}\n"
    f"  %lp{n} = getelementptr i8, ptr %r, i64 {LIMITS + 8 * n}\n"
    f"  store i64 %l{n}, ptr %lp{n}\n"
    for n in range(4)
)
_WIDEN = f"""
define dso_local i64 @tlb_widen(ptr %t) nounwind {{
  br label %next
next:
  %n = phi i64 [ 0, %0 ], [ %n1, %onward ]
  %at = mul i64 %n, {RANGE_SIZE}
  %place = add i64 %at, {TLB_RANGES}
  %r = getelementptr i8, ptr %t, i64 %place
  %mp = getelementptr i8, ptr %r, i64 {MISSED}
  %missed = load i64, ptr %mp
  store i64 0, ptr %mp
  %any = icmp ne i64 %missed, 0
  br i1 %any, label %look, label %onward
look:
  %privilege = lshr i64 %n, 2
  %twice = shl i64 %privilege, 1
  %low = or i64 %twice, 1
  %write = and i64 %n, 1
  %further = shl i64 %write, 3
  %field = add i64 %further, 8
  %page = lshr i64 %missed, 12
  %hva = call i64 @translated(ptr %t, i64 %page, i64 %low, i64 %field)
  %known = icmp ne i64 %hva, 0
  br i1 %known, label %make, label %onward
make:
  %gva = shl i64 %page, 12
  %distance = sub i64 %hva, %gva
  %first = call i64 @range_end(ptr %t, i64 %page, i64 -1, i64 %low, i64 %field, i64 %distance)
  %last = call i64 @range_end(ptr %t, i64 %page, i64 1, i64 %low, i64 %field, i64 %distance)
  %base = shl i64 %first, 12
  %bp = getelementptr i8, ptr %r, i64 {BASE}
  store i64 %base, ptr %bp
  %dp = getelementptr i8, ptr %r, i64 {DISTANCE}
  store i64 %distance, ptr %dp
  %between = sub i64 %last, %first
  %pages = add i64 %between, 1
  %size = shl i64 %pages, 12
{_LIMITS}  br label %onward
onward:
  %n1 = add i64 %n, 1
  %more = icmp ult i64 %n1, {RANGES}
  br i1 %more, label %next, label %out
out:
  ret i64 0
}}
"""
"""Make ranges of the pages around what was missed last."""

_DROP = (
    "define internal void @drop_ranges(ptr %t) nounwind {\n"
    + "".join(
        f"  %p{at} = getelementptr i8, ptr %t, i64 {at}\n  store i64 0, ptr %p{at}\n"
        for n in range(RANGES)
        for at in range(TLB_RANGES + RANGE_SIZE * n + LIMITS, TLB_RANGES + RANGE_SIZE * (n + 1), 8)
    )
    + "  ret void\n}\n"
)
"""No access is in a range any more."""


def ranges_text() -> str:
    """Functions for the module that defines @find."""
    return "\n".join([_TRANSLATED, _END, _WIDEN, _DROP])
