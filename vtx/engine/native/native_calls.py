"""Small native functions between Python and the algebra's routines, in LLVM text IR.

One makes the address space of the present tag the current one, one answers CPUID.
"""

from vtx.engine.native.context import CPUID_ENTRIES, TAG_ENTRIES
from vtx.engine.native.numbering import SERVICES
from vtx.engine.native.routines import copy_text
from vtx.engine.native.second_level import HASH, field
from vtx.isa.program import Service

_TAG_SHIFT = 64 - (TAG_ENTRIES.bit_length() - 1)
_CONTEXT = f"""
define dso_local i64 @context(ptr %s) nounwind {{
  %tlbp = {field("tlb")}
  %t = load ptr, ptr %tlbp
  %r = call {{ i32, i64, i64 }} @routine_native_tag(ptr %s, ptr %t, i64 0)
  %tag = extractvalue {{ i32, i64, i64 }} %r, 1
  %root = extractvalue {{ i32, i64, i64 }} %r, 2
  %mix = xor i64 %tag, %root
  %hash = mul i64 %mix, {HASH - (1 << 64)}
  %index = lshr i64 %hash, {_TAG_SHIFT}
  %offset = shl i64 %index, 5
  %tagsp = {field("tags")}
  %tags = load ptr, ptr %tagsp
  %e = getelementptr i8, ptr %tags, i64 %offset
  %et = load i64, ptr %e
  %rp = getelementptr i8, ptr %e, i64 8
  %er = load i64, ptr %rp
  %hp = getelementptr i8, ptr %e, i64 16
  %hva = load i64, ptr %hp
  %c1 = icmp eq i64 %et, %tag
  %c2 = icmp eq i64 %er, %root
  %c3 = icmp ne i64 %hva, 0
  %c4 = and i1 %c1, %c2
  %known = and i1 %c4, %c3
  br i1 %known, label %hit, label %ask
hit:
  store i64 %hva, ptr %tlbp
  ret i64 0
ask:
  %fp = {field("on_service")}
  %f = load ptr, ptr %fp
  %status = call i64 %f(i64 {SERVICES.index(Service.CONTEXT)})
  ret i64 %status
}}
"""
"""Service.CONTEXT: the translations of the present tag become the current ones."""


def tag_index(tag: int, root: int) -> int:
    """Where `context` looks for a tag."""
    return ((tag ^ root) * HASH & (1 << 64) - 1) >> _TAG_SHIFT


_CPUID_SHIFT = 64 - (CPUID_ENTRIES.bit_length() - 1)
_CPUID = f"""
define dso_local i64 @answer_cpuid(ptr %s) nounwind {{
  %ap = {field("argument0")}
  %leaf = load i64, ptr %ap
  %bp = {field("argument1")}
  %sub = load i64, ptr %bp
  %high = shl i64 %sub, 32
  %name = or i64 %high, %leaf
  %hash = mul i64 %name, {HASH - (1 << 64)}
  %index = lshr i64 %hash, {_CPUID_SHIFT}
  %offset = shl i64 %index, 5
  %tp = {field("cpuid")}
  %table = load ptr, ptr %tp
  %e = getelementptr i8, ptr %table, i64 %offset
  %en = load i64, ptr %e
  %vp = getelementptr i8, ptr %e, i64 24
  %valid = load i64, ptr %vp
  %c1 = icmp eq i64 %en, %name
  %c2 = icmp ne i64 %valid, 0
  %known = and i1 %c1, %c2
  br i1 %known, label %hit, label %ask
hit:
  %lp = getelementptr i8, ptr %e, i64 8
  %low = load i64, ptr %lp
  %hp = getelementptr i8, ptr %e, i64 16
  %upper = load i64, ptr %hp
  %eax = and i64 %low, 4294967295
  %ebx = lshr i64 %low, 32
  %ecx = and i64 %upper, 4294967295
  %edx = lshr i64 %upper, 32
  %cp = {field("argument2")}
  %dp = {field("argument3")}
  store i64 %eax, ptr %ap
  store i64 %ebx, ptr %bp
  store i64 %ecx, ptr %cp
  store i64 %edx, ptr %dp
  ret i64 0
ask:
  %fp = {field("on_service")}
  %f = load ptr, ptr %fp
  %status = call i64 %f(i64 {SERVICES.index(Service.CPUID)})
  ret i64 %status
}}
"""
"""Service.CPUID from the table of answers that Python has given before."""


def cpuid_index(leaf: int, subleaf: int) -> int:
    """Where `answer_cpuid` looks for an answer."""
    return ((leaf | subleaf << 32) * HASH & (1 << 64) - 1) >> _CPUID_SHIFT


def context_text() -> str:
    """The module of services, which every routine may call."""
    return "\n".join([copy_text("native_tag"), _CONTEXT, _CPUID])
