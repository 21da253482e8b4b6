"""The CPU a machine has: a profile of spec, with features added or taken away by name.

`haswell`, `haswell,+vmx`, `max,-smap`: written as QEMU users write `-cpu`. VMX is on the silicon
of every profile but is shown to the guest only when asked for.
"""

from dataclasses import dataclass, replace

from vtx.machine.built import BUILT
from vtx.spec import Profile, SpecError, feature, profile

VMX = "VMX"


@dataclass(frozen=True)
class CpuModel:
    """`text` as it was given; `silicon` has the features after additions and removals."""

    text: str
    silicon: Profile
    vmx_wanted: bool

    def shown(self, *, vmx: bool, cpus: int = 1) -> frozenset[str]:
        """Names of the features that CPUID shows on each of so many CPUs."""
        hidden = set() if vmx else {VMX}
        if cpus == 1:
            hidden.add("HTT")
        return (self.silicon.features & BUILT) - hidden


def cpu_model(text: str) -> CpuModel:
    """Parse PROFILE[,+FEATURE|,-FEATURE...]. Raises SpecError for a name that does not exist
    and for a feature that is not built."""
    name, *changes = (part.strip() for part in text.split(","))
    base = profile(name)
    features, wanted = set(base.features), False
    for change in changes:
        sign, feature_name = change[:1], feature(change[1:].upper()).name
        if sign == "-":
            features.discard(feature_name)
        elif sign != "+":
            raise SpecError(f"CPU {text}: {change!r} is neither +FEATURE nor -FEATURE")
        elif feature_name not in BUILT:
            raise SpecError(f"CPU {text}: {feature_name} is not built")
        else:
            features.add(feature_name)
            wanted = wanted or feature_name == VMX
    return CpuModel(text, replace(base, features=frozenset(features)), wanted)
