"""Exceptions by vector."""

import pytest

from vtx import spec


def test_error_codes_and_double_fault_classes_are_the_manuals():
    with_code = [row.vector for row in spec.exceptions() if row.error_code]
    assert with_code == [8, 10, 11, 12, 13, 14, 17, 21]
    contributory = [r.vector for r in spec.exceptions() if r.contributory == "contributory"]
    assert contributory == [0, 10, 11, 12, 13, 21]
    assert [r.vector for r in spec.exceptions() if r.contributory == "page_fault"] == [14, 20]


def test_an_exception_is_found_by_vector_and_mnemonic():
    assert spec.exception(14) is spec.exception("#PF") is spec.exception("pf")
    assert spec.VECTORS.GP == 13
    with pytest.raises(spec.SpecError, match="no exception has vector 15"):
        spec.exception(15)
