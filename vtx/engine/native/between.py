"""What native code has to know between two instructions, written in the algebra.

`native_key` numbers the translation keys, `native_quiet` says whether the next instruction may
simply be run: whether nothing of what `engine.boundary` looks at is due. They repeat the rules
of `isa.key` and `engine.boundary`, which stay the authority; whatever is not plain here is left
to them.
"""

from vtx.engine import boundary
from vtx.isa.builder import Builder, Value, routine_
from vtx.isa.key import AR_D, AR_L, AR_UNUSABLE, VMX_NON_ROOT, Key
from vtx.isa.task_switch import PENDING_TASK_TRAP
from vtx.machine.cpu import ENABLE_EPT, ENABLE_VPID, SECONDARY
from vtx.spec import CONTROLS
from vtx.spec.registers import CR0, CR4, EFER, RFLAGS

KEY_LEVEL_SHIFT = 11
"""Where the CPL stands in a number of a key, for 64-bit code and others alike."""
NOT_PLAIN = 0
"""What `native_key` returns where a key alone does not say which blocks may run."""
BUSY, QUIET, RESUMING = range(3)
"""Something may be due; nothing is; nothing is, but what follows has to be run alone, since
RFLAGS.RF or the shadow of STI or MOV SS holds for one instruction."""

_WATCHED_CONTROLS = (
    CONTROLS.MONITOR_TRAP_FLAG.mask
    | CONTROLS.INTERRUPT_WINDOW_EXITING.mask
    | CONTROLS.NMI_WINDOW_EXITING.mask
)
_TIMER = CONTROLS.PREEMPTION_TIMER.mask
_STI_OR_MOV_SS = boundary.BLOCKING_STI | boundary.BLOCKING_MOV_SS
_TRAPS = 1 << 12 | boundary.PENDING_BS | 1 << 16 | PENDING_TASK_TRAP


def _set(b: Builder, slot: str, bits: int) -> Value:
    return (b.get(slot) & bits) != 0


def _flat(b: Builder, segment: str) -> Value:
    rights = b.get(f"{segment}_ar")
    kinds, kind = (0xA, 0xA) if segment == "cs" else (0xE, 0x2)
    return b.all_of(
        b.get(f"{segment}_base") == 0,
        b.get(f"{segment}_limit") == 0xFFFF_FFFF,
        (rights & (AR_UNUSABLE | kinds)) == kind,
    )


@routine_(results=(64,))
def native_key(b: Builder) -> None:
    """A number for the present translation key: equal numbers mean equal keys."""
    protected, long = _set(b, "cr0", CR0.PE), _set(b, "efer", EFER.LMA)
    v86 = protected & _set(b, "rflags", RFLAGS.VM)
    wide = long & _set(b, "cs_ar", AR_L)
    size = wide.select(b.const(64, 2), _set(b, "cs_ar", AR_D).zext(64))
    stack = wide.select(b.const(64, 2), _set(b, "ss_ar", AR_D).zext(64))
    level = protected.select((b.get("ss_ar") >> 5) & 3, b.const(64, 0))
    level = v86.select(b.const(64, 3), level)
    user, checks = level == 3, _set(b, "rflags", RFLAGS.AC)
    suspended = _set(b, "cr4", CR4.SMAP) & checks & ~user
    aligned = user & _set(b, "cr0", CR0.AM) & checks
    number: Value = b.const(64, 1)
    for value, width in (
        (size, 2), (stack, 2), (level, 2), (b.get("vmx"), 2), (protected.zext(64), 1),
        (v86.zext(64), 1), (long.zext(64), 1), (suspended.zext(64), 1), (aligned.zext(64), 1),
    ):  # fmt: skip
        number = number << width | value
    with b.if_(wide):
        b.return_(number << 4)
    for segment in ("ds", "ss", "cs", "es"):
        number = number << 1 | _flat(b, segment).zext(64)
    b.return_(_flat(b, "cs").select(number, b.const(64, NOT_PLAIN)))


@routine_(results=(64, 64))
def native_tag(b: Builder) -> None:
    """The TLB tag of the present state: VPID << 12 | PCID, and the EPT root."""
    none = b.const(64, 0)
    non_root = (b.get("vmx") == VMX_NON_ROOT) & _set(b, "proc_controls", SECONDARY)
    tagged = non_root & _set(b, "proc2_controls", ENABLE_VPID)
    nested = non_root & _set(b, "proc2_controls", ENABLE_EPT)
    contexts = _set(b, "cr4", CR4.PCIDE) & _set(b, "cr0", CR0.PG)
    vpid = tagged.select(b.get("vpid"), none)
    pcid = contexts.select(b.get("cr3") & 0xFFF, none)
    root = nested.select(b.get("eptp") & ~0xFFF, none)
    b.return_(vpid << 12 | pcid, root)


@routine_(64, 64, 64, results=(64,))
def native_quiet(b: Builder, calm: Value, vmx: Value, blocking: Value) -> None:
    """BUSY, QUIET or RESUMING.

    `calm`: no event was waiting when `boundary` last looked, not even one that is held back.
    `vmx` and `blocking` are what VMX operation and interruptibility were then; since then no
    device was touched.
    """
    timed = (b.get("vmx") == VMX_NON_ROOT) & _set(b, "pin_controls", _TIMER)
    moved = (b.get("vmx") != vmx) & ((calm == 0) | timed)
    window = (b.get("vmx") == VMX_NON_ROOT) & _set(b, "proc_controls", _WATCHED_CONTROLS)
    held = (b.get("rflags") & RFLAGS.IF) == 0
    same_blocking = b.get("interruptibility") == blocking
    busy = b.any_of(
        b.get("stop") != 0, b.get("activity") != 0, b.get("event_valid") != 0,
        b.get("mtf_pending") != 0, b.get("tpr_below_threshold") != 0,
        _set(b, "pending_debug", _TRAPS), _set(b, "dr7", 0xFF), _set(b, "rflags", RFLAGS.TF),
        window, moved, (calm == 0) & ~(held & same_blocking),
    )  # fmt: skip
    with b.if_(busy):
        b.return_(b.const(64, BUSY))
    alone = b.any_of(
        _set(b, "rflags", RFLAGS.RF), _set(b, "interruptibility", _STI_OR_MOV_SS),
        b.get("interruptibility_next") != 0,
    )  # fmt: skip
    b.return_(alone.select(b.const(64, RESUMING), b.const(64, QUIET)))


def number_of(key: Key) -> int:
    """What `native_key` returns for a state with this key, where CS is flat."""
    number = 1
    sizes = {16: 0, 32: 1, 64: 2}
    for value, width in (
        (sizes[key.bits], 2), (sizes[key.stack], 2), (key.cpl, 2), (key.vmx, 2),
        (key.protected, 1), (key.v86, 1), (key.long, 1), (key.ac, 1), (key.align, 1),
        (key.flat, 4),
    ):  # fmt: skip
        number = number << width | value
    return number
