"""Helper functions of native code, in LLVM text IR: what is too long to repeat in every stencil.

A runtime object defines each helper once; every other module declares them. Helpers work on
64 bits (narrower operands are zero-extended, which changes neither result), touch no memory
and know nothing of the machine. Intrinsics need no declaration: LLVM's reader knows them.
"""

_ATTRIBUTES = "nounwind willreturn memory(none)"

_PDEP = f"""
define dso_local i64 @vtx_pdep(i64 %source, i64 %mask) {_ATTRIBUTES} {{
start:
  br label %test
test:
  %result = phi i64 [ 0, %start ], [ %result.next, %bit ]
  %bits = phi i64 [ %source, %start ], [ %bits.next, %bit ]
  %left = phi i64 [ %mask, %start ], [ %left.next, %bit ]
  %done = icmp eq i64 %left, 0
  br i1 %done, label %finish, label %bit
bit:
  %negated = sub i64 0, %left
  %place = and i64 %left, %negated
  %set = trunc i64 %bits to i1
  %deposit = select i1 %set, i64 %place, i64 0
  %result.next = or i64 %result, %deposit
  %bits.next = lshr i64 %bits, 1
  %left.next = xor i64 %left, %place
  br label %test
finish:
  ret i64 %result
}}
"""

_PEXT = f"""
define dso_local i64 @vtx_pext(i64 %source, i64 %mask) {_ATTRIBUTES} {{
start:
  br label %test
test:
  %result = phi i64 [ 0, %start ], [ %result.next, %bit ]
  %target = phi i64 [ 1, %start ], [ %target.next, %bit ]
  %left = phi i64 [ %mask, %start ], [ %left.next, %bit ]
  %done = icmp eq i64 %left, 0
  br i1 %done, label %finish, label %bit
bit:
  %negated = sub i64 0, %left
  %place = and i64 %left, %negated
  %chosen = and i64 %source, %place
  %clear = icmp eq i64 %chosen, 0
  %extract = select i1 %clear, i64 0, i64 %target
  %result.next = or i64 %result, %extract
  %target.next = shl i64 %target, 1
  %left.next = xor i64 %left, %place
  br label %test
finish:
  ret i64 %result
}}
"""

_DIVIDE = f"""
define dso_local i64 @vtx_divide(i64 %high, i64 %low, i64 %divisor) {_ATTRIBUTES} {{
start:
  br label %bit
bit:
  %count = phi i64 [ 0, %start ], [ %count.next, %bit ]
  %rest = phi i64 [ %high, %start ], [ %rest.next, %bit ]
  %digits = phi i64 [ %low, %start ], [ %digits.next, %bit ]
  %carry = icmp slt i64 %rest, 0
  %rest.twice = shl i64 %rest, 1
  %digit = lshr i64 %digits, 63
  %larger = or disjoint i64 %rest.twice, %digit
  %enough = icmp uge i64 %larger, %divisor
  %goes = or i1 %carry, %enough
  %less = sub i64 %larger, %divisor
  %rest.next = select i1 %goes, i64 %less, i64 %larger
  %digits.twice = shl i64 %digits, 1
  %one = zext i1 %goes to i64
  %digits.next = or disjoint i64 %digits.twice, %one
  %count.next = add i64 %count, 1
  %done = icmp eq i64 %count.next, 64
  br i1 %done, label %finish, label %bit
finish:
  ret i64 %digits.next
}}
"""
"""The quotient of high:low, which has to fit: high is less than the divisor. Bit by bit, for
hosts without an instruction for it."""

HELPERS: dict[str, str] = {"vtx_pdep": _PDEP, "vtx_pext": _PEXT, "vtx_divide": _DIVIDE}
"""Name of a helper -> its definition."""

_PARAMETERS = {"vtx_divide": "i64, i64, i64"}
DECLARATIONS = "".join(
    f"declare dso_local i64 @{name}({_PARAMETERS.get(name, 'i64, i64')}) {_ATTRIBUTES}\n"
    for name in HELPERS
)
"""What a module holds that calls helpers and does not define them."""
