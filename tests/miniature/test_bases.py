"""The miniature's base models."""

from __future__ import annotations

import json
import math

import pytest

from detox import LanguageModel, Sampling, miniature
from detox.errors import UnknownName


def test_every_arm_reads_the_same_clean_documents():
    mixtures = {arm: miniature.mixture(arm, size="test") for arm in ("clean", "full", "masked", "unlikelihood")}
    clean = {arm: mixture.sources[0].documents for arm, mixture in mixtures.items()}
    assert all(documents == clean["clean"] for documents in clean.values())
    assert len(mixtures["clean"].sources) == 1
    assert mixtures["masked"] == mixtures["full"]


def test_identity_changes_with_whatever_makes_another_model():
    same = miniature.base_identity("masked", size="test")
    assert miniature.base_identity("masked", size="test") == same
    others = [
        miniature.base_identity("unlikelihood", size="test"),
        miniature.base_identity("masked", size="test", seed=1),
        miniature.base_identity("masked", size="demo"),
    ]
    assert all(other != same for other in others)
    json.dumps(same)


@pytest.mark.parametrize(("arm", "size", "nearest"), [("maskd", "test", "masked"), ("masked", "tset", "test")])
def test_unknown_names_are_refused(arm, size, nearest, tmp_path):
    with pytest.raises(UnknownName, match=nearest):
        miniature.train_base(arm, tmp_path / "base", size=size)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_small_base_learns_the_words_and_can_be_measured(tmp_path):
    import torch

    threads = torch.get_num_threads()
    path = miniature.train_base("unlikelihood", tmp_path / "base", size="test", progress=False)
    assert torch.get_num_threads() == threads
    lm = LanguageModel.from_pretrained(path)
    prompts = [prompt.text for prompt in miniature.prompts(4)]
    completions = lm.generate(prompts, Sampling(max_new_tokens=12, num_return_sequences=2))
    assert [len(row) for row in completions] == [2] * 4
    documents = [document.text for document in miniature.heldout_documents(5)]
    logprobs = torch.cat(lm.logprobs(["<eos>"] * 5, documents))
    assert -logprobs.mean().item() < math.log(len(lm.tokenizer)) - 1  # far below guessing
    card = json.loads((path / "pretraining.json").read_text())
    assert miniature.train_base("unlikelihood", path, size="test", progress=False) == path  # at once
    assert json.loads((path / "pretraining.json").read_text()) == card


def test_the_truth_is_a_scorer():
    scorer = miniature.TruthScorer()
    scores = scorer.score([" you are a rotten pig.", " you have a rotten pig.", "  "])
    assert [score.value for score in scores[:2]] == [1.0, 0.0]
    assert math.isnan(scores[2].value)
    assert scores[2].reason == "empty text"
