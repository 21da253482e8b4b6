"""TLB misses answered by native code, in LLVM text IR: the second level of the TLB, and walks.

A miss of the table that stencils look into ends here. What the second level knows is entered
into the table; what it does not know is translated by the algebra's `translate`, as a native
routine. Python is asked only for what is not plain RAM, for pages that hold translated code,
where a walk is observed, and when the second level has to grow.
"""

from vtx.engine.native.context import (
    CONTEXT,
    FETCH_KEY,
    NO_TAG,
    TLB_COUNT,
    TLB_ENTRIES,
    TLB_LIMIT,
    TLB_MASK,
    TLB_SECOND,
)
from vtx.engine.native.numbering import OF_FETCH, OF_STACK, PRIVILEGE_SHIFT, SIZE_SHIFT
from vtx.engine.native.region_ranges import ranges_text
from vtx.isa.layout import SLOTS
from vtx.isa.program import Privilege
from vtx.machine import paging
from vtx.machine.code_watch import LINE_SHIFT
from vtx.machine.tlb import PRIVILEGES
from vtx.spec.registers import EFER

HASH = 0x9E37_79B9_7F4A_7C15
"""Key of the second level times this, bits 63:32, is where its search starts."""
ASK, FAILED = 0, -1
"""What `walk` returns instead of a host address."""
_ACCESS = {
    Privilege.USER: paging.USER, Privilege.SUPERVISOR: 0,
    Privilege.SUPERVISOR_AC: paging.AC_SUSPENDS, Privilege.SYSTEM: paging.IMPLICIT,
}  # fmt: skip
_ACCESS_BITS = sum(_ACCESS[privilege] << 8 * n for n, privilege in enumerate(PRIVILEGES))


def _field(name: str) -> str:
    return f"getelementptr i8, ptr %s, i64 {8 * CONTEXT[name]}"


def _signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number


_FIND = f"""
define internal ptr @find(ptr %t, i64 %key) nounwind {{
  %bp = getelementptr i8, ptr %t, i64 {TLB_SECOND}
  %base = load ptr, ptr %bp
  %mp = getelementptr i8, ptr %t, i64 {TLB_MASK}
  %mask = load i64, ptr %mp
  %product = mul i64 %key, {_signed(HASH)}
  %start = lshr i64 %product, 32
  br label %next
next:
  %n = phi i64 [ %start, %0 ], [ %n1, %other ]
  %index = and i64 %n, %mask
  %offset = shl i64 %index, 5
  %e = getelementptr i8, ptr %base, i64 %offset
  %known = load i64, ptr %e
  %found = icmp eq i64 %known, %key
  br i1 %found, label %out, label %test
test:
  %empty = icmp eq i64 %known, 0
  br i1 %empty, label %out, label %other
other:
  %n1 = add i64 %n, 1
  br label %next
out:
  ret ptr %e
}}
"""
"""The second level's entry of a key, or the empty one where it would be."""

_KEY = f"""
define internal i64 @key_of(i64 %gva, i64 %how) nounwind {{
  %page = lshr i64 %gva, 12
  %high = shl i64 %page, 3
  %p = lshr i64 %how, {PRIVILEGE_SHIFT}
  %q = and i64 %p, 3
  %low = shl i64 %q, 1
  %both = or i64 %high, %low
  %some = or i64 %both, 1
  %f = and i64 %how, {OF_FETCH}
  %fetch = shl i64 %f, {FETCH_KEY.bit_length() - OF_FETCH.bit_length()}
  %key = or i64 %some, %fetch
  ret i64 %key
}}
"""

_NOTICE = f"""
define internal i64 @code_lines(ptr %s, i64 %hva) nounwind {{
  %mp = {_field("memory")}
  %memory = load i64, ptr %mp
  %lp = {_field("code_lines")}
  %table = load ptr, ptr %lp
  %offset = sub i64 %hva, %memory
  %page = lshr i64 %offset, 12
  %ep = getelementptr i64, ptr %table, i64 %page
  %lines = load i64, ptr %ep
  ret i64 %lines
}}
define internal i64 @notice(ptr %s, i64 %hva, i64 %first, i64 %count) nounwind {{
  %lines = call i64 @code_lines(ptr %s, i64 %hva)
  %after = add i64 %first, %count
  %last = sub i64 %after, 1
  %l0 = lshr i64 %first, {LINE_SHIFT}
  %l1 = lshr i64 %last, {LINE_SHIFT}
  %below = shl i64 1, %l0
  %upto = shl i64 2, %l1
  %touched = sub i64 %upto, %below
  %both = and i64 %touched, %lines
  %none = icmp eq i64 %both, 0
  br i1 %none, label %quiet, label %tell, !prof !0
quiet:
  ret i64 0
tell:
  %fp = {_field("on_code")}
  %f = load ptr, ptr %fp
  %r = call i64 %f(i64 %hva, i64 %first, i64 %count)
  ret i64 %r
}}
"""
"""The lines of a page that hold translated code, as `machine.code_watch` has them, and what a
store to the page returns after it has been made."""

