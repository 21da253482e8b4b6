"""VMX control words and their bits: VM-execution, VM-exit, VM-entry and VM-function controls.

Must not know which settings this machine allows; the capability MSRs are computed elsewhere.
"""

from dataclasses import dataclass
from functools import cache

from vtx.spec.tables import Names, SpecError, no_such, rows


@dataclass(frozen=True, slots=True)
class ControlWord:
    """One control field of the VMCS with the MSRs that report its allowed settings.

    `default1` has the bits the plain capability MSR always reports as fixed to 1,
    `true_default1` those its TRUE twin still does (SDM 3C, Reserved Controls and Default Settings).
    """

    word: str
    field: str
    capability_msr: str
    width: int
    default1: int
    true_default1: int
    see: str
    true_capability_msr: str = ""


@dataclass(frozen=True, slots=True)
class Control:
    """One control bit. `default1`: only a TRUE capability MSR can allow its 0-setting."""

    word: str
    bit: int
    name: str
    meaning: str
    default1: bool = False

    @property
    def mask(self) -> int:
        """The bit as a mask in its word."""
        return 1 << self.bit

    @property
    def id(self) -> str:
        """`word.NAME`, unique over all words."""
        return f"{self.word}.{self.name}"


@cache
def control_words() -> tuple[ControlWord, ...]:
    """All control words: pin, proc, sec, ter, exit, exit2, entry, vmfunc."""
    return rows("vmx_controls", "words", ControlWord)


def control_word(word: str) -> ControlWord:
    """The control word called `word`; SpecError if there is none."""
    for row in control_words():
        if row.word == word:
            return row
    raise SpecError(no_such("control word", word, [row.word for row in control_words()]))


@cache
def _all_controls() -> tuple[Control, ...]:
    return rows("vmx_controls", "controls", Control)


@cache
def controls(word: str | None = None) -> tuple[Control, ...]:
    """The controls of one word, or of all words, in order of word and bit."""
    if word is None:
        return _all_controls()
    name = control_word(word).word
    return tuple(row for row in _all_controls() if row.word == name)


@cache
def _by_name() -> dict[str, tuple[Control, ...]]:
    index: dict[str, tuple[Control, ...]] = {}
    for row in _all_controls():
        index[row.name] = (*index.get(row.name, ()), row)
        index[row.id.upper()] = (row,)
    return index


def control(name: str) -> Control:
    """The control called `name`: `HLT_EXITING`, or `exit.LOAD_PAT` where words share a name.

    Raises SpecError for an unknown name and for one that needs its word in front.
    """
    found = _by_name().get(name.upper(), ())
    if len(found) == 1:
        return found[0]
    if found:
        choice = ", ".join(row.id for row in found)
        raise SpecError(f"more than one control is called {name!r}; say which: {choice}")
    known = [row.id if "." in name else row.name for row in _all_controls()]
    raise SpecError(no_such("control", name, known))


@cache
def _unambiguous() -> dict[str, Control]:
    return {name: found[0] for name, found in _by_name().items() if len(found) == 1}


CONTROLS: Names[Control] = Names("control", _unambiguous)
"""Controls by name, for names that one word alone has: `CONTROLS.HLT_EXITING.mask`."""
