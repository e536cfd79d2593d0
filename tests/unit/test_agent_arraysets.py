"""Arrays as sets are what numpy makes of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcall_probes.arraysets import distinct, is_among

pytestmark = pytest.mark.unit

NUMBERS = st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 9)).map(
    lambda values: np.array(values, dtype=np.uint64)
)


@given(NUMBERS)
def test_each_value_once_in_order(values: np.ndarray) -> None:
    assert distinct(values).tolist() == np.unique(values).tolist()


@given(NUMBERS, NUMBERS)
def test_what_others_have_too(values: np.ndarray, others: np.ndarray) -> None:
    assert is_among(values, others).tolist() == np.isin(values, others).tolist()