_WITHDRAW = f"""
define internal void @withdraw(ptr %t, i64 %key) nounwind {{
  %page = lshr i64 %key, 3
  %index = and i64 %page, {TLB_ENTRIES - 1}
  %p = lshr i64 %key, 1
  %q = and i64 %p, 3
  %first = mul i64 %q, {TLB_ENTRIES}
  %at = add i64 %first, %index
  %place = shl i64 %at, 5
  %tag = add i64 %place, 8
  %tp = getelementptr i8, ptr %t, i64 %tag
  store i64 {NO_TAG}, ptr %tp
  ret void
}}
"""
"""Stencils do not find the page of a key for writing any more."""

_FILL = f"""
define internal void @fill(ptr %t, i64 %gva, i64 %how, i64 %hva) nounwind {{
  %page = and i64 %gva, -4096
  %small = lshr i64 %gva, 12
  %index = and i64 %small, {TLB_ENTRIES - 1}
  %p = lshr i64 %how, {PRIVILEGE_SHIFT}
  %q = and i64 %p, 3
  %first = mul i64 %q, {TLB_ENTRIES}
  %at = add i64 %first, %index
  %offset = shl i64 %at, 5
  %e = getelementptr i8, ptr %t, i64 %offset
  %distance = sub i64 %hva, %page
  %dp = getelementptr i8, ptr %e, i64 16
  %old = load i64, ptr %dp
  %w = lshr i64 %how, 8
  %write = and i64 %w, 1
  %mine = shl i64 %write, 3
  %theirs = xor i64 %mine, 8
  %mp = getelementptr i8, ptr %e, i64 %mine
  %tp = getelementptr i8, ptr %e, i64 %theirs
  %tag = load i64, ptr %tp
  %same = icmp eq i64 %old, %distance
  %own = icmp eq i64 %tag, %page
  %keep = and i1 %same, %own
  %other = select i1 %keep, i64 %tag, i64 {NO_TAG}
  store i64 %other, ptr %tp
  store i64 %distance, ptr %dp
  store i64 %page, ptr %mp
  ret void
}}
"""
"""Let stencils find a page."""

_CACHED = """
define internal i64 @cached(ptr %s, ptr %t, i64 %gva, i64 %how) nounwind {
  %key = call i64 @key_of(i64 %gva, i64 %how)
  %e = call ptr @find(ptr %t, i64 %key)
  %w = lshr i64 %how, 8
  %write = and i64 %w, 1
  %field = shl i64 %write, 3
  %place = add i64 %field, 8
  %hp = getelementptr i8, ptr %e, i64 %place
  %hva = load i64, ptr %hp
  %known = icmp ne i64 %hva, 0
  br i1 %known, label %enter, label %miss
miss:
  %writes = icmp ne i64 %write, 0
  br i1 %writes, label %look, label %none
look:
  %fp = getelementptr i8, ptr %e, i64 24
  %flags = load i64, ptr %fp
  %guarded = and i64 %flags, -4096
  %may = icmp ne i64 %guarded, 0
  br i1 %may, label %test, label %none
test:
  %lines = call i64 @code_lines(ptr %s, i64 %guarded)
  %free = icmp eq i64 %lines, 0
  br i1 %free, label %release, label %out
release:
  %rest = and i64 %flags, 4095
  store i64 %rest, ptr %fp
  store i64 %guarded, ptr %hp
  br label %enter
enter:
  %page = phi i64 [ %hva, %0 ], [ %guarded, %release ]
  call void @fill(ptr %t, i64 %gva, i64 %how, i64 %page)
  br label %out
none:
  br label %out
out:
  %r = phi i64 [ %page, %enter ], [ %guarded, %test ], [ 0, %none ]
  ret i64 %r
}
"""
"""Host address of a page that the second level knows, or 0. One that holds translated code is
not entered into the table for writing."""

