"""From options to a finished run: build the machine, load the image, run, report.

This is the one way in for the command line, comparisons and tests. It does not know how a
style works.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from vtx.engine.choice import (
    CODE_CACHE,
    LEAST_CODE_CACHE,
    MOST_CODE_CACHE,
    resolve_engine,
)
from vtx.machine.computer import Computer, Sink, discard
from vtx.machine.cpu_model import CpuModel, cpu_model
from vtx.machine.loader import ImageError, load_image
from vtx.spec import SpecError
from vtx.trace import End, Event, Input
from vtx.vmm.ending import Ending
from vtx.vmm.firmware import FirmwareError, FirmwareSession
from vtx.vmm.frames import OutOfFramesError
from vtx.vmm.port import VmxError
from vtx.vmm.probing import ProbeError
from vtx.vmm.session import BareSession, Session
from vtx.vmm.several import SmpSession
from vtx.vmm.styles import FIRMWARE, LaunchError, resolve_style
from vtx.vmm.virtual import VirtualSession

PROGRESS_STEP = 50_000
"""Instructions between two calls of `on_progress`."""

EventSink = Callable[[Event], None]


@dataclass(frozen=True)
class RunOptions:
    """Everything that decides what a run does. `memory` and `code_cache` are in bytes."""

    image: bytes
    image_name: str
    style: str = "auto"
    cpu: str = "haswell"
    engine: str = "auto"
    memory: int = 64 << 20
    cpus: int = 1
    """More than one only on the bare machine."""
    code_cache: int = CODE_CACHE
    """Native code kept at most; it changes nothing but speed."""
    max_instructions: int | None = None
    append: str = ""
    initrd: bytes | None = None
    modules: tuple[tuple[bytes, str], ...] = ()
    trace: EventSink | None = None
    probes: tuple[str, ...] = ()
    """Symbols, or addresses as 0x...: `trace` gets an event when the instruction there retires."""
    firmware: Callable[[], bytes] | None = None
    """Makes the image of the VMM in assembly, for the style `firmware`."""
    console: Sink | None = None
    console_input: bytes = b""
    on_progress: Callable[[int], None] | None = None
    hash_memory: bool = True
    """Whether somebody will look at `RunResult.memory_sha256`; a trace has it in any case."""


@dataclass(frozen=True)
class RunResult:
    """What a run came to."""

    style: str
    engine: str
    retired: int
    exits: dict[str, int]
    ended: str
    exit_status: int
    memory_sha256: str
    """Empty if RunOptions said that nobody would look."""
    console: bytes
    registers: dict[str, int]
    message: str | None = None
    notes: list[str] = field(default_factory=list)
    walks: dict[str, float] = field(default_factory=dict)
    shadow: dict[str, int] | None = None


@dataclass
class Launched:
    """A guest ready to run, with its console."""

    session: Session
    style: str
    engine: str
    console: bytearray
    notes: list[str]


def launch(options: RunOptions) -> Launched:
    """Build the machine and load the guest. Raises LaunchError."""
    cpu = _cpu(options.cpu)
    style, notes = resolve_style(options.style, cpu, options.cpus)
    engine = _engine(options.engine, notes)
    _check_code_cache(options.code_cache)
    console = bytearray()

    def serial(data: bytes) -> None:
        console.extend(data)
        if options.console is not None:
            options.console(data)

    try:
        if style.name == FIRMWARE:
            session: Session = _firmware(options, cpu, serial, engine)
        elif style.vmm is None:
            session = _bare(options, cpu, serial, engine)
        else:
            session = VirtualSession.start(
                style.vmm, options.image, name=options.image_name, cpu=cpu,
                ram_size=options.memory, command_line=options.append,
                modules=_modules(options), serial=serial, trace=options.trace, engine=engine,
                code_cache=options.code_cache, probes=options.probes,
            )  # fmt: skip
    except (FirmwareError, ImageError, ProbeError) as error:
        raise LaunchError(str(error)) from None
    except (VmxError, OutOfFramesError) as error:
        raise LaunchError(f"--vmm {style.name}: {error}") from None
    except (ValueError, OSError) as error:
        raise LaunchError(f"-m {options.memory}: {error}") from None
    if options.console_input:
        if options.trace is not None:
            options.trace(Input(now=0, data=options.console_input))
        session.receive(options.console_input)
    return Launched(session, style.name, engine, console, notes)


def check_styles(options: RunOptions, styles: Iterable[str]) -> None:
    """Raises LaunchError if the machine of `options` cannot be had in each style."""
    cpu = _cpu(options.cpu)
    for style in styles:
        resolve_style(style, cpu, options.cpus)


def _cpu(text: str) -> CpuModel:
    try:
        return cpu_model(text)
    except SpecError as error:
        raise LaunchError(f"--cpu: {error}") from None


def _engine(name: str, notes: list[str]) -> str:
    """The executor to use; a note says where it is not the one hoped for."""
    try:
        engine, note = resolve_engine(name)
    except ValueError as error:
        raise LaunchError(str(error)) from None
    if note is not None:
        notes.append(note)
    return engine


def _check_code_cache(size: int) -> None:
    if not LEAST_CODE_CACHE <= size <= MOST_CODE_CACHE:
        bounds = f"from {LEAST_CODE_CACHE >> 20}M to {MOST_CODE_CACHE >> 20}M"
        raise LaunchError(f"--code-cache: {size} bytes; it has to be {bounds}")


def _modules(options: RunOptions) -> tuple[tuple[bytes, str], ...]:
    initrd = ((options.initrd, ""),) if options.initrd is not None else ()
    return initrd + options.modules


def _bare(
    options: RunOptions, cpu: CpuModel, serial: Sink, engine: str
) -> BareSession | SmpSession:
    computer = Computer(
        cpu=cpu, ram_size=options.memory, vmx=cpu.vmx_wanted, serial=serial, debug=discard,
        cpu_count=options.cpus,
    )  # fmt: skip
    boot = load_image(
        options.image,
        computer.platform.bus,
        command_line=options.append,
        modules=_modules(options),
        ram_size=options.memory,
        name=options.image_name,
    )
    session = BareSession if options.cpus == 1 else SmpSession
    return session(
        computer, boot, engine=engine, code_cache=options.code_cache, trace=options.trace,
        probes=options.probes,
    )  # fmt: skip


def _firmware(options: RunOptions, cpu: CpuModel, serial: Sink, engine: str) -> FirmwareSession:
    if options.firmware is None:
        raise LaunchError("--vmm firmware: RunOptions.firmware has to give the VMM's image")
    if options.probes:
        raise LaunchError("--probe: not under --vmm firmware; use ept, shadow or bare")
    return FirmwareSession(
        options.firmware(), options.image, name=options.image_name, cpu=cpu,
        ram_size=options.memory, command_line=options.append, modules=_modules(options),
        serial=serial, trace=options.trace, engine=engine, code_cache=options.code_cache,
    )  # fmt: skip


def run(options: RunOptions) -> RunResult:
    """Run a guest to its end. Raises LaunchError when it cannot be started."""
    launched = launch(options)
    ending = drive(launched.session, options.max_instructions, options.on_progress)
    return finish(launched, ending, options.trace, hash_memory=options.hash_memory)


def drive(
    session: Session, most: int | None, on_progress: Callable[[int], None] | None = None
) -> Ending:
    """Run to the end or the budget, reporting progress on the way."""
    try:
        while True:
            target = session.retired + PROGRESS_STEP if on_progress is not None else most
            if most is not None and target is not None:
                target = min(target, most)
            ending = session.run(target)
            if ending is not None:
                return ending
            if on_progress is not None:
                on_progress(session.retired)
            if most is not None and session.retired >= most:
                text = f"the budget of {most} instructions ran out at {session.retired}"
                return Ending("budget", message=text)
    except KeyboardInterrupt:
        return Ending("interrupted", message=f"interrupted after {session.retired} instructions")


def finish(
    launched: Launched, ending: Ending, trace: EventSink | None, *, hash_memory: bool = True
) -> RunResult:
    """Collect what the run came to, and end its trace."""
    session = launched.session
    digest = session.memory_sha256() if hash_memory or trace is not None else ""
    if trace is not None:
        status = ending.exit_status
        trace(
            End(
                retired=session.retired,
                ended=ending.how,
                exit_status=status,
                memory_sha256=digest,
            )
        )
    notes = list(launched.notes)
    if session.problem is not None:
        notes.append(f"some code runs slowly: {session.problem}")
    if isinstance(session, BareSession) and ending.how != "power_off":
        failed = session.failed_entry()
        notes += [failed] if failed else []
    shadow = getattr(session, "shadow_statistics", lambda: None)()
    walks = getattr(session, "walks", None)
    return RunResult(
        style=launched.style,
        engine=launched.engine,
        retired=session.retired,
        exits=session.exits(),
        ended=ending.how,
        exit_status=ending.exit_status,
        memory_sha256=digest,
        console=bytes(launched.console),
        registers=session.registers(),
        message=ending.message,
        notes=notes,
        walks=walks.summary() if walks is not None else {},
        shadow=shadow,
    )
