"""Reading an ELF executable into plain values.

Only the file's own rules are checked here; whether the image fits a machine is for the
loader. Whatever bytes come in, the only thing raised is ImageError.
Source: System V ABI, ELF Header and Program Header.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, Literal

from elftools.elf.elffile import ELFFile

from vtx.machine.loader.errors import ImageError

ELF_MAGIC = b"\x7fELF"
MAX_SEGMENTS = 1024


@dataclass(frozen=True, slots=True)
class Segment:
    """A loadable segment: `data` goes to `paddr`, the rest up to `memsz` bytes is zero."""

    vaddr: int
    paddr: int
    memsz: int
    data: bytes


@dataclass(frozen=True, slots=True)
class ElfImage:
    """A fixed-address x86 executable. `notes` holds the contents of its note segments."""

    bits: Literal[32, 64]
    entry: int
    segments: tuple[Segment, ...]
    notes: tuple[bytes, ...]

    def physical_entry(self) -> int | None:
        """Where the entry point is once loaded: translated if it is a virtual address of a
        segment, unchanged if it already is a physical one, None if it is in no segment."""
        for segment in self.segments:
            if segment.vaddr <= self.entry < segment.vaddr + segment.memsz:
                return self.entry - segment.vaddr + segment.paddr
        for segment in self.segments:
            if segment.paddr <= self.entry < segment.paddr + segment.memsz:
                return self.entry
        return None


def read_elf(image: bytes, name: str) -> ElfImage:
    """Read `image`, called `name` in errors; ImageError says what is wrong with it."""
    if not image:
        raise ImageError(name, "the file is empty")
    if not image.startswith(ELF_MAGIC):
        raise ImageError(name, "not an ELF file (it does not start with 7f 45 4c 46)")
    try:
        elf = ELFFile(io.BytesIO(image))
        return _read(elf, image, name)
    except ImageError:
        raise
    except Exception as error:  # pyelftools raises many kinds on damaged files
        what = str(error) or type(error).__name__
        raise ImageError(name, f"damaged or truncated ELF file ({what})") from None


def _read(elf: Any, image: bytes, name: str) -> ElfImage:
    header = elf.header
    bits = _check_header(header, name)
    segments: list[Segment] = []
    notes: list[bytes] = []
    count = elf.num_segments()
    if count > MAX_SEGMENTS:
        raise ImageError(name, f"{count} program headers; at most {MAX_SEGMENTS} make sense")
    for index in range(count):
        program_header = elf.get_segment(index).header
        if program_header["p_type"] == "PT_LOAD" and program_header["p_memsz"]:
            segments.append(_segment(program_header, image, f"segment {index}", name))
        elif program_header["p_type"] == "PT_NOTE":
            offset = program_header["p_offset"]
            notes.append(image[offset : offset + program_header["p_filesz"]])
    if not segments:
        raise ImageError(name, "no loadable segments: nothing to put into memory")
    return ElfImage(bits, int(header["e_entry"]), tuple(segments), tuple(notes))


def _check_header(header: Any, name: str) -> Literal[32, 64]:
    ident = header["e_ident"]
    if ident["EI_DATA"] != "ELFDATA2LSB":
        raise ImageError(name, "big-endian ELF; x86 needs a little-endian one")
    wide = ident["EI_CLASS"] == "ELFCLASS64"
    expected = "EM_X86_64" if wide else "EM_386"
    if header["e_machine"] != expected:
        raise ImageError(
            name, f"ELF for machine {header['e_machine']}; this machine boots {expected} here"
        )
    if header["e_type"] == "ET_REL":
        raise ImageError(name, "an object file; link it into an executable first")
    if header["e_type"] == "ET_DYN":
        raise ImageError(name, "position-independent ELF; link it with -no-pie")
    if header["e_type"] != "ET_EXEC":
        raise ImageError(name, f"ELF type {header['e_type']} is not an executable")
    return 64 if wide else 32


def _segment(header: Any, image: bytes, what: str, name: str) -> Segment:
    offset, filesz, memsz = header["p_offset"], header["p_filesz"], header["p_memsz"]
    if filesz and offset + filesz > len(image):
        raise ImageError(
            name,
            f"truncated: {what} ends at byte {offset + filesz:#x}, the file at {len(image):#x}",
        )
    if filesz > memsz:
        raise ImageError(name, f"{what} has {filesz:#x} bytes in the file, {memsz:#x} in memory")
    align = header["p_align"]
    if align & (align - 1):
        raise ImageError(name, f"{what} is misaligned: alignment {align:#x} is no power of two")
    if align > 1 and (header["p_vaddr"] - offset) % align:
        raise ImageError(
            name,
            f"{what} is misaligned: address {header['p_vaddr']:#x} and file offset {offset:#x} "
            f"differ modulo {align:#x}",
        )
    return Segment(header["p_vaddr"], header["p_paddr"], memsz, image[offset : offset + filesz])


def parse_notes(data: bytes) -> list[tuple[bytes, int, bytes]]:
    """The (name, type, description) triples in a note segment, up to the first damaged one."""
    notes: list[tuple[bytes, int, bytes]] = []
    position = 0
    while position + 12 <= len(data):
        name_size, desc_size, kind = (
            int.from_bytes(data[position + i : position + i + 4], "little") for i in (0, 4, 8)
        )
        name_at = position + 12
        desc_at = name_at + (name_size + 3 & ~3)
        if desc_at + desc_size > len(data):
            break
        name = data[name_at : name_at + name_size].rstrip(b"\0")
        notes.append((name, kind, data[desc_at : desc_at + desc_size]))
        position = desc_at + (desc_size + 3 & ~3)
    return notes
