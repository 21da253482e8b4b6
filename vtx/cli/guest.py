"""The options that say what guest runs on what machine, shared by `run` and `compare`.

Must not know what is done with the guest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from vtx.cli.errors import InputError, as_input_errors
from vtx.cli.files import read_file
from vtx.cli.firmware import firmware_image
from vtx.cli.inputs import SourceOptions, console_input, parse_defines, read_image, read_module
from vtx.cli.sizes import SIZE

if TYPE_CHECKING:
    from vtx.vmm.launch import RunOptions

MOST_CPUS = 255
"""As machine.computer has it."""
ENGINES = ("auto", "native", "reference", "evaluate")
"""As engine.choice has them, without loading the engines."""

Command = TypeVar("Command", bound=Callable[..., Any])

_OPTIONS = (
    click.argument("image", required=False, type=click.Path(path_type=Path)),
    click.option("-kernel", "kernel", type=click.Path(path_type=Path), help="IMAGE, as in QEMU."),
    click.option("--cpu", default="haswell", show_default=True, metavar="PROFILE"),
    click.option(
        "--engine",
        type=click.Choice(ENGINES),
        default="auto",
        show_default=True,
        help="native compiles with LLVM, reference is Python, evaluate its plain, slow reader.",
    ),
    click.option(
        "-m", "--memory", type=SIZE, default="64M", show_default=True, help="64M, 1G or bytes."
    ),
    click.option(
        "-smp",
        "--smp",
        "cpus",
        type=click.IntRange(1, MOST_CPUS),
        default=1,
        show_default=True,
        metavar="N",
        help="CPUs of the machine; more than one under --vmm bare.",
    ),
    click.option(
        "--code-cache",
        type=SIZE,
        default="64M",
        show_default=True,
        help="Most native code to keep.",
    ),
    click.option(
        "--max-instructions",
        type=click.IntRange(min=1),
        metavar="N",
        help="Give up after N retired instructions.",
    ),
    click.option("-append", "--append", default="", metavar="STRING", help="Kernel command line."),
    click.option("-initrd", "--initrd", type=click.Path(path_type=Path), help="Initial RAM disk."),
    click.option("--module", multiple=True, metavar="'FILE ARGS'", help="Another boot module."),
    click.option(
        "--input",
        "input_file",
        metavar="FILE",
        help="Console input (- is standard input to its end).",
    ),
    click.option(
        "-I",
        "--include",
        multiple=True,
        type=click.Path(path_type=Path),
        help="Search this directory for .include when IMAGE is source.",
    ),
    click.option(
        "-D", "--define", multiple=True, metavar="NAME=VALUE", help="Set a symbol of the source."
    ),
)


@dataclass(frozen=True, slots=True)
class Guest:
    """The options as click parsed them; nothing has been read yet."""

    image: Path
    cpu: str
    engine: str
    memory: int
    cpus: int
    code_cache: int
    max_instructions: int | None
    append: str
    initrd: Path | None
    module: tuple[str, ...]
    input_file: str | None
    include: tuple[Path, ...]
    define: tuple[str, ...]

    def load(self, style: str) -> RunOptions:
        """Read every file and describe the run. Raises InputError and DiagnosedError."""
        from vtx import spec
        from vtx.machine.cpu_model import cpu_model

        with as_input_errors(spec.SpecError):
            cpu_model(self.cpu)
        for text in (self.append, *self.module):
            _check_text(text)
        source = SourceOptions(self.include, tuple(parse_defines(self.define).items()))
        image = read_image(self.image, source)
        initrd = None if self.initrd is None else read_file(self.initrd)
        modules = tuple(read_module(text) for text in self.module)
        typed = console_input(self.input_file)
        # Only now: what cannot be read is told without waiting for the machine to load.
        from vtx.vmm.launch import RunOptions

        return RunOptions(
            image=image,
            image_name=str(self.image),
            style=style,
            cpu=self.cpu,
            engine=self.engine,
            memory=self.memory,
            cpus=self.cpus,
            code_cache=self.code_cache,
            max_instructions=self.max_instructions,
            append=self.append,
            initrd=initrd,
            modules=modules,
            firmware=firmware_image,
            console_input=typed,
        )


def _check_text(text: str) -> None:
    """The guest gets its command lines as UTF-8; what the shell gave may be other bytes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        shown = text.encode(errors="surrogateescape").decode(errors="replace")
        raise InputError(f"command line {shown!r} is not valid UTF-8") from None


def guest_options(command: Command) -> Command:
    """Give a command the options above; `guest_from` collects what they brought."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def guest_from(image: Path | None, kernel: Path | None, options: dict[str, Any]) -> Guest:
    """The parsed options as a Guest. Raises UsageError unless exactly one image is named."""
    if image is not None and kernel is not None:
        raise click.UsageError(f"two images: {image} and -kernel {kernel}; give one")
    chosen = image or kernel
    if chosen is None:
        raise click.UsageError("no image; give an ELF file or a .s source")
    return Guest(image=chosen, **options)
