"""The loop around blocks, in LLVM text IR: what can go on without Python does.

When a block is left because an instruction may have changed the mode, or ended in a fault or
software event, the event is delivered by the algebra's routines, and the block at the new RIP
is looked up for the key that holds then. Everything else is returned to Python: VM exits,
events that may be due, blocks that are not known. Nothing is fetched once the budget is used
up: the walk would set accessed flags before their time.
"""

from vtx.engine.native.between import BUSY, KEY_LEVEL_SHIFT, NOT_PLAIN, RESUMING
from vtx.engine.native.context import (
    BLOCK_ENTRIES,
    CACHE_LOG,
    CONTEXT,
    DIRECTORY_ENTRIES,
    JUMP_CACHE_ENTRIES,
    JUMP_CACHE_NEXT,
    JUMP_CACHE_USED,
    LEFT_BUDGET,
    LEFT_BY_MEMORY,
    LEFT_EXIT,
    LEFT_FAULT,
    LEFT_MISS,
    LEFT_RESYNC,
    LEFT_SOFTWARE_EVENT,
    SINGLE_ENTRIES,
)
from vtx.engine.native.routines import copy_text, declaration
from vtx.engine.native.second_level import HASH
from vtx.isa.layout import SLOTS
from vtx.spec.registers import RFLAGS

ROUTINES = ("deliver_fault", "deliver_software_event", "vm_exit", "native_key", "native_quiet")
_TAKEN_IN = ("native_key", "native_quiet")
"""Those that are run each time and call nothing."""
BLOCK_SHIFT = 64 - (BLOCK_ENTRIES.bit_length() - 1)
"""(instruction pointer ^ host address of its page) * HASH, shifted so, is a block's index."""
DIRECTORY_SHIFT = 64 - (DIRECTORY_ENTRIES.bit_length() - 1)
"""(key's number ^ address of the translations) * HASH, shifted so, is a directory's index."""


def _word(name: str) -> str:
    index = CONTEXT.get(name)
    return f"getelementptr i8, ptr %s, i64 {8 * (SLOTS[name] if index is None else index)}"


def _load(result: str, name: str) -> str:
    return f"  %p.{result} = {_word(name)}\n  %{result} = load i64, ptr %p.{result}\n"


