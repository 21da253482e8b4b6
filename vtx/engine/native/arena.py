"""Executable memory of the host, handed out from the start to the end.

It knows nothing of what is written into it. The memory is readable, writable and executable at
once, which Linux allows an ordinary process on x86-64 and AArch64. macOS on AArch64 would need
MAP_JIT, and pthread_jit_write_protect_np around every write; that is not done.
"""

import ctypes
import mmap
import platform
from collections.abc import Callable

FUNCTION_ALIGNMENT = 16

_FlushIcache = Callable[[int, int], None]


class ArenaError(Exception):
    """Executable memory that cannot be had or used so; the message is one line."""


class ArenaFullError(ArenaError):
    """No room is left; what was written before is untouched."""


class Arena:
    """`size` bytes of executable memory, rounded up to whole pages.

    `base` is the host virtual address of the first byte; `view` writes to any of them. The
    memory lives as long as the arena or a slice of `view`.
    """

    def __init__(self, size: int) -> None:
        """Raises ArenaError if the host gives no such memory."""
        if size <= 0:
            raise ArenaError(f"an arena of {size} bytes is not possible")
        self.size = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        try:
            self._memory = mmap.mmap(
                -1,
                self.size,
                flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS,
                prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC,
            )
        except (OSError, OverflowError) as error:
            raise ArenaError(f"no executable memory of {self.size} bytes: {error}") from None
        self.view = memoryview(self._memory)
        self.base: int = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        self.used = 0

    @property
    def room(self) -> int:
        """Bytes that are left, before alignment."""
        return self.size - self.used

    def allocate(self, size: int, alignment: int = FUNCTION_ALIGNMENT) -> int:
        """The offset of `size` fresh bytes. Raises ArenaFullError and then takes nothing."""
        offset = -(-self.used // alignment) * alignment
        if size < 0 or offset + size > self.size:
            raise ArenaFullError(f"{size} bytes of code do not fit the {self.room} left")
        self.used = offset + size
        return offset

    def append(self, code: bytes, alignment: int = FUNCTION_ALIGNMENT) -> int:
        """Copy `code` to fresh bytes and return their offset. Raises ArenaFullError."""
        offset = self.allocate(len(code), alignment)
        self.view[offset : offset + len(code)] = code
        return offset

    def write(self, offset: int, code: bytes) -> None:
        """Overwrite bytes that were handed out. Raises ArenaError outside them."""
        if not 0 <= offset <= self.used - len(code):
            raise ArenaError(f"{len(code)} bytes at {offset:#x} were not handed out")
        self.view[offset : offset + len(code)] = code

    def reset(self, used: int = 0) -> None:
        """Hand out again what lies from the offset `used`. Raises ArenaError above `used`."""
        if not 0 <= used <= self.used:
            raise ArenaError(f"cannot go back to {used:#x}: only {self.used:#x} bytes are in use")
        self.used = used

    def flush(self, offset: int, size: int) -> None:
        """Let the host's instruction fetch see `size` bytes written at `offset`."""
        flush_icache(self.base + offset, size)


def _no_flush(hva: int, size: int) -> None:
    """x86-64 keeps instruction fetch coherent (SDM 3A, Self-Modifying Code)."""


def _clear_cache(hva: int, size: int) -> None:
    """AArch64: the compiler runtime's function, of [hva, hva + size). Not run."""
    _runtime("__clear_cache")(ctypes.c_void_p(hva), ctypes.c_void_p(hva + size))


def _runtime(name: str) -> Callable[..., object]:
    """A function of this process or of the compiler's runtime. Raises ArenaError."""
    for library in (None, "libgcc_s.so.1"):
        try:
            function = getattr(ctypes.CDLL(library), name)
        except (OSError, AttributeError):
            continue
        function.restype = None
        return function  # type: ignore[no-any-return]
    raise ArenaError(f"this host has no {name}")


flush_icache: _FlushIcache = (
    _clear_cache if platform.machine() in ("aarch64", "arm64") else _no_flush
)
"""Called with a host virtual address and a size after code was written and before it runs."""
