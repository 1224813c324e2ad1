"""Windows over long text, and the maximum over them: how a scorer of short text reads a long one.

A bag of words that is normalised by its length dilutes: one toxic sentence in a page of clean prose is not found. The
maximum over windows finds it. Its price: the more windows a text has, the higher its maximum, so values of texts of
very different length compare poorly. Text that fits in one window is untouched.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import numpy as np
import numpy.typing as npt

from detox.scorers.protocol import EMPTY, Score, is_empty, readable, require_texts

_WORD = re.compile(r"\S+")
_BATCH = 4096  # windows scored at once: memory does not grow with the number or the length of the texts


def word_windows(text: str, size: int) -> list[str]:
    """`text` cut into windows of `size` white-space separated words, each half over the one before.

    The last window ends with the text, so no word is lost and none but the only window is shorter than `size` words.
    What stands between the words is kept as it is. A text of at most `size` words is returned whole.

    Args:
        text: any text.
        size: words in a window, at least 2.
    """
    words = [match.span() for match in _WORD.finditer(text)]
    if len(words) <= size:
        return [text]
    starts = [*range(0, len(words) - size, size // 2), len(words) - size]
    return [text[words[start][0] : words[start + size - 1][1]] for start in starts]


def score_by_windows(
    texts: Sequence[str],
    size: int,
    probabilities: Callable[[list[str]], npt.NDArray[np.float64]],
    *,
    what: str,
    unknown: str,
) -> list[Score]:
    """The maximum of `probabilities` over the windows of each text.

    Args:
        texts: what to score.
        size: words in a window.
        probabilities: maps texts to shape (texts,), values in [0, 1] or NaN for what it cannot read.
        what: names the scorer in errors.
        unknown: the reason given where no window of a text could be read.

    Returns:
        One score a text; NaN with reason "empty" or `unknown`.
    """
    require_texts(texts, what)
    best = np.full(len(texts), math.nan)
    windows = _owned_windows(texts, size)
    while batch := list(islice(windows, _BATCH)):
        owners = np.array([owner for owner, _ in batch])
        # fmax: a window that cannot be read does not hide the others
        np.fmax.at(best, owners, probabilities([window for _, window in batch]))
    return [
        Score(float(value)) if not math.isnan(value) else Score.missing(EMPTY if is_empty(text) else unknown)
        for value, text in zip(best, texts, strict=True)
    ]


def _owned_windows(texts: Sequence[str], size: int) -> Iterator[tuple[int, str]]:
    for owner, text in enumerate(texts):
        if not is_empty(text):
            for window in word_windows(readable(text), size):
                yield owner, window
