"""Repetition: written again from the definitions, and what is degenerate."""

from __future__ import annotations

import math
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detox.evaluation.diversity import compression_ratio, is_degenerate, rep_n

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