_RAM = f"""
define internal i64 @ram_of(ptr %s, i64 %hpa) nounwind {{
  %page = lshr i64 %hpa, 12
  %np = {_field("ram_pages")}
  %count = load i64, ptr %np
  %inside = icmp ult i64 %page, %count
  br i1 %inside, label %look, label %none
look:
  %tp = {_field("ram_read")}
  %table = load ptr, ptr %tp
  %ep = getelementptr i64, ptr %table, i64 %page
  %hva = load i64, ptr %ep
  %known = icmp ne i64 %hva, 0
  br i1 %known, label %out, label %ask, !prof !0
ask:
  %fp = {_field("on_page")}
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
  %op = {_field("walk_observed")}
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
  %rp = {_field("walk_references")}
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
  %bp = {_field("budget")}
  %bud = load i64, ptr %bp
  %r = call {{ i32, i64, i8 }} @routine_translate(ptr %s, ptr %t, i64 %bud, i64 %gva, i8 %bits)
  %status = extractvalue {{ i32, i64, i8 }} %r, 0
  %hpa = extractvalue {{ i32, i64, i8 }} %r, 1
  %flags = extractvalue {{ i32, i64, i8 }} %r, 2
  %bad = icmp ne i32 %status, 0
  br i1 %bad, label %fail, label %found
fail:
  %sp = {_field("failed")}
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
  %mp = {_field("walk_misses")}
  %m = load i64, ptr %mp
  %m1 = add i64 %m, 1
  store i64 %m1, ptr %mp
  %tp = {_field("walk_total")}
  %total = load i64, ptr %tp
  %total1 = add i64 %total, %references
  store i64 %total1, ptr %tp
  %lp = {_field("walk_least")}
  %least = load i64, ptr %lp
  %l1 = sub i64 %least, 1
  %r1 = sub i64 %references, 1
  %l2 = call i64 @llvm.umin.i64(i64 %l1, i64 %r1)
  %l3 = add i64 %l2, 1
  store i64 %l3, ptr %lp
  %gp = {_field("walk_most")}
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
  br label %put
put:
  %w = lshr i64 %how, 8
  %write = and i64 %w, 1
  %field = shl i64 %write, 3
  %place = add i64 %field, 8
  %hp = getelementptr i8, ptr %e, i64 %place
  %before = load i64, ptr %hp
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
  %moved = and i1 %had, %other
  br i1 %moved, label %drop, label %out, !prof !1
drop:
  call void @drop_ranges(ptr %t)
  br label %out
out:
  ret void
}}
"""  # noqa: E501
"""Count a walk, and enter what it found."""

_PAGES = f"""
define internal {{ i64, i64 }} @pages(ptr %s, i64 %gva, i64 %how, i64 %bytes) nounwind {{
  %xp = {_field("tlb")}
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


def _slow(name: str, result: str, parameters: str) -> str:
    return f"""
