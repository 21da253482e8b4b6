"""The contestants that are special cases of vtx, and the one that boots from a disk."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import asm
from tests.vtx.bench.images import BENCH
from vtx.bench import bochs
from vtx.bench.bochs import Bochs, bochs_problem, configuration, disk_image
from vtx.bench.cold import Cold, told_by_child
from vtx.bench.contestant import RunError, parse_checksum
from vtx.bench.contestants import vtx_contestants
from vtx.bench.image import KernelImage, loaded_bytes
from vtx.bench.kernels import BASELINE, KERNELS, PLAIN, SHORT
from vtx.bench.machine import Machine, run_kernel
from vtx.bench.peers import PEERS, find_peers
from vtx.bench.port import PortMachine
from vtx.bench.qemu import PROGRAM, qemu_problem

Image = Callable[..., KernelImage]


@pytest.fixture(scope="session")
def boot_sector() -> bytes:
    return loaded_bytes(asm.assemble_file(BENCH / "bootsector.s").elf())


def test_the_smallest_vmm_answers_every_cpuid(kernel_image: Image) -> None:
    run = PortMachine("reference").run(kernel_image("cpuid-exit"), 200)

    assert run.checksum == 8 * 200


def test_the_smallest_vmm_needs_a_loop_to_measure(kernel_image: Image) -> None:
    baseline = kernel_image("cpuid-exit", BASELINE)

    assert PortMachine("reference").run(baseline, 2).checksum == 16
    with pytest.raises(RunError, match="ended before its loop"):
        PortMachine("reference").run(KernelImage(baseline.kernel, baseline.elf), 1)


def test_a_cold_run_is_made_in_another_process(kernel_image: Image) -> None:
    image = kernel_image("cold")

    run = Cold("ept", "reference", "primed", {}).run(image, 1)

    here = run_kernel(image, 1, "ept", "reference")
    assert (run.checksum, run.retired) == (here.checksum, here.retired)


def test_a_child_that_fails_is_an_error_with_its_last_words() -> None:
    with pytest.raises(RunError, match="x: its process ended without a result: KeyError: 'y'"):
        told_by_child(b"", b"Traceback\nKeyError: 'y'\n\n", "x")
    with pytest.raises(RunError, match="cold bare: ended in halted"):
        told_by_child(b'{"error": "cold bare: ended in halted"}', b"", "x")


def test_only_the_native_engine_runs_the_whole_cold_kernel() -> None:
    cold = next(kernel for kernel in KERNELS if kernel.kind == "cold")

    assert Cold("bare", "native", "second", {}).variants(cold) == (PLAIN,)
    assert Cold("bare", "reference", "primed", {}).variants(cold) == (SHORT,)


def test_every_kernel_has_a_contestant_of_vtx_in_each_of_its_styles() -> None:
    contestants = vtx_contestants(("bare", "ept", "shadow"), "reference", {})

    for kernel in KERNELS:
        taking = {c.name for c in contestants if c.refusal(kernel) is None}
        assert taking >= set(kernel.styles)


def test_the_native_engine_also_runs_cold_with_other_caches() -> None:
    names = {contestant.name for contestant in vtx_contestants(("bare",), "native", {})}

    assert names == {"bare", "bare-empty", "bare-second"}


def test_a_kernel_that_ends_otherwise_is_an_error(kernel_image: Image) -> None:
    image = KernelImage(kernel_image("sieve").kernel, asm.assemble(".code64; ud2", name="x").elf())

    with pytest.raises(RunError, match="sieve bare: ended in triple_fault"):
        Machine("bare", "reference").run(image, 1)


def test_a_console_without_a_checksum_is_an_error() -> None:
    assert parse_checksum(b"SeaBIOS\r\n00ff\n", "x") == 255
    with pytest.raises(RunError, match="x: no checksum on the console, but 'what'"):
        parse_checksum(b"what", "x")


def test_a_peer_is_there_or_has_a_reason_not_to_be(boot_sector: bytes) -> None:
    found = find_peers(PEERS, boot_sector)

    assert {peer.name for peer in found.present} | found.absent.keys() == set(PEERS)
    assert all(found.absent.values())


def test_a_kernel_too_large_for_the_boot_sector_is_refused(
    kernel_image: Image, boot_sector: bytes
) -> None:
    image = KernelImage(kernel_image("sieve").kernel, asm.assemble(".skip 70000", name="x").elf())

    with pytest.raises(RunError, match="127 at most"):
        disk_image(boot_sector, image, 1)


@pytest.mark.skipif(qemu_problem() is not None, reason=str(qemu_problem()))
@pytest.mark.parametrize("name", ["crc32", "code32"])
def test_the_boot_sector_starts_a_kernel_from_a_disk(
    name: str, kernel_image: Image, boot_sector: bytes, tmp_path: Path
) -> None:
    image, disk = kernel_image(name), tmp_path / "disk.img"
    disk.write_bytes(disk_image(boot_sector, image, 3))

    done = subprocess.run(
        (PROGRAM, "-accel", "tcg", "-nodefaults", "-display", "none", "-serial", "stdio",
         "-no-reboot", "-device", "isa-debug-exit,iobase=0xf4", "-drive",
         f"file={disk},format=raw,if=ide"),
        stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False,
    )  # fmt: skip

    checksum = run_kernel(image, 3, "bare", "reference").checksum
    assert (done.returncode, parse_checksum(done.stdout, "disk")) == (33, checksum)


@pytest.mark.skipif(bochs_problem() is not None, reason=str(bochs_problem()))
@pytest.mark.parametrize("name", ["sieve", "code32"])
def test_bochs_computes_the_same_as_vtx(name: str, kernel_image: Image, boot_sector: bytes) -> None:
    image = kernel_image(name)

    run = Bochs(boot_sector).run(image, 1)

    assert run.checksum == run_kernel(image, 1, "bare", "reference").checksum


def test_bochs_without_a_bios_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bochs.shutil, "which", lambda _: "/usr/bin/bochs")
    monkeypatch.setattr(bochs, "_ROM_DIRECTORIES", ())

    assert "no BIOS for bochs" in str(bochs_problem())


def test_bochs_takes_a_display_library_that_is_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bios, plugins = tmp_path / "bios.bin", tmp_path / "plugins"
    bios.write_bytes(bytes(0x20000))
    (tmp_path / "vgabios-stdvga.bin").touch()
    plugins.mkdir()
    monkeypatch.setattr(bochs.shutil, "which", lambda _: "/usr/bin/bochs")
    monkeypatch.setattr(bochs, "_ROM_DIRECTORIES", (str(tmp_path),))
    monkeypatch.setenv("LTDL_LIBRARY_PATH", str(plugins))

    assert "neither nogui nor rfb" in str(bochs_problem())
    (plugins / "libbx_rfb_gui.so.0").touch()
    assert bochs_problem() is None
    settings = configuration(tmp_path, tmp_path / "disk", tmp_path / "serial")
    assert f'file="{bios}", address=0xfffe0000' in settings
    assert 'display_library: rfb, options="timeout=0"' in settings
