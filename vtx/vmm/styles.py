"""The styles of virtualization by name, and users' own VMMs by file and class."""

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path

from vtx.machine.computer import MOST_CPUS
from vtx.machine.cpu_model import CpuModel
from vtx.vmm.base import Vmm
from vtx.vmm.ept import Ept
from vtx.vmm.shadow import Shadow

VMMS: dict[str, type[Vmm]] = {"ept": Ept, "shadow": Shadow}
FIRMWARE = "firmware"
STYLES = ("bare", *VMMS, FIRMWARE)


class LaunchError(Exception):
    """A run that cannot start; one line that says what, where and why."""


@dataclass(frozen=True)
class Style:
    """A style's name and its VMM in Python; None is the bare machine, or the VMM in assembly."""

    name: str
    vmm: type[Vmm] | None


def resolve_style(name: str, cpu: CpuModel, cpus: int = 1) -> tuple[Style, list[str]]:
    """The style called `name` on a CPU profile and so many CPUs, and notes about the choice."""
    has_ept = cpu.silicon.has_ept
    if not 1 <= cpus <= MOST_CPUS:
        raise LaunchError(f"--smp {cpus}: a machine has 1 to {MOST_CPUS} CPUs")
    if cpu.vmx_wanted and name != "bare":
        raise LaunchError(f"--cpu {cpu.text}: a guest that uses VMX runs under --vmm bare only")
    if name == "auto" and cpus > 1:
        return Style("bare", None), [f"{cpus} CPUs: a VM has one, so there is no VMM"]
    if cpus > 1 and name != "bare":
        raise LaunchError(f"--smp {cpus}: a VM has one CPU; more run under --vmm bare only")
    if name == "auto":
        if has_ept:
            return Style("ept", Ept), []
        return Style("shadow", Shadow), [f"CPU {cpu.text} has no EPT: using shadow paging"]
    if name == "bare":
        return Style("bare", None), []
    if name == FIRMWARE:
        if not has_ept:
            raise LaunchError(f"--vmm firmware: CPU {cpu.text} has no EPT; use --vmm shadow")
        return Style(FIRMWARE, None), []
    if name in VMMS:
        if name == "ept" and not has_ept:
            raise LaunchError(f"--vmm ept: CPU {cpu.text} has no EPT; use --vmm shadow or auto")
        return Style(name, VMMS[name]), []
    if ":" in name:
        return Style(name, _user_vmm(name)), []
    known = ", ".join(("auto", *STYLES))
    raise LaunchError(f"--vmm {name}: no such style; there are {known}, and FILE.py:Class")


def _user_vmm(name: str) -> type[Vmm]:
    file_name, _, class_name = name.rpartition(":")
    path = Path(file_name)
    if not path.is_file():
        raise LaunchError(f"--vmm {name}: there is no file {file_name}")
    spec = importlib.util.spec_from_file_location(f"vtx_user_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise LaunchError(f"--vmm {name}: {file_name} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        where = f"{type(error).__name__}: {error}".splitlines()[0]
        raise LaunchError(f"--vmm {name}: {file_name} cannot be loaded: {where}") from None
    found = getattr(module, class_name, None)
    if not (isinstance(found, type) and issubclass(found, Vmm)):
        raise LaunchError(f"--vmm {name}: {class_name} is not a subclass of vtx.vmm.Vmm")
    return found
