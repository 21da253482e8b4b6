"""What native code and Python tell each other as one number: accesses, services, walk levels.

Compiled code that is kept has these numbers in it. What they lead to is not known here.
"""

from vtx.isa.program import Access, Service
from vtx.machine.tlb import PRIVILEGES

PRIVILEGE_NUMBER = {privilege: n for n, privilege in enumerate(PRIVILEGES)}
"""Position of each privilege; tables have one part for each."""
OF_WRITE, OF_STACK, OF_FETCH, PRIVILEGE_SHIFT, SIZE_SHIFT = 1 << 8, 1 << 9, 1 << 12, 10, 16
"""How an access is told to a slow path: its width in bits 7:0, then these."""


def describe_access(access: Access, width: int) -> int:
    """An Access and a width as one number, for the slow paths."""
    number = (
        width | PRIVILEGE_NUMBER[access.privilege] << PRIVILEGE_SHIFT | access.size << SIZE_SHIFT
    )
    return number | OF_WRITE * access.write | OF_STACK * access.stack


def access_of(number: int) -> Access:
    """The inverse of `describe_access`."""
    privilege = PRIVILEGES[number >> PRIVILEGE_SHIFT & 3]
    return Access(bool(number & OF_WRITE), privilege, bool(number & OF_STACK), number >> SIZE_SHIFT)


_LEVELS = ("pml4e", "pdpte", "pde", "pte")
WALK_LEVELS = {
    name: number for number, name in enumerate((*_LEVELS, *(f"ept_{level}" for level in _LEVELS)))
}
"""Names of the levels of page walks, numbered."""
SERVICES = tuple(Service)
"""Services, numbered for native code."""
