"""Booting images: from a file's bytes to filled memory and a CPU state as data."""

from vtx.machine.loader.boot import load_image
from vtx.machine.loader.boot_state import BootState, SegmentState, TableRegister
from vtx.machine.loader.errors import ImageError
from vtx.machine.loader.symbols import LineTable, SourceLine, Symbol, SymbolTable

__all__ = [
    "BootState",
    "ImageError",
    "LineTable",
    "SegmentState",
    "SourceLine",
    "Symbol",
    "SymbolTable",
    "TableRegister",
    "load_image",
]