_RUN = f"""
define dso_local i64 @run(ptr %s) nounwind {{
  %keyp = {_word("key")}
  %rfp = {_word("rflags")}
  %nxp = {_word("interruptibility_next")}
  %rep = {_word("resume_flag")}
  %tlbp = {_word("tlb")}
  %budp = {_word("budget")}
  %untp = {_word("until")}
  %retp = {_word("retired")}
  %jcp = {_word("jump_cache")}
  br label %enter
enter:
  %one = phi i64 [ 0, %0 ], [ 0, %go ], [ %before, %alone ]
  %entered = load i64, ptr %budp
  %r = call i64 @enter(ptr %s)
  switch i64 %r, label %other [
    i64 {LEFT_RESYNC}, label %between
    i64 {LEFT_FAULT}, label %deliver
    i64 {LEFT_SOFTWARE_EVENT}, label %deliver
    i64 {LEFT_BY_MEMORY}, label %failed
    i64 {LEFT_EXIT}, label %deliver
    i64 {LEFT_MISS}, label %missed
    i64 {LEFT_BUDGET}, label %missed
  ]
other:
  call void @end_single(ptr %s, i64 %one)
  ret i64 %r
missed:
  %single = icmp ne i64 %one, 0
  br i1 %single, label %whole, label %elsewhere
elsewhere:
  %linkp0 = {_word("link")}
  %link = load i64, ptr %linkp0
  %now0 = load i64, ptr %budp
  %moved = icmp ne i64 %now0, %entered
  %unlinked = icmp eq i64 %link, 0
  %ismiss = icmp eq i64 %r, {LEFT_MISS}
  %f0a = and i1 %moved, %unlinked
  %f1a = and i1 %f0a, %ismiss
  br i1 %f1a, label %between, label %other
whole:
  %unspent = load i64, ptr %budp
  %skipped = icmp ne i64 %unspent, 0
  br i1 %skipped, label %again_alone, label %between
again_alone:
  %held = load i64, ptr %rep
  %heldbit = shl i64 %held, {RFLAGS.RF.bit_length() - 1}
  %without = load i64, ptr %rfp
  %with = or i64 %without, %heldbit
  store i64 %with, ptr %rfp
  call void @end_single(ptr %s, i64 %one)
  ret i64 {LEFT_RESYNC}
failed:
{_load("how", "failed")}  br label %deliver
deliver:
  %ended = phi i64 [ %r, %enter ], [ %r, %enter ], [ %r, %enter ], [ %how, %failed ], \
[ %how2, %again ]
  %left = load i64, ptr %budp
  %until = load i64, ptr %untp
  %retired = sub i64 %until, %left
  store i64 %retired, ptr %retp
  %t = load ptr, ptr %tlbp
  switch i64 %ended, label %exits [
    i64 {LEFT_FAULT}, label %fault
    i64 {LEFT_SOFTWARE_EVENT}, label %software
  ]
exits:
{_load("native", "native_root")}  %own = icmp ne i64 %native, 0
  br i1 %own, label %exit, label %leave
leave:
  call void @give_back(ptr %s, i64 %one)
  ret i64 %ended
exit:
  %x = call {{ i32 }} @routine_vm_exit(ptr %s, ptr %t, i64 %left)
  %x0 = extractvalue {{ i32 }} %x, 0
  br label %delivered
fault:
  %f = call {{ i32 }} @routine_deliver_fault(ptr %s, ptr %t, i64 %left)
  %f0 = extractvalue {{ i32 }} %f, 0
  br label %delivered
software:
  %e = call {{ i32 }} @routine_deliver_software_event(ptr %s, ptr %t, i64 %left)
  %e0 = extractvalue {{ i32 }} %e, 0
  br label %delivered
delivered:
  %d = phi i32 [ %f0, %fault ], [ %e0, %software ], [ %x0, %exit ]
  %now = load i64, ptr %retp
  %rest = sub i64 %until, %now
  store i64 %rest, ptr %budp
  %dw = zext i32 %d to i64
  %complete = icmp eq i32 %d, 0
  br i1 %complete, label %between, label %again
again:
  %memory = icmp eq i64 %dw, {LEFT_BY_MEMORY}
{_load("how1", "failed")}  %how2 = select i1 %memory, i64 %how1, i64 %dw
  br label %deliver
between:
  call void @end_single(ptr %s, i64 %one)
{_load("attention", "attention")}{_load("calm", "calm")}{_load("vmx", "entered_vmx")}\
{_load("blocking", "entered_blocking")}  %ct = load ptr, ptr %tlbp
  %qr = call {{ i32, i64 }} @routine_native_quiet(ptr %s, ptr %ct, i64 0, i64 %calm, i64 %vmx, \
i64 %blocking)
  %quiet = extractvalue {{ i32, i64 }} %qr, 1
  %busy = icmp eq i64 %quiet, {BUSY}
  %told = icmp ne i64 %attention, 0
  %python = or i1 %busy, %told
  br i1 %python, label %settle, label %key
settle:
  ret i64 {LEFT_RESYNC}
key:
  %kr = call {{ i32, i64 }} @routine_native_key(ptr %s, ptr %ct, i64 0)
  %number = extractvalue {{ i32, i64 }} %kr, 1
  store i64 %number, ptr %keyp
  %plain = icmp ne i64 %number, {NOT_PLAIN}
  br i1 %plain, label %look, label %settle
look:
  %tn = ptrtoint ptr %ct to i64
  %mix = xor i64 %tn, %number
  %hash = mul i64 %mix, {HASH - (1 << 64)}
  %index = lshr i64 %hash, {DIRECTORY_SHIFT}
  %offset = shl i64 %index, 5
  %dirp = {_word("directory")}
  %dir = load ptr, ptr %dirp
  %entry = getelementptr i8, ptr %dir, i64 %offset
  %et = load i64, ptr %entry
  %nump = getelementptr i8, ptr %entry, i64 8
  %en = load i64, ptr %nump
  %st = icmp eq i64 %et, %tn
  %sn = icmp eq i64 %en, %number
  %known = and i1 %st, %sn
  br i1 %known, label %cached, label %unknown
cached:
  %cachep = getelementptr i8, ptr %entry, i64 16
  %cache = load i64, ptr %cachep
{_load("rip", "rip")}  %folded = lshr i64 %rip, 12
  %xored = xor i64 %folded, %rip
  %slot = and i64 %xored, {JUMP_CACHE_ENTRIES - 1}
  %resuming = icmp eq i64 %quiet, {RESUMING}
  %singles = select i1 %resuming, i64 {16 * JUMP_CACHE_ENTRIES}, i64 0
  %few = and i64 %slot, {SINGLE_ENTRIES - 1}
  %which = select i1 %resuming, i64 %few, i64 %slot
  %at = shl i64 %which, 4
  %base = add i64 %cache, %singles
  %place = add i64 %base, %at
  %je = inttoptr i64 %place to ptr
  %jip = load i64, ptr %je
  %hit = icmp eq i64 %jip, %rip
  %codep = getelementptr i8, ptr %je, i64 8
  br i1 %hit, label %found, label %search
search:
  br i1 %resuming, label %unknown, label %due
due:
  %remaining = load i64, ptr %budp
  %goes_on = icmp sgt i64 %remaining, 0
  br i1 %goes_on, label %fetch, label %settle
fetch:
  %levels = lshr i64 %number, {KEY_LEVEL_SHIFT}
  %level = and i64 %levels, 3
  %isuser = icmp eq i64 %level, 3
  %user = zext i1 %isuser to i64
  %page = call i64 @fetch_page(ptr %s, i64 %rip, i64 %user)
  %real = icmp sgt i64 %page, 0
  br i1 %real, label %block, label %unknown
block:
  %bmix = xor i64 %rip, %page
  %bhash = mul i64 %bmix, {HASH - (1 << 64)}
  %bindex = lshr i64 %bhash, {BLOCK_SHIFT}
  %boffset = shl i64 %bindex, 5
  %blocksp = {_word("blocks")}
  %blocks = load ptr, ptr %blocksp
  %be = getelementptr i8, ptr %blocks, i64 %boffset
  %bip = load i64, ptr %be
  %bpp = getelementptr i8, ptr %be, i64 8
  %bpage = load i64, ptr %bpp
  %bnp = getelementptr i8, ptr %be, i64 16
  %bnumber = load i64, ptr %bnp
  %b1 = icmp eq i64 %bip, %rip
  %b2 = icmp eq i64 %bpage, %page
  %b3 = icmp eq i64 %bnumber, %number
  %b12 = and i1 %b1, %b2
  %b123 = and i1 %b12, %b3
  br i1 %b123, label %translated, label %unknown
translated:
  %bcp = getelementptr i8, ptr %be, i64 24
  %bcode = load i64, ptr %bcp
  store i64 %rip, ptr %je
  store i64 %bcode, ptr %codep
  %used = add i64 %cache, {JUMP_CACHE_USED}
  %usedp = inttoptr i64 %used to ptr
  %count = load i64, ptr %usedp
  %most = call i64 @llvm.umin.i64(i64 %count, i64 {CACHE_LOG})
  %count1 = add i64 %most, 1
  store i64 %count1, ptr %usedp
  %listed = icmp ult i64 %count, {CACHE_LOG}
  br i1 %listed, label %list, label %found
list:
  %logs = shl i64 %count, 3
  %logged = add i64 %cache, %logs
  %logat = add i64 %logged, {JUMP_CACHE_NEXT + 8}
  %logp = inttoptr i64 %logat to ptr
  store i64 %place, ptr %logp
  br label %found
found:
  %code = load i64, ptr %codep
  %entp = {_word("entry")}
  store i64 %code, ptr %entp
  br i1 %resuming, label %resume, label %go
go:
  store i64 %cache, ptr %jcp
  br label %enter
resume:
  %before = load i64, ptr %budp
  %room = icmp sgt i64 %before, 0
  br i1 %room, label %alone, label %settle
alone:
  %nowhere = {_word("nowhere")}
  %none = load i64, ptr %nowhere
  store i64 %none, ptr %jcp
  %rf = load i64, ptr %rfp
  %norf = and i64 %rf, {~RFLAGS.RF}
  store i64 %norf, ptr %rfp
  %rfbit = lshr i64 %rf, {RFLAGS.RF.bit_length() - 1}
  %resumed = and i64 %rfbit, 1
  store i64 %resumed, ptr %rep
  store i64 0, ptr %nxp
  %all = load i64, ptr %untp
  %others = sub i64 %before, 1
  %next_only = sub i64 %all, %others
  store i64 %next_only, ptr %untp
  store i64 1, ptr %budp
  br label %enter
unknown:
  %linkp = {_word("link")}
  store i64 0, ptr %linkp
  %resuming2 = icmp eq i64 %quiet, {RESUMING}
  br i1 %resuming2, label %settle, label %miss
miss:
  ret i64 {LEFT_MISS}
}}

define internal void @end_single(ptr %s, i64 %before) nounwind {{
  %single = icmp ne i64 %before, 0
  br i1 %single, label %end, label %out
end:
  %rep = {_word("resume_flag")}
  store i64 0, ptr %rep
  %nxp = {_word("interruptibility_next")}
  %next = load i64, ptr %nxp
  store i64 0, ptr %nxp
{_load("now", "budget")}  call void @give_back(ptr %s, i64 %before)
  %retired = icmp eq i64 %now, 0
  br i1 %retired, label %passed, label %out
passed:
  %blp = {_word("interruptibility")}
  %blocking = load i64, ptr %blp
  %kept = and i64 %blocking, -4
  %new = or i64 %kept, %next
  store i64 %new, ptr %blp
  br label %out
out:
  ret void
}}
"""
"""`run(state)`: as `enter`, but it goes on while it can. `end_single` is what follows one
instruction that was run alone, out of so much budget; see `Boundary.step`."""
_GIVE_BACK = f"""
define internal void @give_back(ptr %s, i64 %before) nounwind {{
  %single = icmp ne i64 %before, 0
  br i1 %single, label %more, label %out
more:
  %others = sub i64 %before, 1
{_load("budget", "budget")}  %b = add i64 %budget, %others
  store i64 %b, ptr %p.budget
{_load("until", "until")}  %u = add i64 %until, %others
  store i64 %u, ptr %p.until
  br label %out
out:
  ret void
}}
"""
"""The budget that was withheld from an instruction that was run alone."""


def dispatch_text() -> str:
    """The module of everything here, but for declarations and metadata."""
    callees = "\n".join(
        copy_text(name) if name in _TAKEN_IN else declaration(name) for name in ROUTINES
    )
    return "\n".join(
        [
            "declare i64 @enter(ptr)\ndeclare i64 @fetch_page(ptr, i64, i64)",
            callees,
            _RUN,
            _GIVE_BACK,
        ]
    )
