"""Machine code of the few instructions that generated programs write by template.

Only what a mode changes is here: operand- and address-size prefixes, REX, absolute addresses.
"""

from dataclasses import dataclass

from lockstep_places import Mode


@dataclass(frozen=True, slots=True)
class Emit:
    """Encodes for one mode. Registers are numbers; `gva` are linear addresses of data."""

    mode: Mode

    @property
    def wide(self) -> bytes:
        """Prefix for 32-bit operands."""
        return b"\x66" if self.mode.bits == 16 else b""

    @property
    def half(self) -> bytes:
        """Prefix for 16-bit operands."""
        return b"" if self.mode.bits == 16 else b"\x66"

    def load(self, register: int, value: int, width: int) -> bytes:
        """MOV register, value: 32 or 64 bits (16-bit code loads 32 bits, too)."""
        if width == 64 and self.mode.bits == 64:
            if value < 1 << 32:
                rex = b"\x41" if register > 7 else b""
                return rex + bytes([0xB8 | register & 7]) + value.to_bytes(4, "little")
            rex = bytes([0x48 | register >> 3])
            return rex + bytes([0xB8 | register & 7]) + value.to_bytes(8, "little")
        rex = b"\x41" if register > 7 else b""
        value &= 0xFFFF_FFFF
        return self.wide + rex + bytes([0xB8 | register & 7]) + value.to_bytes(4, "little")

    def absolute(self, opcode: bytes, extension: int, gva: int) -> bytes:
        """`opcode` with the memory operand at `gva` and no base register."""
        offset = (gva - self.mode.data_base) & 0xFFFF_FFFF
        reg = extension << 3
        match self.mode.bits:
            case 64:
                return opcode + bytes([reg | 4, 0x25]) + offset.to_bytes(4, "little")
            case 32:
                return opcode + bytes([reg | 5]) + offset.to_bytes(4, "little")
        return opcode + bytes([reg | 6]) + (offset & 0xFFFF).to_bytes(2, "little")

    def absolute_width(self) -> int:
        """Bytes of the address in `absolute`."""
        return 2 if self.mode.bits == 16 else 4

    def store32(self, gva: int, value: int) -> bytes:
        return self.wide + self.absolute(b"\xc7", 0, gva) + value.to_bytes(4, "little")
