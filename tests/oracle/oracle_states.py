"""States for an instance: edge values everywhere, addresses and counts within bounds."""

from random import Random

from iced_x86 import OpKind, Register
from oracle_case import ALL_ARITHMETIC, DF, IF, LOW, LOW_SIZE, STACK, Case
from oracle_forms import NUMBER, Instance, edge, middle
from oracle_ours import FS_BASE

from vtx.isa.undefined import undefined_flags, undefined_result

_M64 = 0xFFFF_FFFF_FFFF_FFFF
_SHIFTS = frozenset(("SHL", "SAL", "SHR", "SAR", "ROL", "ROR", "RCL", "RCR", "SHLD", "SHRD"))
_STRINGS = ("MOVS", "CMPS", "SCAS", "LODS", "STOS")
RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI = range(8)
BRANCH_DISTANCE = 64


def case(one: Instance, random: Random) -> Case:
    """A random state in which `one` touches only the memory regions."""
    state = _State(one, random)
    state.implicit_registers()
    state.bit_index()
    state.address()
    state.contents()
    return state.case()


class _State:
    def __init__(self, one: Instance, random: Random) -> None:
        self.one, self.random, self.decoded = one, random, one.decoded
        self.width = 64 if one.bits == 64 else 32
        self.gprs = [edge(random, self.width) for _ in range(16 if one.bits == 64 else 8)]
        self.stack = LOW + 0x400 if one.bits == 16 else STACK
        self.gprs[RSP] = self.stack + 0x800 + random.choice((0, 0, 1, 8, 12))
        self.memory: list[tuple[int, bytes]] = []
        self.flags = random.getrandbits(12) & ALL_ARITHMETIC | 2 | IF
        if random.random() < 0.3:
            self.flags |= DF
        self.stack_patch: tuple[int, bytes] | None = None

    # --- registers ---------------------------------------------------------------------------
    def implicit_registers(self) -> None:
        mnemonic, random = self.one.mnemonic, self.random
        if mnemonic in ("ENTER", "LEAVE"):
            self.gprs[RBP] = self.stack + 0x900 + random.choice((0, 3, 8))
        if mnemonic == "ENTER" and random.random() < 0.5:
            self.gprs[RBP] = self.gprs[RSP]
        if mnemonic.startswith(_STRINGS):
            self._string()
        if mnemonic == "XLATB":
            self.gprs[RBX] = self.one.gva
        if mnemonic in ("DIV", "IDIV") and random.random() < 0.7:
            self._small_dividend()
        if mnemonic in ("CMPXCHG8B", "CMPXCHG16B"):
            half = 4 if mnemonic == "CMPXCHG8B" else 8
            pair = [self.gprs[n] & ((1 << 8 * half) - 1) for n in (RAX, RDX)]
            if random.random() < 0.5:
                self._patch(b"".join(n.to_bytes(half, "little") for n in pair))

    def _string(self) -> None:
        width, random = self.one.address_width, self.random
        base = middle(self.one) - 0x100
        places = (0, 8, -7)
        for register, extra in ((RSI, 0), (RDI, random.choice((0, 0x100)))):
            self._set_low(register, base + random.choice(places) + extra, width)
        if self.decoded.has_rep_prefix or self.decoded.has_repne_prefix:
            self._set_low(RCX, random.choice((0, 1, 2, 3)), width)
        if random.random() < 0.4:
            self.gprs[RAX] = edge(random, 8)

    def _set_low(self, register: int, value: int, width: int) -> None:
        """The low `width` bits; what is above stays random."""
        mask = (1 << width) - 1
        self.gprs[register] = (self.gprs[register] & ~mask) | (value & mask)

    def _small_dividend(self) -> None:
        self.gprs[RDX] = self.random.choice((0, 0, 1, (1 << self.width) - 1))
        self.gprs[RAX] = edge(self.random, 15)

    def bit_index(self) -> None:
        """A register index of BT and kin reaches far from a memory operand: keep it near."""
        if not self.one.mnemonic.startswith("BT") or not self._to_memory():
            return
        if self.decoded.op_kind(1) == OpKind.REGISTER:
            number = NUMBER[self.decoded.op_register(1)]
            if number != RSP:
                far = 0x7000 if middle(self.one) > LOW_SIZE + LOW else 0x3000
                value = self.random.choice((0, 1, 63, -1, -64, far, -far, 0x123, -0x777))
                self.gprs[number] = value & ((1 << self.width) - 1)

    def _to_memory(self) -> bool:
        return self.decoded.op_count > 0 and self.decoded.op_kind(0) == OpKind.MEMORY

    def address(self) -> None:
        """Give the base register what makes the effective address the wanted one."""
        one, decoded = self.one, self.decoded
        if not one.gva or decoded.memory_base in (Register.NONE, Register.RIP, Register.EIP):
            return
        if decoded.memory_index == Register.AL:
            return
        number = NUMBER[decoded.memory_base]
        rest = decoded.memory_displacement
        if decoded.memory_index != Register.NONE:
            index = NUMBER[decoded.memory_index]
            if one.mnemonic.startswith("BT") and index in one.registers:
                self.gprs[index] &= 0xFF
            rest += self.gprs[index] * decoded.memory_index_scale
        if decoded.segment_prefix == Register.FS:
            rest += FS_BASE
        self._set_low(number, one.gva - rest, one.address_width)
        # A base that is also the bit index cannot be kept near.

    # --- memory and operands -----------------------------------------------------------------
    def contents(self) -> None:
        mnemonic, random = self.one.mnemonic, self.random
        if self.one.gva and not any(at == self.one.gva for at, _ in self.memory):
            self._patch(edge(random, 64).to_bytes(8, "little"))
        if mnemonic in ("CALL", "JMP") and self.one.target is None:
            self._branch_operand()
        if mnemonic == "RET":
            self._on_stack(self._return_target())
        if mnemonic.startswith("POPF"):
            settable = ALL_ARITHMETIC | DF | IF | 0x3000 | 1 << 21 | 1 << 18
            self._on_stack(random.getrandbits(22) & settable | 2)
        if mnemonic == "CMPXCHG" and random.random() < 0.5:
            self._compare_equal()
        if mnemonic.startswith(("CMPS", "SCAS")) and random.random() < 0.5:
            self._equal_strings()

    def _patch(self, content: bytes) -> None:
        self.memory.append((self.one.gva, content))

    def _on_stack(self, value: int) -> None:
        self.memory.append((self.gprs[RSP], (value & _M64).to_bytes(8, "little")))

    def _return_target(self) -> int:
        return self.one.ip + BRANCH_DISTANCE

    def _branch_operand(self) -> None:
        target = self._return_target()
        if self._to_memory():
            self.memory = [(self.one.gva, target.to_bytes(8, "little"))]
        else:
            self.gprs[NUMBER[self.decoded.op_register(0)]] = target

    def _compare_equal(self) -> None:
        if self._to_memory():
            content = (self.gprs[RAX] & _M64).to_bytes(8, "little")
            self.memory = [(self.one.gva, content)]
        elif NUMBER[self.decoded.op_register(0)] != RSP:
            self.gprs[RAX] = self.gprs[NUMBER[self.decoded.op_register(0)]]

    def _equal_strings(self) -> None:
        mask = (1 << self.one.address_width) - 1
        content = (self.gprs[RAX] & _M64).to_bytes(8, "little")
        for register in (RSI, RDI):
            self.memory.append((self.gprs[register] & mask, content))

    # --- the case ----------------------------------------------------------------------------
    def case(self) -> Case:
        one = self.one
        width, count = self._operand_width(), self._shift_count()
        return Case(
            form=one.form, mnemonic=one.mnemonic, bits=one.bits, code=one.code, ip=one.ip,
            gprs=tuple(self.gprs), flags=self.flags, memory=tuple(self.memory),
            undefined=undefined_flags(one.mnemonic, width, count),
            result_undefined=undefined_result(one.mnemonic, width, count),
            uses_low=one.address_width == 16,
            exits=one.target,
        )  # fmt: skip

    def _operand_width(self) -> int:
        for part in self.one.form.split("_"):
            if part in ("RM8", "R8", "AL"):
                return 8
            if part in ("RM16", "R16", "AX"):
                return 16
            if part in ("RM32", "R32", "EAX"):
                return 32
        return 64

    def _shift_count(self) -> int:
        if self.one.mnemonic not in _SHIFTS:
            return 0
        last = self.decoded.op_count - 1
        if self.decoded.op_kind(last) == OpKind.REGISTER:
            count = self.gprs[RCX] & 0xFF
        else:
            count = self.decoded.immediate(last)
        return count & (63 if self._operand_width() == 64 else 31)