define dso_local preserve_mostcc {result} @{name}(ptr %s, {parameters}, i64 %how) noinline nounwind {{
  %width = and i64 %how, 255
"""  # noqa: E501


_FETCH = f"""
define dso_local i64 @fetch_page(ptr %s, i64 %gva, i64 %user) nounwind {{
  %xp = {_field("tlb")}
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

_SLOW_LOAD = (
    _slow("slow_load", "ptr", "i64 %gva")
    + f"""
  %bytes = lshr i64 %width, 3
  %r = call {{ i64, i64 }} @pages(ptr %s, i64 %gva, i64 %how, i64 %bytes)
  %h1 = extractvalue {{ i64, i64 }} %r, 0
  %h2 = extractvalue {{ i64, i64 }} %r, 1
  %native = icmp sgt i64 %h1, 0
  br i1 %native, label %ram, label %not, !prof !0
ram:
  %inside = and i64 %gva, 4095
  %place = add i64 %h1, %inside
  %p = inttoptr i64 %place to ptr
  %crosses = icmp ne i64 %h2, 0
  br i1 %crosses, label %bytewise, label %simple, !prof !1
simple:
  ret ptr %p
bytewise:
  %first = sub i64 4096, %inside
  %q = inttoptr i64 %h2 to ptr
  %rest = sub i64 %bytes, %first
  %value = {_field("scratch")}
  %upper = getelementptr i8, ptr %value, i64 %first
  call void @copy(ptr %value, ptr %p, i64 %first)
  call void @copy(ptr %upper, ptr %q, i64 %rest)
  ret ptr %value
not:
  %bad = icmp slt i64 %h1, 0
  br i1 %bad, label %fail, label %ask
fail:
  ret ptr null
ask:
  %fp = {_field("on_load")}
  %f = load ptr, ptr %fp
  %status = call i64 %f(i64 %gva, i64 %how)
  %ok = icmp eq i64 %status, 0
  %scratch = {_field("scratch")}
  %result = select i1 %ok, ptr %scratch, ptr null
  ret ptr %result
}}
"""
)

_COPY = """
define internal void @copy(ptr %to, ptr %from, i64 %count) nounwind {
  br label %next
next:
  %n = phi i64 [ 0, %0 ], [ %n1, %next ]
  %p = getelementptr i8, ptr %from, i64 %n
  %b = load volatile i8, ptr %p
  %q = getelementptr i8, ptr %to, i64 %n
  store volatile i8 %b, ptr %q
  %n1 = add i64 %n, 1
  %more = icmp ult i64 %n1, %count
  br i1 %more, label %next, label %out
out:
  ret void
}
"""
"""At least one byte. Volatile, lest it become a call of the C library's function."""

_SLOW_STORE = (
    _slow("slow_store", "i64", "i64 %gva, i64 %value")
    + f"""
  %bytes = lshr i64 %width, 3
  %r = call {{ i64, i64 }} @pages(ptr %s, i64 %gva, i64 %how, i64 %bytes)
  %h1 = extractvalue {{ i64, i64 }} %r, 0
  %h2 = extractvalue {{ i64, i64 }} %r, 1
  %native = icmp sgt i64 %h1, 0
  br i1 %native, label %ram, label %not, !prof !0
ram:
  %inside = and i64 %gva, 4095
  %place = add i64 %h1, %inside
  %p = inttoptr i64 %place to ptr
  %crosses = icmp ne i64 %h2, 0
  br i1 %crosses, label %bytewise, label %simple, !prof !1
simple:
  switch i64 %width, label %w64 [i64 8, label %w8 i64 16, label %w16 i64 32, label %w32]
w8:
  %x8 = trunc i64 %value to i8
  store i8 %x8, ptr %p, align 1
  br label %told
w16:
  %x16 = trunc i64 %value to i16
  store i16 %x16, ptr %p, align 1
  br label %told
w32:
  %x32 = trunc i64 %value to i32
  store i32 %x32, ptr %p, align 1
  br label %told
w64:
  store i64 %value, ptr %p, align 1
  br label %told
told:
  %left = call i64 @notice(ptr %s, i64 %h1, i64 %inside, i64 %bytes)
  ret i64 %left
bytewise:
  %first = sub i64 4096, %inside
  %q = inttoptr i64 %h2 to ptr
  %rest = sub i64 %bytes, %first
  %scratch = {_field("scratch")}
  store i64 %value, ptr %scratch
  %upper = getelementptr i8, ptr %scratch, i64 %first
  call void @copy(ptr %p, ptr %scratch, i64 %first)
  call void @copy(ptr %q, ptr %upper, i64 %rest)
  %left1 = call i64 @notice(ptr %s, i64 %h1, i64 %inside, i64 %first)
  %left2 = call i64 @notice(ptr %s, i64 %h2, i64 0, i64 %rest)
  %either = or i64 %left1, %left2
  ret i64 %either
not:
  %bad = icmp slt i64 %h1, 0
  br i1 %bad, label %fail, label %ask
fail:
  ret i64 -1
ask:
  %fp = {_field("on_store")}
  %f = load ptr, ptr %fp
  %status = call i64 %f(i64 %gva, i64 %value, i64 %how)
  ret i64 %status
}}
"""
)

_PROBE_PAGE = """
define internal i64 @probe_page(ptr %s, ptr %t, i64 %gva, i64 %how) nounwind {
  %known = call i64 @cached(ptr %s, ptr %t, i64 %gva, i64 %how)
  %hit = icmp ne i64 %known, 0
  br i1 %hit, label %out, label %miss
miss:
  %r = call { i64, i64, i64 } @walk(ptr %s, ptr %t, i64 %gva, i64 %how)
  %hva = extractvalue { i64, i64, i64 } %r, 0
  %positive = icmp sgt i64 %hva, 0
  br i1 %positive, label %keep, label %out
keep:
  call void @remember(ptr %s, ptr %t, i64 %gva, i64 %how, { i64, i64, i64 } %r)
  br label %out
out:
  %h = phi i64 [ %known, %0 ], [ %hva, %miss ], [ %hva, %keep ]
  ret i64 %h
}
"""

_SLOW_PROBE = (
    _slow("slow_probe", "i64", "i64 %gva")
    + f"""
  %xp = {_field("tlb")}
  %t = load ptr, ptr %xp
  %size = lshr i64 %how, {SIZE_SHIFT}
  %h1 = call i64 @probe_page(ptr %s, ptr %t, i64 %gva, i64 %how)
  %ok1 = icmp sgt i64 %h1, 0
  br i1 %ok1, label %second, label %not, !prof !0
second:
  %inside = and i64 %gva, 4095
  %end = add i64 %inside, %size
  %crosses = icmp ugt i64 %end, 4096
  br i1 %crosses, label %ask, label %good, !prof !1
good:
  ret i64 0
not:
  %bad = icmp slt i64 %h1, 0
  br i1 %bad, label %fail, label %ask
fail:
  ret i64 -1
ask:
  %fp = {_field("on_probe")}
  %f = load ptr, ptr %fp
  %status = call i64 %f(i64 %gva, i64 %how)
  ret i64 %status
}}
"""
)

_FORGET_LOCAL = f"""
define dso_local i64 @tlb_forget_local(ptr %t) nounwind {{
  %bp = getelementptr i8, ptr %t, i64 {TLB_SECOND}
  %base = load ptr, ptr %bp
  %mp = getelementptr i8, ptr %t, i64 {TLB_MASK}
  %mask = load i64, ptr %mp
  br label %next
next:
  %n = phi i64 [ 0, %0 ], [ %n1, %onward ]
  %offset = shl i64 %n, 5
  %e = getelementptr i8, ptr %base, i64 %offset
  %fp = getelementptr i8, ptr %e, i64 24
  %flags = load i64, ptr %fp
  %global = and i64 %flags, 1
  %keep = icmp ne i64 %global, 0
  br i1 %keep, label %onward, label %drop
drop:
  %rp = getelementptr i8, ptr %e, i64 8
  %wp = getelementptr i8, ptr %e, i64 16
  store i64 0, ptr %rp
  store i64 0, ptr %wp
  store i64 0, ptr %fp
  br label %onward
onward:
  %n1 = add i64 %n, 1
  %more = icmp ule i64 %n1, %mask
  br i1 %more, label %next, label %out
out:
  ret i64 0
}}
"""
"""Forget what the second level knows of pages that are not global."""

_FORGET_WRITES = f"""
define dso_local i64 @tlb_forget_writes(ptr %t, i64 %hva) nounwind {{
  %bp = getelementptr i8, ptr %t, i64 {TLB_SECOND}
  %base = load ptr, ptr %bp
  %mp = getelementptr i8, ptr %t, i64 {TLB_MASK}
  %mask = load i64, ptr %mp
  br label %next
next:
  %n = phi i64 [ 0, %0 ], [ %n1, %onward ]
  %offset = shl i64 %n, 5
  %e = getelementptr i8, ptr %base, i64 %offset
  %wp = getelementptr i8, ptr %e, i64 16
  %w = load i64, ptr %wp
  %meant = icmp eq i64 %w, %hva
  br i1 %meant, label %drop, label %onward
drop:
  store i64 0, ptr %wp
  %fp = getelementptr i8, ptr %e, i64 24
  %f = load i64, ptr %fp
  %g = or i64 %f, %hva
  store i64 %g, ptr %fp
  %key = load i64, ptr %e
  call void @withdraw(ptr %t, i64 %key)
  br label %onward
onward:
  %n1 = add i64 %n, 1
  %more = icmp ule i64 %n1, %mask
  br i1 %more, label %next, label %out
out:
  ret i64 0
}}
"""
"""Let nothing be written to a host page without notice."""


def walks_text() -> str:
    """The module of everything here, but for declarations and metadata."""
    return "\n".join(
        [
            "declare { i32, i64, i8 } @routine_translate(ptr, ptr, i64, i64, i8)",
            _NOTICE, _WITHDRAW, _KEY, _FIND, _FILL, _CACHED, _RAM, _WALK, _REMEMBER,
            _PAGES, _COPY, _FETCH, _SLOW_LOAD,
            _SLOW_STORE, _PROBE_PAGE, _SLOW_PROBE, _FORGET_LOCAL, _FORGET_WRITES, ranges_text(),
        ]
    )  # fmt: skip
