"""Generated changes of page tables: shadow paging gives what the bare machine gives.

A generated guest edits the tables of its own part of the address space, maps tables as data,
touches pages by reading and writing, and drops translations as an operating system
must. What it saw, every fault included, ends up in memory, which must be the same bare and
under shadow paging, with the oracle satisfied at every exit.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import shadow_oracle
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.vtx.engines import QUICK_ENGINES
from vtx.vmm.launch import launch

HEAD, BODY = (Path(__file__).parent / "teeth.s").read_text().split("        call pages\n")
PRELUDE = HEAD.replace("# teeth:", "# edits, after teeth:")
TAIL = """        power_off
        .align 4096
edits:
{edits}
        ret
"""
REST = BODY.split("        power_off\n", 1)[1]

P, RW, US, A, D, PS, G = 1, 2, 4, 0x20, 0x40, 0x80, 0x100
NX, RESERVED = 1 << 63, 1 << 51
PAGES = 10
"""Pages of the region that are touched; the ninth and tenth lie behind the second PDE."""

frames = st.sampled_from(["0x400000", "0x401000", "0x402000", "pt", "pd", "0x900000"])
flags = st.sampled_from(
    [P | RW, P | RW, P | RW | US, P, P | US, 0, P | RW | A, P | RW | A | D, P | RW | NX, P | NX,
     P | RW | RESERVED, P | RW | G]
)  # fmt: skip
ptes = st.builds(lambda frame, flag: (frame, flag), frames, flags)
pdes = st.sampled_from(
    [("pt", P | RW), ("pt", P), ("pt", P | RW | US), ("pt", P | RW | NX), ("pd", P | RW),
     ("0x400000", P | RW | PS), ("0x400000", P | PS), ("0x400000", P | RW | PS | NX), ("0", 0)]
)  # fmt: skip
pages = st.integers(0, PAGES - 1)


def gva(page: int) -> str:
    """Eight pages of the first 2 MiB, the rest of the second."""
    return f"PAGE + {(page & 7) * 4096 + (page >> 3) * 0x200000:#x}"


def store(place: str, entry: tuple[str, int]) -> str:
    frame, bits = entry
    offset = frame if frame.startswith("0") else f"[rip + {frame}]"
    get = f"mov eax, {offset}" if frame.startswith("0") else f"lea rax, {offset}"
    return f"{get}; mov rbx, {bits:#x}; or rax, rbx; mov {place}, rax"


flush = "mov rax, cr3; mov cr3, rax"
# Every change is followed by what makes it seen: INVLPG of each page it concerns, or CR3.
edit_pte = st.builds(
    lambda page, entry, all_of_it: (
        store(f"[rip + pt + {(page & 7) * 8}]", entry) + "; "
        + (flush if all_of_it else "; ".join(
            f"mov rdi, {gva(n)}; invlpg [rdi]" for n in (page & 7, page & 7 | 8)
        ))
    ), pages, ptes, st.booleans(),
)  # fmt: skip
edit_pde = st.builds(
    lambda index, entry: store(f"[rip + pd + {index * 8}]", entry) + "; " + flush,
    st.integers(0, 1), pdes,
)  # fmt: skip
read = st.builds(
    lambda page: f'mov rdi, {gva(page)}; attempt "mov rax, [rdi + 8]"; note rax', pages
)
# Data may be a table: what is written there counts once translations have been dropped.
write = st.builds(
    lambda page, offset, value: (
        f'mov rdi, {gva(page)}; mov rbx, {value:#x}; attempt "mov [rdi + {offset}], rbx"; {flush}'
    ), pages, st.sampled_from([0, 8, 16, 56, 0x800]),
    st.one_of(st.just(0xC3), st.sampled_from([0, 0x400003, 0x401001, 0x402063, 0x400083])),
)  # fmt: skip
drop = st.builds(lambda page: f"mov rdi, {gva(page)}; invlpg [rdi]", pages)
toggle_wp = st.just(f"mov rax, cr0; xor rax, CR0_WP; mov cr0, rax; {flush}")
toggle_pge = st.just("mov rax, cr4; xor rax, CR4_PGE; mov cr4, rax")
steps = st.one_of(edit_pte, edit_pte, edit_pde, read, read, write, write, drop, toggle_wp,
                  toggle_pge)  # fmt: skip


def source_of(edits: list[str]) -> str:
    """A guest that makes the edits one after the other."""
    lines = "\n".join(line.strip() for step in edits for line in step.split(";"))
    return f"{PRELUDE}        call edits\n{TAIL.format(edits=lines)}{REST}"


@QUICK_ENGINES
@settings(
    max_examples=60, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(edits=st.lists(steps, min_size=4, max_size=40))
def test_generated_edits_of_page_tables_end_as_on_the_bare_machine(
    edits: list[str], engine: str, assemble_source: Callable[[str], bytes],
    options: Callable[..., Any],
) -> None:  # fmt: skip
    image = assemble_source(source_of(edits))
    bare, shadow = (
        launch(options(image, style, engine=engine)).session for style in ("bare", "shadow")
    )
    shadow_oracle.Watch(shadow)
    ends = [session.run(5_000) for session in (bare, shadow)]

    assert ends[0] == ends[1]
    assert ends[0] is not None and ends[0].how == "power_off"
    assert bare.retired == shadow.retired
    assert bare.registers() == shadow.registers()
    assert bare.memory(0, 8 << 20) == shadow.memory(0, 8 << 20)
