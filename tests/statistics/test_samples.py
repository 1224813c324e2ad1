from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from detox.errors import InputError
from detox.statistics import (
    any_above,
    expected_maximum,
)

unit = st.floats(0, 1, width=32)


@given(arrays(np.float64, (3, 6), elements=unit), st.integers(1, 6))
@settings(max_examples=40)
def test_expected_maximum_is_brute_force(scores, m):
    brute = [np.mean([max(c) for c in itertools.combinations(row, m)]) for row in scores]
    np.testing.assert_allclose(expected_maximum(scores, m), brute, atol=1e-12)
    np.testing.assert_allclose(expected_maximum(scores, 6), scores.max(1))


@given(arrays(np.float64, (3, 6), elements=unit), st.integers(1, 6))
@settings(max_examples=40)
def test_any_above_is_brute_force(scores, m):
    brute = [np.mean([max(c) >= 0.5 for c in itertools.combinations(row, m)]) for row in scores]
    np.testing.assert_allclose(any_above(scores, 0.5, m), brute, atol=1e-12)


def test_25_equal_texts_count_25_times():
    assert any_above(np.ones((1, 25)), 0.5, 1)[0] == 1.0  # the dedup that made HELM's fraction 0.027 out of 0.056


def test_wrong_m_is_named():
    with pytest.raises(InputError, match="m=9 samples, but there are 5"):
        expected_maximum(np.zeros((2, 5)), 9)
