"""The bits of the system registers."""

import pytest

from vtx.spec import SpecError
from vtx.spec.registers import ACCESS_RIGHTS, CR0, CR4, EFER, RFLAGS
from vtx.spec.tables import read_table


def test_a_bit_is_a_mask_by_name() -> None:
    assert (CR0.PE, CR0.PG, CR4.VMXE, EFER.LMA, RFLAGS.IF) == (1, 1 << 31, 0x2000, 0x400, 0x200)
    assert ACCESS_RIGHTS.UNUSABLE == 0x1_0000


def test_no_bit_of_a_register_has_two_names() -> None:
    for register, bits in read_table("registers").items():
        assert len(set(bits.values())) == len(bits), register


def test_a_bit_that_does_not_exist_is_refused_with_a_suggestion() -> None:
    with pytest.raises(SpecError, match="PG"):
        _ = CR0.PGG
