"""Flushes of the TLB that native code makes itself, in LLVM text IR.

A hypervisor without VPIDs flushes with every VM entry and exit, when there is little to forget:
each space lists its first entries, and each jump cache its own, so that nothing is searched or
cleared as a whole. Where the lists are too short Python forgets everything, which may have been
forgotten in part before. Which pages are meant by a flush is the business of `machine.cpu`.
"""

from vtx.engine.native.context import (
    CACHE_LOG,
    FETCH_KEY,
    JUMP_CACHE_NEXT,
    JUMP_CACHE_USED,
    LOG_ENTRIES,
    NO_TAG,
    NOWHERE,
    TLB_CACHES,
    TLB_COUNT,
    TLB_ENTRIES,
    TLB_LOG,
    TLB_PYTHON,
)
from vtx.engine.native.numbering import SERVICES
from vtx.engine.native.second_level import field, signed
from vtx.isa.program import Flush, Service

_FLUSH = f"""
define dso_local i64 @flush_tlb(ptr %s) nounwind {{
  %op = {field("own_flush")}
  %own = load i64, ptr %op
  %kp = {field("argument0")}
  %kind = load i64, ptr %kp
  %meant = icmp eq i64 %kind, {int(Flush.VPID)}
  %may = icmp ne i64 %own, 0
  %native = and i1 %meant, %may
  br i1 %native, label %begin, label %ask
begin:
  %vp = {field("argument1")}
  %vpid = load i64, ptr %vp
  %lp = {field("spaces")}
  %list = load ptr, ptr %lp
  br label %next
next:
  %e = phi ptr [ %list, %begin ], [ %e1, %onward ]
  %left = phi i64 [ 0, %begin ], [ %left1, %onward ]
  %tp = getelementptr i8, ptr %e, i64 8
  %t = load ptr, ptr %tp
  %end = icmp eq ptr %t, null
  br i1 %end, label %done, label %compare
compare:
  %v = load i64, ptr %e
  %same = icmp eq i64 %v, %vpid
  br i1 %same, label %empty, label %onward
empty:
  %rest = call i64 @empty_space(ptr %t)
  %sum = or i64 %left, %rest
  br label %onward
onward:
  %left1 = phi i64 [ %left, %compare ], [ %sum, %empty ]
  %e1 = getelementptr i8, ptr %e, i64 16
  br label %next
done:
  %all = icmp eq i64 %left, 0
  br i1 %all, label %out, label %ask
out:
  ret i64 0
ask:
  %fp = {field("on_service")}
  %f = load ptr, ptr %fp
  %status = call i64 %f(i64 {SERVICES.index(Service.FLUSH_TLB)})
  ret i64 %status
}}
"""
"""Service.FLUSH_TLB, its operands in the context."""

_EMPTY = f"""
define internal i64 @empty_space(ptr %t) nounwind {{
  %pp = getelementptr i8, ptr %t, i64 {TLB_PYTHON}
  %python = load i64, ptr %pp
  %cp = getelementptr i8, ptr %t, i64 {TLB_COUNT}
  %count = load i64, ptr %cp
  %known = icmp eq i64 %python, 0
  %short = icmp ule i64 %count, {LOG_ENTRIES}
  %native = and i1 %known, %short
  br i1 %native, label %test, label %not
not:
  ret i64 1
test:
  %none = icmp eq i64 %count, 0
  br i1 %none, label %caches, label %next
next:
  %n = phi i64 [ 0, %test ], [ %n1, %onward ]
  %at = shl i64 %n, 3
  %place = add i64 %at, {TLB_LOG}
  %lp = getelementptr i8, ptr %t, i64 %place
  %e = load ptr, ptr %lp
  %key = load i64, ptr %e
  call void @llvm.memset.p0.i64(ptr align 8 %e, i8 0, i64 32, i1 false)
  %f = and i64 %key, {FETCH_KEY}
  %data = icmp eq i64 %f, 0
  br i1 %data, label %quick, label %onward
quick:
  %page = lshr i64 %key, 3
  %index = and i64 %page, {TLB_ENTRIES - 1}
  %p = lshr i64 %key, 1
  %q = and i64 %p, 3
  %first = mul i64 %q, {TLB_ENTRIES}
  %slot = add i64 %first, %index
  %offset = shl i64 %slot, 5
  %rp = getelementptr i8, ptr %t, i64 %offset
  store i64 {NO_TAG}, ptr %rp
  %wp = getelementptr i8, ptr %rp, i64 8
  store i64 {NO_TAG}, ptr %wp
  br label %onward
onward:
  %n1 = add i64 %n, 1
  %more = icmp ult i64 %n1, %count
  br i1 %more, label %next, label %emptied
emptied:
  store i64 0, ptr %cp
  call void @drop_ranges(ptr %t)
  br label %caches
caches:
  %hp = getelementptr i8, ptr %t, i64 {TLB_CACHES}
  br label %follow
follow:
  %chain = phi ptr [ %hp, %caches ], [ %np, %followed ]
  %c = load ptr, ptr %chain
  %end = icmp eq ptr %c, null
  br i1 %end, label %out, label %cache
cache:
  %np = getelementptr i8, ptr %c, i64 {JUMP_CACHE_NEXT}
  %up = getelementptr i8, ptr %c, i64 {JUMP_CACHE_USED}
  %used = load i64, ptr %up
  %few = icmp ule i64 %used, {CACHE_LOG}
  br i1 %few, label %remove, label %not
remove:
  %i = phi i64 [ 0, %cache ], [ %i1, %one ]
  %again = icmp ult i64 %i, %used
  br i1 %again, label %one, label %followed
one:
  %i1 = add i64 %i, 1
  %io = shl i64 %i1, 3
  %ip = getelementptr i8, ptr %np, i64 %io
  %je = load ptr, ptr %ip
  store i64 {signed(NOWHERE)}, ptr %je
  br label %remove
followed:
  store i64 0, ptr %up
  br label %follow
out:
  ret i64 0
}}
"""
"""Forget a space and the blocks found through it; not 0 if Python has to."""


def flushes_text() -> str:
    """Functions for the module that defines @drop_ranges."""
    return "\n".join([_FLUSH, _EMPTY])
