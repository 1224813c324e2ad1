"""Inferred dialect on a vocabulary made by hand."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from tests.conftest import REPOSITORY

_SPEC = importlib.util.spec_from_file_location("benchmarks_dialect", REPOSITORY / "benchmarks" / "dialect.py")
dialect = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(dialect)


@pytest.fixture
def model(tmp_path):
    """Two words of one kind of English each, and one that all kinds have alike."""
    counts = np.array([[999, 1, 1, 1], [1, 1, 1, 999], [500, 500, 500, 500]])
    np.savetxt(tmp_path / "model_count_table.txt", counts)
    (tmp_path / "model_vocab.txt").write_text("1500\tfinna\n1500\tgarage\n2000\tthe\n")
    return dialect.read_model(tmp_path)


def test_shares_follow_the_words(model):
    first, last, both = (dialect.shares(words, model) for words in (["finna"] * 4, ["garage"] * 4, ["finna", "garage"]))
    assert first[0] > 0.8
    assert last[3] > 0.8
    assert both[0] == pytest.approx(both[3], abs=0.02)
    for found in (first, last, both):
        assert found.sum() == pytest.approx(1)


def test_texts_of_unknown_words_have_no_dialect(model):
    assert dialect.shares(["unknown"], model) is None
    assert dialect.shares(["the", *["unknown"] * 9], model) is None
    assert dialect.shares([], model) is None
