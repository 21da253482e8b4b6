"""TLB misses answered by native code, in LLVM text IR: page walks, and what follows from them.

What the second level does not know is translated by the algebra's `translate`, as a native
routine. Python is asked only for what is not plain RAM, where a walk is observed, and when the
second level has to grow.
"""

from vtx.engine.native.context import LOG_ENTRIES, TLB_COUNT, TLB_LIMIT, TLB_LOG
from vtx.engine.native.flushes import flushes_text
from vtx.engine.native.numbering import OF_FETCH, OF_STACK, PRIVILEGE_SHIFT
from vtx.engine.native.region_ranges import ranges_text
from vtx.engine.native.second_level import field, second_level_text
from vtx.engine.native.slow_access import slow_access_text
from vtx.isa.layout import SLOTS
from vtx.isa.program import Privilege
from vtx.machine import paging
from vtx.machine.tlb import PRIVILEGES
from vtx.spec.registers import EFER

ASK, FAILED = 0, -1
"""What `walk` returns instead of a host address."""
_ACCESS = {
    Privilege.USER: paging.USER, Privilege.SUPERVISOR: 0,
    Privilege.SUPERVISOR_AC: paging.AC_SUSPENDS, Privilege.SYSTEM: paging.IMPLICIT,
}  # fmt: skip
_ACCESS_BITS = sum(_ACCESS[privilege] << 8 * n for n, privilege in enumerate(PRIVILEGES))


_RAM = f"""
define internal i64 @ram_of(ptr %s, i64 %hpa) nounwind {{
  %page = lshr i64 %hpa, 12
  %np = {field("ram_pages")}
  %count = load i64, ptr %np
  %inside = icmp ult i64 %page, %count
  br i1 %inside, label %look, label %none
look:
  %tp = {field("ram_read")}
  %table = load ptr, ptr %tp
  %ep = getelementptr i64, ptr %table, i64 %page
  %hva = load i64, ptr %ep
  %known = icmp ne i64 %hva, 0
  br i1 %known, label %out, label %ask, !prof !0
ask:
  %fp = {field("on_page")}
  %f = load ptr, ptr %fp
  call i64 %f(i64 %hpa)
  %again = load i64, ptr %ep
  br label %out
none:
  br label %out
out:
  %r = phi i64 [ %hva, %look ], [ %again, %ask ], [ 0, %none ]
  ret i64 %r
}}
"""
"""Host address of a page of RAM, or 0."""

_WALK = f"""
define internal {{ i64, i64, i64 }} @walk(ptr %s, ptr %t, i64 %gva, i64 %how) nounwind {{
  %op = {field("walk_observed")}
  %o = load i64, ptr %op
  %cp = getelementptr i8, ptr %t, i64 {TLB_COUNT}
  %count = load i64, ptr %cp
  %lp = getelementptr i8, ptr %t, i64 {TLB_LIMIT}
  %limit = load i64, ptr %lp
  %full = icmp uge i64 %count, %limit
  %told = icmp ne i64 %o, 0
  %python = or i1 %full, %told
  br i1 %python, label %ask, label %go, !prof !1
go:
  %rp = {field("walk_references")}
  store i64 0, ptr %rp
  %p = lshr i64 %how, {PRIVILEGE_SHIFT - 3}
  %q = and i64 %p, 24
  %who = lshr i64 {_ACCESS_BITS}, %q
  %whose = and i64 %who, 255
  %w = lshr i64 %how, 8
  %write = and i64 %w, 1
  %k = lshr i64 %how, {OF_STACK.bit_length() - 1 - 5}
  %stack = and i64 %k, {paging.STACK}
  %b1 = or i64 %whose, %write
  %b2 = or i64 %b1, %stack
  %x = lshr i64 %how, {OF_FETCH.bit_length() - paging.FETCH.bit_length()}
  %fetch = and i64 %x, {paging.FETCH}
  %b3 = or i64 %b2, %fetch
  %bits = trunc i64 %b3 to i8
  %bp = {field("budget")}
  %bud = load i64, ptr %bp
  %r = call {{ i32, i64, i8 }} @routine_translate(ptr %s, ptr %t, i64 %bud, i64 %gva, i8 %bits)
  %status = extractvalue {{ i32, i64, i8 }} %r, 0
  %hpa = extractvalue {{ i32, i64, i8 }} %r, 1
  %flags = extractvalue {{ i32, i64, i8 }} %r, 2
  %bad = icmp ne i32 %status, 0
  br i1 %bad, label %fail, label %found
fail:
  %sp = {field("failed")}
  %wide = zext i32 %status to i64
  store i64 %wide, ptr %sp
  ret {{ i64, i64, i64 }} {{ i64 {FAILED}, i64 0, i64 0 }}
found:
  %hva = call i64 @ram_of(ptr %s, i64 %hpa)
  %references = load i64, ptr %rp
  %wf = zext i8 %flags to i64
  %r0 = insertvalue {{ i64, i64, i64 }} undef, i64 %hva, 0
  %r1 = insertvalue {{ i64, i64, i64 }} %r0, i64 %references, 1
  %r2 = insertvalue {{ i64, i64, i64 }} %r1, i64 %wf, 2
  ret {{ i64, i64, i64 }} %r2
ask:
  ret {{ i64, i64, i64 }} zeroinitializer
}}
"""
"""Translate; host address (or ASK or FAILED), references of the walk, flags of the translation."""

