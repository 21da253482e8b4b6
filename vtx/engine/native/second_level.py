"""The second level of the TLB in LLVM text IR: finding, entering and forgetting translations.

It is a hash table that forgets only what is flushed; in front of it lies the table that stencils
look into. How translations are made is not known.
"""

from vtx.engine.native.context import CONTEXT, FETCH_KEY, NO_TAG, TLB_ENTRIES, TLB_MASK, TLB_SECOND
from vtx.engine.native.numbering import OF_FETCH, PRIVILEGE_SHIFT
from vtx.machine.code_watch import LINE_SHIFT

HASH = 0x9E37_79B9_7F4A_7C15
"""Key of the second level times this, bits 63:32, is where its search starts."""


def field(name: str) -> str:
    return f"getelementptr i8, ptr %s, i64 {8 * CONTEXT[name]}"


def signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number


_FIND = f"""
define internal ptr @find(ptr %t, i64 %key) nounwind {{
  %bp = getelementptr i8, ptr %t, i64 {TLB_SECOND}
  %base = load ptr, ptr %bp
  %mp = getelementptr i8, ptr %t, i64 {TLB_MASK}
  %mask = load i64, ptr %mp
  %product = mul i64 %key, {signed(HASH)}
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
  %mp = {field("memory")}
  %memory = load i64, ptr %mp
  %lp = {field("code_lines")}
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
  %fp = {field("on_code")}
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
  %writes = icmp ne i64 %write, 0
  %kept = select i1 %keep, i64 %tag, i64 {NO_TAG}
  %other = select i1 %writes, i64 %page, i64 %kept
  store i64 %other, ptr %tp
  store i64 %distance, ptr %dp
  store i64 %page, ptr %mp
  ret void
}}
"""
"""Let stencils find a page; one that is found for writing is found for reading."""

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


def second_level_text() -> str:
    """The functions of everything here."""
    return "\n".join(
        [_NOTICE, _WITHDRAW, _KEY, _FIND, _FILL, _CACHED, _FORGET_LOCAL, _FORGET_WRITES]
    )
