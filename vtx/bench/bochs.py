"""Bochs as a contestant: the kernel on a disk with a boot sector of ours.

Bochs has a BIOS but no Multiboot loader, so guests/bench/bootsector.s reads the kernel from
the disk and starts it as such a loader would. A build with the debugger waits for a command: it
finds `c` on its standard input. The kernel ends it through Bochs' own port 0x8900.
"""

import shutil
import struct
import tempfile
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
boot: disk
cpu: model=corei7_haswell_4770, reset_on_triple_fault=0
ata0-master: type=disk, mode=flat, path="{disk}", cylinders=1, heads=16, spt=63
com1: enabled=1, mode=file, dev="{serial}"
display_library: nogui
log: "{log}"
panic: action=fatal
"""


def bochs_problem() -> str | None:
    """Why Bochs cannot be used; None when it can."""
    return None if shutil.which(PROGRAM) else f"no {PROGRAM} on PATH"


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
        settings.write_text(
            _CONFIGURATION.format(disk=disk, serial=serial, log=place / "bochs.log")
        )
        who = f"{image.kernel.name} bochs"
        command = (PROGRAM, "-q", "-f", str(settings))
        seconds, _, _ = timed_process(command, who, self._clock, b"c\n")
        console = serial.read_bytes() if serial.exists() else b""
        return Run(seconds, parse_checksum(console, who))
