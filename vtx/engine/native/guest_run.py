"""VM entry, the guest's run and its VM exit in one native call, in LLVM text IR.

It is for a VMM that is not code of the machine: what VM entry finishes in, and what ends the run
otherwise than by a VM exit, is returned to Python. Blocks are run by `dispatch`, whose loop is
entered as if an instruction had just changed the mode; so it looks first at what may be due.
"""

from vtx.engine.native.context import CONTEXT, LEFT_EXIT, LEFT_OK, LEFT_RESYNC
from vtx.engine.native.routines import declaration
from vtx.engine.native.second_level import field
from vtx.engine.native.stencil import PARAMETERS
from vtx.engine.native.text import METADATA
from vtx.isa.key import VMX_NON_ROOT
from vtx.isa.layout import SLOTS
from vtx.spec import CONTROLS

ROUTINES = ("vmx_enter", "vm_exit", "native_key")


def _slot(name: str) -> str:
    return f"getelementptr i8, ptr %s, i64 {8 * SLOTS[name]}"


def _load(result: str, name: str) -> str:
    place = field(name) if name in CONTEXT else _slot(name)
    return f"  %p.{result} = {place}\n  %{result} = load i64, ptr %p.{result}\n"


def _store(value: str, name: str, label: str) -> str:
    place = field(name) if name in CONTEXT else _slot(name)
    return f"  %q.{label} = {place}\n  store i64 {value}, ptr %q.{label}\n"


_NOTHING = f"""
define internal preserve_nonecc i64 @nothing({PARAMETERS}) nounwind {{
  ret i64 {LEFT_RESYNC}
}}
"""
"""A block of no instructions."""

_ENTER_GUEST = f"""
define dso_local i64 @enter_guest(ptr %s) nounwind {{
{_load("before", "retired")}{_load("launch", "argument0")}{_load("most", "budget")}\
{_store("%before", "until", "until0")}{_store("0", "budget", "budget0")}  %tp = {field("tlb")}
  %t = load ptr, ptr %tp
  %launch8 = trunc i64 %launch to i8
  %e = call {{ i32, i8 }} @routine_vmx_enter(ptr %s, ptr %t, i64 0, i8 %launch8)
  %ended = extractvalue {{ i32, i8 }} %e, 0
  %status = extractvalue {{ i32, i8 }} %e, 1
  %wide = zext i8 %status to i64
{_store("%wide", "argument0", "result")}  %whole = icmp eq i32 %ended, 0
  br i1 %whole, label %entered, label %other
other:
  %how = zext i32 %ended to i64
  ret i64 %how
entered:
{_load("vmx", "vmx")}  %inside = icmp eq i64 %vmx, {VMX_NON_ROOT}
  br i1 %inside, label %time, label %root
time:
{_load("idle", "idle")}{_load("deadline", "preemption_deadline")}{_load("pin", "pin_controls")}\
  %timer = and i64 %pin, {CONTROLS.PREEMPTION_TIMER.mask}
  %timed = icmp ne i64 %timer, 0
  %now = add i64 %before, %idle
  %some = icmp ugt i64 %deadline, %now
  %left = sub i64 %deadline, %now
  %due = select i1 %some, i64 %left, i64 0
  %limited = select i1 %timed, i64 %due, i64 %most
  %budget = call i64 @llvm.umin.i64(i64 %limited, i64 %most)
  %until = add i64 %before, %budget
{_store("%until", "until", "until1")}{_store("%budget", "budget", "budget1")}\
{_store(str(VMX_NON_ROOT), "entered_vmx", "vmx")}  %ep = {field("entry")}
  store ptr @nothing, ptr %ep
  %long = icmp ugt i64 %budget, 1
  br i1 %long, label %run, label %unrun
unrun:
  ret i64 {LEFT_RESYNC}
run:
  %r = call i64 @run(ptr %s)
{_load("end", "until")}{_load("rest", "budget")}  %retired = sub i64 %end, %rest
{_store("%retired", "retired", "retired")}{_store("0", "argument0", "success")}\
  %exits = icmp eq i64 %r, {LEFT_EXIT}
  br i1 %exits, label %exit, label %leave
leave:
  ret i64 %r
exit:
  %gt = load ptr, ptr %tp
  %x = call {{ i32 }} @routine_vm_exit(ptr %s, ptr %gt, i64 %rest)
  %x0 = extractvalue {{ i32 }} %x, 0
{_store("0", "argument0", "exited")}  %complete = icmp eq i32 %x0, 0
  br i1 %complete, label %root, label %failed
failed:
  %why = zext i32 %x0 to i64
  ret i64 %why
root:
  %ht = load ptr, ptr %tp
  %kr = call {{ i32, i64 }} @routine_native_key(ptr %s, ptr %ht, i64 0)
  %number = extractvalue {{ i32, i64 }} %kr, 1
{_store("%number", "key", "key")}  ret i64 {LEFT_OK}
}}
"""
"""`enter_guest(state)`: argument0 is 1 for VMLAUNCH, 0 for VMRESUME; budget is how many
instructions may be run at most. The result is LEFT_OK with the CPU in VMX root operation and
argument0 the status of VM entry; or what the run, or one of the routines, was left by."""


def guest_run_text() -> str:
    """The module."""
    callees = "".join(declaration(name) for name in ROUTINES)
    head = "declare i64 @run(ptr)\ndeclare i64 @llvm.umin.i64(i64, i64)"
    return "\n".join([head, callees, _NOTHING, _ENTER_GUEST, METADATA])
