"""The native functions that stencils and Python share: entering, leaving, physical memory.

Text only. How a slow path is answered is Python's business; the addresses of its functions
stand in the context.
"""

from vtx.engine.native.context import CONTEXT
from vtx.engine.native.flag_values import LAZY
from vtx.engine.native.forms import Form
from vtx.engine.native.helpers import HELPERS
from vtx.engine.native.stencil import PARAMETERS, TYPES, StencilBody
from vtx.engine.native.text import METADATA
from vtx.isa.layout import SLOTS


def _field(name: str) -> str:
    return f"getelementptr i8, ptr %s, i64 {8 * CONTEXT[name]}"


_ENTER = f"""
define dso_local i64 @enter(ptr %s) nounwind {{
  %bp = {_field("budget")}
  %bud = load i64, ptr %bp
  %tp = {_field("tlb")}
  %t = load ptr, ptr %tp
  %ep = {_field("entry")}
  %code = load ptr, ptr %ep
  %r = call preserve_nonecc i64 %code(ptr %s, i64 %bud, i64 0, i64 0, i64 0, i64 0, ptr %t,
                                      i64 0, i64 0)
  ret i64 %r
}}
"""

_LEAVE = f"""
define dso_local preserve_nonecc i64 @leave({PARAMETERS}) nounwind {{
  %bp = {_field("budget")}
  store i64 %bud, ptr %bp
  %rp = getelementptr i8, ptr %s, i64 {8 * SLOTS["rip"]}
  store i64 %rip, ptr %rp
  %lazy = icmp ne i64 %fk, 0
  br i1 %lazy, label %write, label %done
write:
  call void @materialise(ptr %s, i64 %fk, i64 %f0, i64 %f1, i64 %f2)
  br label %done
done:
  ret i64 %status
}}
"""


def _physical(name: str, field: str, table: str, parameters: str, arguments: str, fast: str) -> str:
    """An access to RAM by page if it lies in one, else through Python."""
    result = "void" if "store" in name else "i64"
    give = "  ret void" if result == "void" else "  ret i64 %v"
    slow = "  call i64 %f" if result == "void" else "  %w = call i64 %f"
    last = "  ret void" if result == "void" else "  ret i64 %w"
    return f"""
define dso_local {result} @{name}(ptr %s, {parameters}) nounwind {{
  %page = lshr i64 %hpa, 12
  %np = {_field("ram_pages")}
  %count = load i64, ptr %np
  %known = icmp ult i64 %page, %count
  br i1 %known, label %ram, label %slow, !prof !0
ram:
  %tp = {_field(table)}
  %table = load ptr, ptr %tp
  %ep = getelementptr i64, ptr %table, i64 %page
  %host = load i64, ptr %ep
  %present = icmp ne i64 %host, 0
  %inside = and i64 %hpa, 4095
  %bytes = lshr i64 %width, 3
  %end = add i64 %inside, %bytes
  %whole = icmp ule i64 %end, 4096
  %fast = and i1 %present, %whole
  br i1 %fast, label %hit, label %slow, !prof !0
hit:
  %place = add i64 %host, %inside
  %p = inttoptr i64 %place to ptr
  switch i64 %width, label %w64 [i64 8, label %w8 i64 16, label %w16 i64 32, label %w32]
{fast}
slow:
  %fp = {_field(field)}
  %f = load ptr, ptr %fp
{slow}({arguments})
{last}
out:
{give}
}}
"""


_LOADS = "".join(
    f"w{w}:\n  %x{w} = load i{w}, ptr %p, align 1\n"
    + (f"  %z{w} = zext i{w} %x{w} to i64\n" if w < 64 else "")
    + "  br label %out\n"
    for w in (8, 16, 32, 64)
)
_STORES = "".join(
    f"w{w}:\n"
    + (f"  %x{w} = trunc i64 %value to i{w}\n" if w < 64 else "")
    + f"  store i{w} {'%x' + str(w) if w < 64 else '%value'}, ptr %p, align 1\n  br label %out\n"
    for w in (8, 16, 32, 64)
)
_PHYSICAL_LOAD = _physical(
    "physical_load", "on_physical_load", "ram_read", "i64 %hpa, i64 %width",
    "i64 %hpa, i64 %width", _LOADS,
).replace("out:\n", "out:\n  %v = phi i64 [ %z8, %w8 ], [ %z16, %w16 ], [ %z32, %w32 ], "
          "[ %x64, %w64 ]\n")  # fmt: skip
_VOID = f"""slow:
  %vp = {_field("void")}
  %vn = load i64, ptr %vp
  %isvoid = icmp eq i64 %page, %vn
  %vinside = and i64 %hpa, 4095
  %vbytes = lshr i64 %width, 3
  %vend = add i64 %vinside, %vbytes
  %vwhole = icmp ule i64 %vend, 4096
  %nothing = and i1 %isvoid, %vwhole
  br i1 %nothing, label %void, label %ask
void:
  %shift = sub i64 64, %width
  %ones = lshr i64 -1, %shift
  ret i64 %ones
ask:
"""
_PHYSICAL_LOAD = _PHYSICAL_LOAD.replace("slow:\n", _VOID)
_PHYSICAL_STORE = _physical(
    "physical_store", "on_physical_store", "ram_write", "i64 %hpa, i64 %value, i64 %width",
    "i64 %hpa, i64 %value, i64 %width", _STORES,
)  # fmt: skip
_WALK_LOAD = f"""
define dso_local i64 @walk_load(ptr %s, i64 %hpa, i64 %width, i64 %level) nounwind {{
  %cp = {_field("walk_references")}
  %c = load i64, ptr %cp
  %d = add i64 %c, 1
  store i64 %d, ptr %cp
  %op = {_field("walk_observed")}
  %o = load i64, ptr %op
  %told = icmp ne i64 %o, 0
  br i1 %told, label %tell, label %load
tell:
  %fp = {_field("on_walk_load")}
  %f = load ptr, ptr %fp
  call i64 %f(i64 %hpa, i64 %level)
  br label %load
load:
  %v = call i64 @physical_load(ptr %s, i64 %hpa, i64 %width)
  ret i64 %v
}}
"""


def _materialise() -> str:
    """Write every lazy kind's flags to their slots."""
    body = StencilBody(Form((), (), (), False, True, True), None)
    kinds = range(1, len(LAZY) + 1)
    cases = " ".join(f"i64 {kind}, label %K{kind}" for kind in kinds)
    body.line(f"switch i64 %fk, label %none [{cases}]")
    for kind in kinds:
        body.place(f"K{kind}")
        body.write_flags_of(kind)
        body.line("ret void")
    body.place("none")
    body.line("ret void")
    head = (
        "define dso_local void @materialise(ptr %s, i64 %fk, i64 %f0, i64 %f1, i64 %f2) nounwind {"
    )
    return "\n".join([head, *body.function_lines(), "}"])


def runtime_text() -> str:
    """The module of everything here."""
    assert TYPES
    return "\n".join(
        [
            _ENTER, _LEAVE, _PHYSICAL_LOAD, _PHYSICAL_STORE, _WALK_LOAD, _materialise(),
            *HELPERS.values(), METADATA,
        ]
    )  # fmt: skip
