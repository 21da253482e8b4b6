"""What compiled code depends on besides its text: the host, the code generator, our sources.

Code that was kept is only used where all of this is the same. It is found out without loading
LLVM, which alone takes longer than everything a warm start does. What is kept is not known here.
"""

import platform
import sys
from collections.abc import Iterator
from functools import cache
from hashlib import blake2b
from importlib.util import find_spec
from pathlib import Path

from vtx.spec.tables import SpecError, tables_directory

_PACKAGE = Path(__file__).resolve().parents[2]
_SOURCES = ("engine", "isa", "machine", "spec", "vmx")
"""Packages of vtx whose sources decide what native code does, or how it talks to Python."""
_CPU_INFO = Path("/proc/cpuinfo")
_CPU_LINES = (
    "vendor_id", "cpu family", "model", "stepping", "flags",
    "CPU implementer", "CPU architecture", "CPU variant", "CPU part", "Features",
)  # fmt: skip


@cache
def identity() -> str:
    """One line: native code made under equal lines is exchangeable."""
    return f"{_python()} {_generator()} {_host()} {_digest_of_sources()}"


def _python() -> str:
    """What is kept contains Python's own compiled code."""
    return f"{sys.implementation.cache_tag} {sys.hexversion:x}"


def _generator() -> str:
    """Versions of the packages that make and read code, without importing the large ones."""
    return " ".join(f"{name} {_version_text(name)}" for name in ("llvmlite", "iced_x86"))


def _version_text(package: str) -> str:
    """A digest that changes with the installed version of `package`."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        return "absent"
    directory = Path(spec.origin).parent
    digest = blake2b(digest_size=8)
    for path in sorted(directory.parent.glob(f"{package}-*.dist-info")):
        digest.update(path.name.encode())
    digest.update(_content(directory / "_version.py"))
    return digest.hexdigest()


def _host() -> str:
    """The machine, and the CPU as far as a code generator looks at it."""
    return f"{sys.platform} {platform.machine()} {_cpu()}"


def _cpu() -> str:
    try:
        text = _CPU_INFO.read_text(encoding="ascii", errors="replace")
    except OSError:
        return _cpu_by_generator()
    first = text.split("\n\n", 1)[0]
    lines = [line for line in first.splitlines() if line.split("\t", 1)[0].strip() in _CPU_LINES]
    return blake2b("\n".join(lines).encode(), digest_size=8).hexdigest()


def _cpu_by_generator() -> str:
    """Hosts without a description of their CPU in a file: LLVM has to be asked."""
    from vtx.engine.native.compiler import CompileError, description

    try:
        return description()
    except CompileError:
        return "unknown"


def _digest_of_sources() -> str:
    digest = blake2b(digest_size=16)
    for path in _source_files():
        content = _content(path)
        digest.update(f"{path.name} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def _source_files() -> Iterator[Path]:
    for package in _SOURCES:
        yield from sorted((_PACKAGE / package).rglob("*.py"))
    try:
        yield from sorted(tables_directory().glob("*.toml"))
    except SpecError:
        return  # whoever needs a table will say so


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
