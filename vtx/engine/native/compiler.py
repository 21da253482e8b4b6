"""Turns the text of an LLVM module into a relocatable object for this host.

The only place that talks to llvmlite. It knows nothing of stencils, of the algebra or of what
happens to the object; `objects` reads it.

What a module's text has to observe, measured with LLVM 22 on x86-64:

* every function is `nounwind` and has no `uwtable`, so that no unwind table is emitted;
* a hole is `@H = external dso_local global i8, !absolute_symbol !r`, where `!r` is
  `!{i64 low, i64 high}` with `high` exclusive. LLVM takes the range `[0, 256)` for one that fits
  a sign-extended byte, and `[0, 2**32)` for one that fits a sign-extended doubleword: keep
  `high` at or below 128 or 2**31, or let the range be full, `!{i64 -1, i64 -1}`;
* a hole wider than that needs `code_model "large"` as well, after `global i8,`. Without it an
  addition of the hole is folded into a displacement, which holds 32 signed bits;
* a function that is to be extracted alone must not name another function of its module, or
  both must have their own `section ".text.name"`: the assembler resolves calls inside one
  section and leaves no relocation.
"""

import platform
from functools import cache
from hashlib import sha256
from importlib import import_module
from importlib.util import find_spec
from typing import Any

SUPPORTED_MACHINES = frozenset({"x86_64", "AMD64", "aarch64", "arm64"})
"""Hosts whose relocations `relocate` knows. Only x86-64 has been run."""

NO_PASSES, FEW_PASSES, USUAL_PASSES, ALL_PASSES = range(4)


class CompileError(Exception):
    """A module that LLVM does not accept, or a host without LLVM; the message is one line."""


def available() -> bool:
    """Whether this host has LLVM and an architecture whose relocations are understood."""
    return platform.machine() in SUPPORTED_MACHINES and find_spec("llvmlite") is not None


def description() -> str:
    """LLVM's version, triple, CPU and features: code of equal descriptions is exchangeable.

    Raises CompileError where `available()` is false.
    """
    return host_compiler().description


class HostCompiler:
    """LLVM's code generator for the CPU this process runs on. Not for concurrent threads."""

    def __init__(self) -> None:
        """Raises CompileError where `available()` is false."""
        if platform.machine() not in SUPPORTED_MACHINES:
            raise CompileError(f"no code generator for {platform.machine() or 'this host'}")
        if not available():
            raise CompileError("llvmlite is not installed")
        # By name, because llvmlite is optional and has no types.
        self._llvm: Any = import_module("llvmlite.binding")
        self._llvm.initialize_native_target()
        self._llvm.initialize_native_asmprinter()
        self._llvm.initialize_native_asmparser()
        self._triple: str = self._llvm.get_process_triple()
        self._cpu: str = self._llvm.get_host_cpu_name()
        self._features: str = self._llvm.get_host_cpu_features().flatten()
        self._targets: dict[int, Any] = {}

    @property
    def description(self) -> str:
        version = ".".join(map(str, self._llvm.llvm_version_info))
        features = sha256(self._features.encode()).hexdigest()[:16]
        return f"LLVM {version} {self._triple} {self._cpu} {features}"

    def compile(self, ir: str, *, effort: int = USUAL_PASSES) -> bytes:
        """The relocatable ELF object of the module `ir`.

        `effort` 0 runs no optimisation passes, 1 only promotes stack slots and simplifies
        control flow, 2 and 3 are LLVM's -O2 and -O3. Raises CompileError.
        """
        if effort not in range(4):
            raise CompileError(f"effort {effort} is not one of 0 to 3")
        llvm = self._llvm
        try:
            # A context of its own frees a module's types and names with it. Both are closed
            # here, in this order: the garbage collector may take the context first, and freeing
            # a module without its context ends the process.
            with llvm.create_context() as context, llvm.parse_assembly(ir, context) as module:
                return self._generate(module, effort)
        except RuntimeError as error:
            raise CompileError(_one_line(str(error))) from error

    def _generate(self, module: Any, effort: int) -> bytes:
        # The text may name no triple; without one LLVM assumes a host that has no ELF.
        module.triple = self._triple
        module.verify()
        target = self._target(effort)
        module.data_layout = str(target.target_data)
        self._optimise(module, target, effort)
        return bytes(target.emit_object(module))

    def _target(self, effort: int) -> Any:
        target = self._targets.get(effort)
        if target is None:
            target = self._llvm.Target.from_triple(self._triple).create_target_machine(
                cpu=self._cpu,
                features=self._features,
                opt=effort,
                reloc="pic",
                codemodel="small",
            )
            self._targets[effort] = target
        return target

    def _optimise(self, module: Any, target: Any, effort: int) -> None:
        """Run the passes of `effort`. A pass manager that is used twice can end the process."""
        if effort == NO_PASSES:
            return
        options = self._llvm.create_pipeline_tuning_options(speed_level=effort)
        builder = self._llvm.create_pass_builder(target, options)
        if effort == FEW_PASSES:
            passes = self._llvm.create_new_module_pass_manager()
            passes.add_sroa_pass()
            passes.add_simplify_cfg_pass()
        else:
            passes = builder.getModulePassManager()
        passes.run(module, builder)


@cache
def host_compiler() -> HostCompiler:
    """The one compiler of this process, made when first asked for. Raises CompileError."""
    return HostCompiler()


def _one_line(message: str) -> str:
    """The first two lines that say something: what is wrong, and in which text."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return ": ".join(line.rstrip(":") for line in lines[:2]) or "LLVM gave no reason"
