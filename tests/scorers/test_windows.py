import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detox.errors import InputError
from detox.scorers.windows import score_by_windows, word_windows

WORDS = st.lists(st.sampled_from(["a", "bb", "ccc,", "\u05d0\u05d1", "idiot"]), max_size=60)


@given(WORDS, st.integers(2, 20))
def test_windows_cover_every_word_in_order_and_none_is_longer(words, size):
    text = "  ".join(f"{word}{index}" for index, word in enumerate(words))
    windows = word_windows(text, size)
    assert all(window in text for window in windows)
    seen = [word for window in windows for word in window.split()]
    assert list(dict.fromkeys(seen)) == text.split()
    if len(words) <= size:
        assert windows == [text]
    else:
        assert {len(window.split()) for window in windows} == {size}
        assert windows[-1].split() == text.split()[-size:]


@given(WORDS, st.integers(2, 10))
def test_neighbours_share_at_least_half_a_window(words, size):
    text = " ".join(f"{word}{index}" for index, word in enumerate(words))
    windows = word_windows(text, size)
    for one, next_one in pairwise(windows):
        assert len(set(one.split()) & set(next_one.split())) >= size - size // 2


def share_of_rude(texts):
    return np.array([np.mean([word == "idiot" for word in text.split()]) for text in texts])


def test_the_score_is_the_maximum_over_the_windows():
    text = " ".join(["word"] * 200 + ["idiot"] * 10)
    (score,) = score_by_windows([text], 10, share_of_rude, what="x", unknown="u")
    assert score.value == 1.0
    assert share_of_rude([text])[0] < 0.1


def test_unreadable_windows_do_not_hide_the_others_but_all_of_them_do():
    def only_rude(texts):
        return np.array([0.9 if "idiot" in text else math.nan for text in texts])

    scores = score_by_windows(["word " * 50 + "idiot", "word " * 50, ""], 10, only_rude, what="x", unknown="unread")
    assert scores[0].value == 0.9
    assert [score.reason for score in scores] == [None, "unread", "empty"]


def test_batches_do_not_grow_with_the_texts():
    sizes = []

    def watch(texts):
        sizes.append(len(texts))
        return np.zeros(len(texts))

    score_by_windows(["word " * 20_000] * 20, 10, watch, what="x", unknown="u")
    assert sum(sizes) > 20 * 20_000 / 10
    assert max(sizes) <= 4096


def test_a_bare_string_is_refused():
    with pytest.raises(InputError, match="one string"):
        score_by_windows("word", 10, share_of_rude, what="x", unknown="u")