_REMEMBER = f"""
define internal void @remember(ptr %s, ptr %t, i64 %gva, i64 %how, {{ i64, i64, i64 }} %r) nounwind {{
  %hva = extractvalue {{ i64, i64, i64 }} %r, 0
  %references = extractvalue {{ i64, i64, i64 }} %r, 1
  %flags = extractvalue {{ i64, i64, i64 }} %r, 2
  %walked = icmp ne i64 %references, 0
  br i1 %walked, label %note, label %enter
note:
  %mp = {field("walk_misses")}
  %m = load i64, ptr %mp
  %m1 = add i64 %m, 1
  store i64 %m1, ptr %mp
  %tp = {field("walk_total")}
  %total = load i64, ptr %tp
  %total1 = add i64 %total, %references
  store i64 %total1, ptr %tp
  %lp = {field("walk_least")}
  %least = load i64, ptr %lp
  %l1 = sub i64 %least, 1
  %r1 = sub i64 %references, 1
  %l2 = call i64 @llvm.umin.i64(i64 %l1, i64 %r1)
  %l3 = add i64 %l2, 1
  store i64 %l3, ptr %lp
  %gp = {field("walk_most")}
  %most = load i64, ptr %gp
  %g1 = call i64 @llvm.umax.i64(i64 %most, i64 %references)
  store i64 %g1, ptr %gp
  br label %enter
enter:
  %key = call i64 @key_of(i64 %gva, i64 %how)
  %e = call ptr @find(ptr %t, i64 %key)
  %known = load i64, ptr %e
  %new = icmp eq i64 %known, 0
  br i1 %new, label %first, label %put
first:
  store i64 %key, ptr %e
  %cp = getelementptr i8, ptr %t, i64 {TLB_COUNT}
  %c = load i64, ptr %cp
  %c1 = add i64 %c, 1
  store i64 %c1, ptr %cp
  %listed = icmp ult i64 %c, {LOG_ENTRIES}
  br i1 %listed, label %list, label %put
list:
  %lo = shl i64 %c, 3
  %la = add i64 %lo, {TLB_LOG}
  %lgp = getelementptr i8, ptr %t, i64 %la
  store ptr %e, ptr %lgp
  br label %put
put:
  %w = lshr i64 %how, 8
  %write = and i64 %w, 1
  %field = shl i64 %write, 3
  %place = add i64 %field, 8
  %hp = getelementptr i8, ptr %e, i64 %place
  %before = load i64, ptr %hp
  %rp = getelementptr i8, ptr %e, i64 8
  %read = load i64, ptr %rp
  store i64 %hva, ptr %rp
  %fp = getelementptr i8, ptr %e, i64 24
  %f = load i64, ptr %fp
  %f1 = or i64 %f, %flags
  %low = and i64 %f1, 4095
  %writes = icmp ne i64 %write, 0
  br i1 %writes, label %test, label %plain
test:
  %lines = call i64 @code_lines(ptr %s, i64 %hva)
  %free = icmp eq i64 %lines, 0
  br i1 %free, label %plain, label %guard
guard:
  %g = or i64 %low, %hva
  store i64 %g, ptr %fp
  store i64 0, ptr %hp
  call void @withdraw(ptr %t, i64 %key)
  br label %entered
plain:
  %f2 = phi i64 [ %f1, %put ], [ %low, %test ]
  store i64 %f2, ptr %fp
  store i64 %hva, ptr %hp
  %fetched = and i64 %how, {OF_FETCH}
  %data = icmp eq i64 %fetched, 0
  br i1 %data, label %quickly, label %entered
quickly:
  call void @fill(ptr %t, i64 %gva, i64 %how, i64 %hva)
  br label %entered
entered:
  %had = icmp ne i64 %before, 0
  %other = icmp ne i64 %before, %hva
  %w_moved = and i1 %had, %other
  %r_had = icmp ne i64 %read, 0
  %r_other = icmp ne i64 %read, %hva
  %r_moved = and i1 %r_had, %r_other
  %moved = or i1 %w_moved, %r_moved
  br i1 %moved, label %drop, label %out, !prof !1
drop:
  call void @drop_ranges(ptr %t)
  br label %out
out:
  ret void
}}
"""  # noqa: E501
"""Count a walk, and enter what it found. Whoever may write may read."""

