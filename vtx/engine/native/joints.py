"""The stencils that are no instruction: how blocks begin, and how they are left.

Where they are copied to, and what their holes are filled with, is not known here.
"""

from vtx.engine.native.context import CONTEXT, LEFT_BUDGET, LEFT_MISS
from vtx.engine.native.forms import ANY64, Form
from vtx.engine.native.stencil import ATTRIBUTES, PARAMETERS, PINNED, UNUSED, StencilBody

HEAD_TEXT = f"""
define dso_local preserve_nonecc i64 @head({PARAMETERS}) {ATTRIBUTES} {{
  %left = sub i64 %bud, ptrtoint (ptr @COUNT_slot to i64)
  %out = icmp slt i64 %left, 0
  br i1 %out, label %leave, label %on, !prof !1
on:
  %r = musttail call preserve_nonecc i64 @NEXT(ptr %s, i64 %left, i64 %fk, i64 %f0, i64 %f1, i64 %f2, ptr %t, {UNUSED})
  ret i64 %r
leave:
  %q = musttail call preserve_nonecc i64 @leave({PINNED}, i64 {LEFT_BUDGET}, i64 ptrtoint (ptr @H0_q to i64))
  ret i64 %q
}}
"""  # noqa: E501
"""How every block begins: is the budget enough for all of it? Holes: COUNT, H0 (its place)."""

EXIT_TEXT = f"""
define dso_local preserve_nonecc i64 @unlinked({PARAMETERS}) {ATTRIBUTES} {{
  %p = getelementptr i8, ptr %s, i64 {8 * CONTEXT["link"]}
  store i64 ptrtoint (ptr @LINK_s to i64), ptr %p
  %q = musttail call preserve_nonecc i64 @leave({PINNED}, i64 {LEFT_MISS}, i64 ptrtoint (ptr @H0_q to i64))
  ret i64 %q
}}
"""  # noqa: E501
"""Where a jump goes whose target is not translated. Holes: LINK (its number), H0 (target)."""


def through_cache_text(name: str) -> str:
    """A jump to a known place on another page, which the table of block entries finds."""
    hole = (ANY64,)
    form = Form((), (), hole, False, False, False)
    body = StencilBody(form, None)
    body.jump_through_cache("ptrtoint (ptr @H0_q to i64)")
    head = f"define dso_local preserve_nonecc i64 @{name}({PARAMETERS}) {ATTRIBUTES} {{"
    return "\n".join([head, *body.function_lines(), "}"])
