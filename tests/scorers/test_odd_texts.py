"""Every scorer on texts that break scorers: a number in [0, 1] or a reason, never a crash, and alone as in company."""

from __future__ import annotations

import math

import pytest

from detox.scorers import ClassifierScorer, ReplayScorer, WordListScorer, load_scorer, score_texts, train_scorer
from detox.scorers.score_cache import Answer, text_key, write_scores
from tests.scorers import tiny

ODD = {
    "100 k characters": "the garden was quiet and the rain was long " * 2400,
    "100 k characters, one word": "a" * 100_000,
    "empty": "",
    "white space": " \n\t\u00a0",
    "zero width": "\u200b\u200d\ufeff",
    "emoji": "\U0001f600 \U0001f926\U0001f3fd\u200d\u2642\ufe0f",
    "right to left": "\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627",
    "bidirectional overrides": "you \u202efool\u202c there",
    "lone surrogates": "rain \ud83d tea \ude00",
    "halves of a pair": "rain \ud83d\ude00",
    "NUL": "the\0garden",
    "combining marks": "g" + "\u0301" * 500 + "arden",
    "line separators": "the\u2028garden\u2029\x85was\x0bquiet",
}
SILENT = ("empty", "white space", "zero width")


def replay(folder):
    answers = {text_key(text): Answer(date="2026-03-01", scores={"toxicity": 0.5}) for text in list(ODD.values())[::2]}
    return ReplayScorer(write_scores(folder / "cache.jsonl.gz", "a service", answers))


def trained(folder):
    texts = [f"{'fool' if label else 'garden'} number {index}" for index in range(20) for label in (0, 1)]
    return train_scorer(texts, [0, 1] * 20, trained_on=["these"], n_bootstrap=0)[0]


MAKERS = {
    "profanity": lambda folder: load_scorer("profanity"),
    "wordlist": lambda folder: WordListScorer(["fool", "\U0001f600"]),
    "trained": trained,
    "classifier": lambda folder: ClassifierScorer(
        tiny.bert(("neutral", "toxic"), "single_label_classification"),
        tiny.bert_tokenizer(),
        name="tiny",
        toxic_labels=["toxic"],
    ),
    "replay": replay,
}


@pytest.mark.parametrize("name", MAKERS)
def test_odd_texts(name, tmp_path):
    scorer = MAKERS[name](tmp_path)
    scores = dict(zip(ODD, score_texts(scorer, list(ODD.values())), strict=True))
    for what, score in scores.items():
        if what in SILENT:
            assert score.reason == "empty", what
        elif score.is_missing:
            assert score.reason, what
        else:
            assert 0.0 <= score.value <= 1.0, what
    for what in ("100 k characters", "lone surrogates", "right to left"):
        (alone,) = score_texts(scorer, [ODD[what]])
        assert alone.reason == scores[what].reason
        assert alone.is_missing or math.isclose(alone.value, scores[what].value, abs_tol=1e-5), what
