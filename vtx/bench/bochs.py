"""Bochs as a contestant: the kernel on a disk with a boot sector of ours.

Bochs has a BIOS but no Multiboot loader, so guests/bench/bootsector.s reads the kernel from
the disk and starts it as such a loader would. A build with the debugger, as Debian's is, waits
for a command: it finds `c` on its standard input. The kernel ends it through Bochs' own port
0x8900, which is a panic for Bochs, so its exit status says nothing.

Distributions have the BIOS in a package of its own; SeaBIOS does as well. They also have each
display library in one, and there is always one that needs no display: nogui or rfb.
"""

import os
import shutil
import struct
import tempfile
from collections.abc import Sequence
from pathlib import Path

from vtx.bench.clock import WALL, Clock
from vtx.bench.contestant import AnyVariant, Run, RunError, parse_checksum
from vtx.bench.image import KernelImage
from vtx.bench.kernels import Kernel
from vtx.bench.qemu import timed_process

PROGRAM = "bochs"
SECTOR = 512
MOST_SECTORS = 127
"""What one BIOS call reads."""
_PARAMETERS = 0x1E0
"""Offset of the boot sector's parameters: entry point, sectors, and the command line."""
_LAYOUT = struct.Struct("<IH16s")
_HEADS, _SECTORS_PER_TRACK = 16, 63
_CONFIGURATION = """\
megs: 64
romimage: {bios}
vgaromimage: file="{vga_bios}"
boot: disk
cpu: model=corei7_haswell_4770, reset_on_triple_fault=0
ata0-master: type=disk, mode=flat, path="{disk}", cylinders=1, heads=16, spt=63
com1: enabled=1, mode=file, dev="{serial}"
display_library: {display}
sound: waveoutdrv=dummy, waveindrv=dummy, midioutdrv=dummy
speaker: enabled=0
log: "{log}"
panic: action=fatal
"""
"""Without a sound card the sound driver of the host, the default, ends Bochs at the start."""

_ROM_DIRECTORIES = ("/usr/share/bochs", "/usr/local/share/bochs", "/usr/share/seabios",
                    "/usr/share/qemu", "/usr/share/vgabios")  # fmt: skip
_BIOSES = ("BIOS-bochs-latest", "bios.bin")
_VGA_BIOSES = ("VGABIOS-lgpl-latest", "VGABIOS-lgpl-latest.bin", "vgabios-stdvga.bin")
_PLUGINS = ("lib/bochs/plugins", "lib64/bochs/plugins", "lib/x86_64-linux-gnu/bochs/plugins")
_TOP = 1 << 32
_DISPLAYS = {"nogui": "nogui", "rfb": 'rfb, options="timeout=0"'}
"""What needs no display, the best first. `rfb` would wait half a minute for a viewer."""


def _rom(names: Sequence[str]) -> Path | None:
    """The first file there is; a link may lead nowhere, where a package is only recommended."""
    places = (Path(directory) / name for name in names for directory in _ROM_DIRECTORIES)
    return next((place for place in places if place.is_file()), None)


def _display() -> str | None:
    """The display library to ask for; None where Bochs has plugins, but none of ours."""
    own = os.environ.get("LTDL_LIBRARY_PATH", "")
    places = [Path(own)] if own else [Path(p) / q for p in ("/usr", "/usr/local") for q in _PLUGINS]
    present = [place for place in places if place.is_dir()]
    if not present:
        return _DISPLAYS["nogui"]  # nogui is part of a Bochs that was built without plugins
    for name, setting in _DISPLAYS.items():
        if any(next(place.glob(f"libbx_{name}*.so*"), None) for place in present):
            return setting
    return None


def bochs_problem() -> str | None:
    """Why Bochs cannot be used; None when it can."""
    if not shutil.which(PROGRAM):
        return f"no {PROGRAM} on PATH"
    if _rom(_BIOSES) is None or _rom(_VGA_BIOSES) is None:
        return f"no BIOS for {PROGRAM}: it takes those of the package seabios, too"
    if _display() is None:
        return f"{PROGRAM} has neither nogui nor rfb as display library"
    return None


def configuration(place: Path, disk: Path, serial: Path) -> str:
    """The settings of a run; `place` is a directory for the log."""
    bios = _rom(_BIOSES)
    assert bios is not None, "bochs_problem was asked"
    # SeaBIOS does not say where it wants to be: it ends where the addresses do.
    where = f'file="{bios}", address={_TOP - bios.stat().st_size:#x}'
    return _CONFIGURATION.format(
        bios=where, vga_bios=_rom(_VGA_BIOSES), disk=disk, serial=serial, display=_display(),
        log=place / "bochs.log",
    )  # fmt: skip


def disk_image(boot_sector: bytes, image: KernelImage, iterations: int) -> bytes:
    """A disk of one cylinder: the boot sector with its parameters, then the kernel."""
    sectors = -(-len(image.code) // SECTOR)
    if sectors > MOST_SECTORS:
        raise RunError(f"{image.kernel.name} bochs: {sectors} sectors, {MOST_SECTORS} at most")
    sector = bytearray(boot_sector[:SECTOR])
    _LAYOUT.pack_into(sector, _PARAMETERS, image.start, sectors, str(iterations).encode())
    size = _HEADS * _SECTORS_PER_TRACK * SECTOR
    return (bytes(sector) + image.code).ljust(size, b"\0")


class Bochs(AnyVariant):
    """A process for every run: what it needs to start is in the time of each."""

    name = "bochs"

    def __init__(self, boot_sector: bytes, clock: Clock = WALL) -> None:
        self._clock = clock
        self._boot_sector = boot_sector
        self._directory = tempfile.TemporaryDirectory(prefix="vtx-bench-")

    def refusal(self, kernel: Kernel) -> str | None:
        return "no VMM runs there" if kernel.name == "cpuid-exit" else None

    def run(self, image: KernelImage, iterations: int) -> Run:
        place = Path(self._directory.name)
        disk, serial, settings = place / "disk.img", place / "serial", place / "bochsrc"
        disk.write_bytes(disk_image(self._boot_sector, image, iterations))
        serial.unlink(missing_ok=True)
        settings.write_text(configuration(place, disk, serial))
        who = f"{image.kernel.name} bochs"
        command = (PROGRAM, "-q", "-f", str(settings))
        seconds, _, _ = timed_process(command, who, self._clock, b"c\n")
        console = serial.read_bytes() if serial.exists() else b""
        return Run(seconds, parse_checksum(console, who))
