"""Accesses that the table in front of the TLB does not answer, in LLVM text IR.

They are made natively where the pages are plain RAM, also across a page boundary, and by Python
elsewhere. How pages are found is the business of `walks`.
"""

from vtx.engine.native.numbering import SIZE_SHIFT
from vtx.engine.native.second_level import field


def _slow(name: str, result: str, parameters: str) -> str:
    return f"""
define dso_local preserve_mostcc {result} @{name}(ptr %s, {parameters}, i64 %how) noinline nounwind {{
  %width = and i64 %how, 255
"""  # noqa: E501


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
  %value = {field("scratch")}
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
  %fp = {field("on_load")}
  %f = load ptr, ptr %fp
  %status = call i64 %f(i64 %gva, i64 %how)
  %ok = icmp eq i64 %status, 0
  %scratch = {field("scratch")}
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
  %scratch = {field("scratch")}
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
  %fp = {field("on_store")}
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
  %xp = {field("tlb")}
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
  %fp = {field("on_probe")}
  %f = load ptr, ptr %fp
  %status = call i64 %f(i64 %gva, i64 %how)
  ret i64 %status
}}
"""
)


def slow_access_text() -> str:
    """The functions of everything here."""
    return "\n".join([_COPY, _SLOW_LOAD, _SLOW_STORE, _PROBE_PAGE, _SLOW_PROBE])
