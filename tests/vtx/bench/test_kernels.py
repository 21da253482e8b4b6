"""The kernels compute what the same algorithms in Python compute, in every style and on peers."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.vtx.bench.algorithms import ALGORITHMS, tlb_miss
from tests.vtx.bench.images import BENCH, SMALL
from vtx.bench.contestant import Contestant
from vtx.bench.host import Host, host_problem
from vtx.bench.image import KernelImage
from vtx.bench.kernels import BASELINE, KERNELS, Kernel, UnknownKernelError, kernels_named
from vtx.bench.machine import Machine, run_kernel
from vtx.bench.qemu import Qemu, qemu_problem
from vtx.bench.unicorn import Unicorn, unicorn_problem

Image = Callable[..., KernelImage]
STYLED = [(kernel, style) for kernel in KERNELS for style in kernel.styles]
COMPUTED = [kernel for kernel in KERNELS if kernel.name != "cold"]


def named(value: object) -> str | None:
    return value.name if isinstance(value, Kernel) else None


def expected(kernel: Kernel, iterations: int) -> int:
    if kernel.name == "tlb-miss":
        pages = SMALL["tlb-miss"]["TLB_PAGES"]
        return tlb_miss(iterations, pages, pages)
    return ALGORITHMS[kernel.name](iterations)


def test_every_source_is_a_kernel_and_every_kernel_has_a_source() -> None:
    sources = {path.stem for path in BENCH.glob("*.s")}

    assert sources == {kernel.name for kernel in KERNELS} | {"bootsector"}


def test_kernels_are_found_by_name_in_the_order_of_the_table() -> None:
    assert [kernel.name for kernel in kernels_named(("calls", "sieve"))] == ["sieve", "calls"]
    assert kernels_named(()) == KERNELS


def test_an_unknown_kernel_is_told_in_one_line() -> None:
    with pytest.raises(UnknownKernelError, match="no kernel 'seive'"):
        kernels_named(("seive",))


@pytest.mark.parametrize("kernel", COMPUTED, ids=named)
def test_a_kernel_computes_what_python_computes_and_each_iteration_retires_as_much(
    kernel: Kernel, kernel_image: Image
) -> None:
    image = kernel_image(kernel.name)

    runs = [run_kernel(image, n, "bare", "reference") for n in (1, 2, 3)]

    assert [run.checksum for run in runs] == [expected(kernel, n) for n in (1, 2, 3)]
    first, second, third = (run.retired or 0 for run in runs)
    assert third - second == second - first > 0


@pytest.mark.parametrize(("kernel", "style"), [p for p in STYLED if p[1] != "bare"], ids=named)
def test_a_kernel_is_the_same_in_every_style(
    kernel: Kernel, style: str, kernel_image: Image
) -> None:
    image = kernel_image(kernel.name)
    bare, other = (run_kernel(image, 1, s, "reference") for s in ("bare", style))

    assert (other.checksum, other.retired) == (bare.checksum, bare.retired)


def test_the_code_of_the_cold_kernel_is_long_enough(kernel_image: Image) -> None:
    image = kernel_image("cold")
    copies = re.search(r"\.equ COPIES, (\d+)", (BENCH / "cold.s").read_text())
    assert copies is not None

    idle, busy = (run_kernel(image, n, "bare", "reference").retired or 0 for n in (0, 1))

    assert (busy - idle) * int(copies[1]) >= 200_000


@pytest.mark.parametrize("name", ["cpuid-exit", "cpuid-root", "tlb-miss"])
def test_a_baseline_retires_as_much_as_what_it_is_subtracted_from(
    name: str, kernel_image: Image
) -> None:
    def iteration(variant: str) -> int:
        image = kernel_image(name, variant)
        one, two = (run_kernel(image, n, "bare", "reference").retired or 0 for n in (1, 2))
        return two - one

    exits = 7 * 8 + 16 * 8  # what the hypervisor executes for an exit
    less = iteration("") - iteration(BASELINE)
    assert less == 0 or (name == "cpuid-root" and 0 < less <= exits)


PEERS: list[tuple[Contestant, str | None]] = [
    (Host(), host_problem()),
    (Unicorn(), unicorn_problem()),
    (Qemu(), qemu_problem()),
]
TAKEN = [
    pytest.param(
        peer, kernel, id=f"{peer.name}-{kernel.name}",
        marks=[] if problem is None else pytest.mark.skip(reason=f"{peer.name}: {problem}"),
    )
    for peer, problem in PEERS for kernel in KERNELS if peer.refusal(kernel) is None
]  # fmt: skip


@pytest.mark.parametrize(("peer", "kernel"), TAKEN)
def test_a_peer_computes_the_same_as_vtx(
    peer: Contestant, kernel: Kernel, kernel_image: Image
) -> None:
    image = kernel_image(kernel.name)
    vtx = run_kernel(image, 1, "bare", "reference")

    assert peer.run(image, 1).checksum == vtx.checksum


def test_a_peer_refuses_what_it_cannot_run() -> None:
    by_name = {kernel.name: kernel for kernel in KERNELS}

    assert Host().refusal(by_name["syscall"]) == "needs privilege"
    assert Host().refusal(by_name["code32"]) == "32-bit code in a 64-bit process"
    assert Unicorn().refusal(by_name["churn"]) == "needs a whole machine"
    assert Qemu().refusal(by_name["cpuid-root"]) == "TCG has no VMX"
    assert Machine("ept", "reference").refusal(by_name["cpuid-root"]) == "runs bare only"
