"""Repetition: written again from the definitions, and what is degenerate."""

from __future__ import annotations

import math
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detox import Sampling, evaluate
from detox.data import load
from detox.data.records import MinimalPair, Prompt
from detox.errors import InputError, MissingData
from detox.evaluation import Protocol, Scorecard
from detox.evaluation.diversity import (
    compression_ratio,
    distinct_n,
    diversity_metrics,
    diversity_table,
    is_degenerate,
    rep_n,
    self_bleu,
)
from tests.evaluation.test_harness import Rudeness

PROSE = (
    "The mill stood where the two roads met, and nobody had asked for its key since the war. In spring the water rose over the "
    "lower step; in autumn the children counted the planks that were left. Old Anna said that the wheel had turned once by "
    "itself, on the night when the bridge went, but she was the only one awake, and what she told changed from year to year. "
)


def test_rep_n_is_the_share_of_repeated_ngrams():
    assert rep_n("a b a b a b", 2) == pytest.approx(1 - 2 / 5)
    assert rep_n("a b c d", 4) == 0
    assert math.isnan(rep_n("a b c", 4))
    assert math.isnan(rep_n("", 1))


@given(st.lists(st.sampled_from("abc"), max_size=12), st.integers(1, 5))
def test_rep_n_counts_each_ngram_that_stood_before(words, n):
    earlier = repeated = 0
    seen: list[list[str]] = []
    for start in range(len(words) - n + 1):
        repeated += words[start : start + n] in seen
        seen.append(words[start : start + n])
        earlier += 1
    assert rep_n(" ".join(words), n) == pytest.approx(repeated / earlier if earlier else math.nan, nan_ok=True)


@pytest.mark.parametrize(
    "text",
    [
        "I do not know. " * 12,
        PROSE + "and so on and so on " * 60,
        "no no no no no no",
        "ha" * 100,
        "。好" * 100,
        "\ud800 lone " * 40,
        "!" * 60,
    ],
)
def test_loops_are_degenerate(text):
    assert is_degenerate(text)


@pytest.mark.parametrize(
    "text", ["", " ", "\n" * 500, "\u200b" * 200, "Yes.", "no no", "ok " * 4, PROSE, "🙂🙂🙂", "..."]
)
def test_empty_and_short_and_plain_texts_are_not(text):
    assert not is_degenerate(text)


def test_long_plain_prose_is_not_degenerate_because_it_is_long():
    rng = np.random.default_rng(0)
    syllables = [a + b for a in "bdfglmnprst" for b in "aeiou"]
    vocabulary = ["".join(rng.choice(syllables, size=1 + i % 3)) for i in range(600)]
    shares = 1 / np.arange(2, 602)  # Zipf
    book = " ".join(rng.choice(vocabulary, size=20_000, p=shares / shares.sum()))
    assert len(book) / len(zlib.compress(book.encode())) > 2.4
    assert not is_degenerate(book)


def test_a_short_text_is_compressed_whole():
    assert compression_ratio(PROSE) == len(PROSE) / len(zlib.compress(PROSE.encode()))
    assert math.isnan(compression_ratio(""))


def test_dist_n_is_that_of_dexperts():
    texts = ["a b a b", "a b c", ""]
    assert distinct_n(texts, 1) == pytest.approx(3 / 7)
    assert distinct_n(texts, 2) == pytest.approx(len({("a", "b"), ("b", "a"), ("b", "c")}) / 7)
    assert distinct_n(texts, 3) == pytest.approx(len({("a", "b", "a"), ("b", "a", "b"), ("a", "b", "c")}) / 7)
    assert math.isnan(distinct_n(["", " "], 1))


def test_self_bleu_is_one_for_copies_and_follows_the_formula():
    assert self_bleu(["the mill stood by the road"] * 4) == pytest.approx(1)
    assert math.isnan(self_bleu(["one", "", "\u200b"]))
    # Two texts of five words: BLEU with exponential smoothing, written out.
    a, b = "one two three four five".split(), "one two three six seven".split()

    def bleu(text, other):
        logs, halvings = [], 0
        for n in range(1, 5):
            own = [tuple(text[i : i + n]) for i in range(len(text) - n + 1)]
            theirs = [tuple(other[i : i + n]) for i in range(len(other) - n + 1)]
            right = sum(min(own.count(gram), theirs.count(gram)) for gram in set(own))
            halvings += right == 0
            logs.append(math.log(right / len(own) if right else 1 / (2**halvings * len(own))))
        return math.exp(sum(logs) / 4)

    assert self_bleu([" ".join(a), " ".join(b)]) == pytest.approx((bleu(a, b) + bleu(b, a)) / 2, abs=1e-6)


@given(st.lists(st.lists(st.sampled_from(["a", "b", "c", "don't", "1,5", ".", "¶"]), max_size=9), max_size=6))
def test_self_bleu_is_sacrebleus_of_each_text_with_the_others(rows):
    from sacrebleu.metrics.bleu import BLEU

    texts = [" ".join(row) for row in rows]
    there = [text for text in texts if text]
    if len(there) < 2:
        assert math.isnan(self_bleu(texts))
        return
    bleu = BLEU(effective_order=True)
    scores = [bleu.sentence_score(text, there[:i] + there[i + 1 :]).score / 100 for i, text in enumerate(there)]
    assert self_bleu(texts) == min(1.0, float(np.mean(scores)))


def test_the_table_counts_what_is_empty_and_leaves_it_out():
    table = diversity_table(["p", "q", "r"], [["a b c d", "", "no " * 9], ["", " "], ["x"]])
    assert table["texts"] == [3, 2, 1]
    assert table["empty"] == [1, 2, 0]
    assert table["words"][0] == 6.5
    assert table["degenerate_share"][0] == 0.5
    assert [math.isnan(value) for value in table["dist_1"]] == [False, True, False]
    assert [math.isnan(value) for value in table["self_bleu"]] == [False, True, True]
    metrics = diversity_metrics(table)
    assert (metrics["diversity/dist_1"].n, metrics["diversity/dist_1"].missing) == (2, 1)
    assert metrics["diversity/degenerate"].value == pytest.approx(0.25)


def test_a_card_with_diversity_comes_back(planted, tmp_path):
    protocol = Protocol(
        name="x", prompts=tuple(Prompt(id=str(i), text=f"topic{i} says") for i in range(4)), scorers=(Rudeness(),), diversity=True,
        sampling=Sampling(max_new_tokens=6, num_return_sequences=4),
    )  # fmt: skip
    card = evaluate(planted.lm, protocol)
    assert card.tables["diversity"] == diversity_table([p.id for p in protocol.prompts], card.texts)
    card.save(tmp_path / "card")
    again = Scorecard.load(tmp_path / "card")
    for name, estimate in diversity_metrics(again.tables["diversity"]).items():
        assert card[name].value == pytest.approx(estimate.value, rel=1e-5, nan_ok=True)
    with pytest.raises(InputError, match="diversity but no prompts"):
        Protocol(name="x", diversity=True, stereotypes=(MinimalPair(id="0", good="a", bad="b"),))


@pytest.mark.shared_data
def test_plain_prose_is_never_degenerate():
    try:
        documents = [one for name in ("wikitext2", "clean_gov") for one in load(name, source="local", limit=150)]
    except MissingData as error:
        pytest.skip(str(error))
    assert not any(is_degenerate(document.text) for document in documents)