_PAGES = f"""
define internal {{ i64, i64 }} @pages(ptr %s, i64 %gva, i64 %how, i64 %bytes) nounwind {{
  %xp = {field("tlb")}
  %t = load ptr, ptr %xp
  %inside = and i64 %gva, 4095
  %end = add i64 %inside, %bytes
  %crosses = icmp ugt i64 %end, 4096
  br i1 %crosses, label %two, label %one, !prof !1
one:
  %known = call i64 @cached(ptr %s, ptr %t, i64 %gva, i64 %how)
  %hit = icmp ne i64 %known, 0
  br i1 %hit, label %cached, label %miss
cached:
  %c0 = insertvalue {{ i64, i64 }} zeroinitializer, i64 %known, 0
  ret {{ i64, i64 }} %c0
miss:
  %r = call {{ i64, i64, i64 }} @walk(ptr %s, ptr %t, i64 %gva, i64 %how)
  %hva = extractvalue {{ i64, i64, i64 }} %r, 0
  %m0 = insertvalue {{ i64, i64 }} zeroinitializer, i64 %hva, 0
  %positive = icmp sgt i64 %hva, 0
  br i1 %positive, label %keep, label %out
keep:
  call void @remember(ptr %s, ptr %t, i64 %gva, i64 %how, {{ i64, i64, i64 }} %r)
  br label %out
out:
  ret {{ i64, i64 }} %m0
two:
  %ep = getelementptr i8, ptr %s, i64 {8 * SLOTS["efer"]}
  %efer = load i64, ptr %ep
  %lma = and i64 %efer, {EFER.LMA}
  %long = icmp ne i64 %lma, 0
  %wrap = select i1 %long, i64 -1, i64 4294967295
  %page = and i64 %gva, -4096
  %beyond = add i64 %page, 4096
  %next = and i64 %beyond, %wrap
  %r1 = call {{ i64, i64, i64 }} @walk(ptr %s, ptr %t, i64 %gva, i64 %how)
  %h1 = extractvalue {{ i64, i64, i64 }} %r1, 0
  %ok1 = icmp sgt i64 %h1, 0
  br i1 %ok1, label %second, label %first_only
first_only:
  %f0 = insertvalue {{ i64, i64 }} zeroinitializer, i64 %h1, 0
  ret {{ i64, i64 }} %f0
second:
  %r2 = call {{ i64, i64, i64 }} @walk(ptr %s, ptr %t, i64 %next, i64 %how)
  %h2 = extractvalue {{ i64, i64, i64 }} %r2, 0
  %ask = icmp eq i64 %h2, 0
  br i1 %ask, label %python, label %certain
python:
  ret {{ i64, i64 }} zeroinitializer
certain:
  call void @remember(ptr %s, ptr %t, i64 %gva, i64 %how, {{ i64, i64, i64 }} %r1)
  %ok2 = icmp sgt i64 %h2, 0
  br i1 %ok2, label %both, label %failed
failed:
  %x0 = insertvalue {{ i64, i64 }} zeroinitializer, i64 {FAILED}, 0
  ret {{ i64, i64 }} %x0
both:
  call void @remember(ptr %s, ptr %t, i64 %next, i64 %how, {{ i64, i64, i64 }} %r2)
  %b0 = insertvalue {{ i64, i64 }} undef, i64 %h1, 0
  %b1 = insertvalue {{ i64, i64 }} %b0, i64 %h2, 1
  ret {{ i64, i64 }} %b1
}}
"""
"""Host addresses of the page of `gva` and, if the access crosses into it, of the next.

The first is ASK where Python has to make the access, FAILED where it must not be made. An
access that crosses always walks, as the machine's own way of making it does.
"""


_FETCH = f"""
define dso_local i64 @fetch_page(ptr %s, i64 %gva, i64 %user) nounwind {{
  %xp = {field("tlb")}
  %t = load ptr, ptr %xp
  %p = xor i64 %user, 1
  %privilege = shl i64 %p, {PRIVILEGE_SHIFT}
  %how = or i64 %privilege, {OF_FETCH}
  %key = call i64 @key_of(i64 %gva, i64 %how)
  %e = call ptr @find(ptr %t, i64 %key)
  %hp = getelementptr i8, ptr %e, i64 8
  %known = load i64, ptr %hp
  %hit = icmp ne i64 %known, 0
  br i1 %hit, label %out, label %miss
miss:
  %r = call {{ i64, i64, i64 }} @walk(ptr %s, ptr %t, i64 %gva, i64 %how)
  %hva = extractvalue {{ i64, i64, i64 }} %r, 0
  %positive = icmp sgt i64 %hva, 0
  br i1 %positive, label %keep, label %out
keep:
  call void @remember(ptr %s, ptr %t, i64 %gva, i64 %how, {{ i64, i64, i64 }} %r)
  br label %out
out:
  %h = phi i64 [ %known, %0 ], [ %hva, %miss ], [ %hva, %keep ]
  ret i64 %h
}}
"""
"""Host address of the page that code at `gva` is fetched from, for user code or not; not
positive where Python has to find out."""
assert PRIVILEGES[:2] == (Privilege.USER, Privilege.SUPERVISOR)


def walks_text() -> str:
    """The module of everything about TLB misses, but for declarations and metadata."""
    return "\n".join(
        [
            "declare { i32, i64, i8 } @routine_translate(ptr, ptr, i64, i64, i8)",
            second_level_text(), _RAM, _WALK, _REMEMBER, _PAGES, _FETCH, slow_access_text(),
            ranges_text(), flushes_text(),
        ]
    )  # fmt: skip
