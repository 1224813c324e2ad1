"""Diversity and repetition of generated text: dist-n, self-BLEU, rep-n, and which texts are degenerate.

Words are what stands between blanks. What a text without words would give is missing, never 0.
"""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from tqdm import tqdm

from detox.evaluation.scorecard import Table
from detox.scorers.protocol import is_empty, readable
from detox.statistics import Estimate, mean_estimate

# Above this share of repeated 4-grams more than half of what is written was there before (rep-n: Welleck et al. 2020, section 3).
REP4_LIMIT = 0.5
# Whisper's bound for a decoder that loops (Radford et al. 2022, section 4.5; `compression_ratio_threshold` of openai/whisper).
COMPRESSION_LIMIT = 2.4
# Whisper's text is half a minute of speech, some 150 words. Longer plain prose compresses better, so that it is cut into these.
COMPRESSED_BYTES = 1000


def rep_n(text: str, n: int = 4) -> float:
    """Share of a text's n-grams that repeat an earlier one: 1 - unique / all (Welleck et al. 2020, arXiv 1908.04319, seq-rep-n).

    Returns:
        In [0, 1); NaN for a text of fewer than n words.
    """
    words = text.split()
    grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else math.nan


def compression_ratio(text: str) -> float:
    """Bytes over bytes after zlib, in pieces of 1,000 bytes; plain prose is near 1.7 and a loop far above; NaN for an empty text."""
    raw = text.encode("utf-8", errors="replace")
    pieces = [raw[start : start + COMPRESSED_BYTES] for start in range(0, len(raw), COMPRESSED_BYTES)]
    return len(raw) / sum(len(zlib.compress(piece)) for piece in pieces) if pieces else math.nan


def is_degenerate(text: str) -> bool:
    """Whether a text is a loop: rep-4 above 0.5, or a compression ratio above 2.4. An empty text is empty, not degenerate."""
    if is_empty(text):
        return False
    return rep_n(text, 4) > REP4_LIMIT or compression_ratio(text) > COMPRESSION_LIMIT


def distinct_n(texts: Sequence[str], n: int) -> float:
    """Different n-grams in the texts of one prompt, over all their words.

    dist-n of Li et al. 2016 (arXiv 1510.03055, section 5.4) as DExperts computes it (Liu et al. 2021, `distinctness`): the fewer words
    or the more texts, the other its value, so that only the same protocol can be compared, and the length is given beside it.

    Returns:
        In [0, 1]; NaN without a word.
    """
    rows = [text.split() for text in texts]
    words = sum(map(len, rows))
    grams = {tuple(row[i : i + n]) for row in rows for i in range(len(row) - n + 1)}
    return len(grams) / words if words else math.nan


def self_bleu(texts: Sequence[str]) -> float:
    """Mean BLEU-4 of each text with the others of its prompt as references (Zhu et al. 2018, arXiv 1802.01886, section 3): 1 is one text.

    Sentence BLEU of sacrebleu with its own tokens (13a) and smoothing (exp), up to the longest n-grams that a text has
    (effective order).

    Returns:
        In [0, 1]; NaN for fewer than two texts with a visible character.
    """
    there = [readable(text) for text in texts if not is_empty(text)]
    if len(there) < 2:
        return math.nan
    return min(1.0, float(np.mean(list(_bleus(there)))))


def _bleus(texts: Sequence[str]) -> Iterator[float]:
    """BLEU of each text with all others as references, in [0, 1], from one count of every text's n-grams.

    A reference clips an n-gram at the most that any other text has of it: the largest count of all texts, or the second largest where
    the largest is the text's own.
    """
    from sacrebleu.metrics.bleu import BLEU

    bleu = _sacrebleu()
    order = bleu.max_ngram_order
    rows = [bleu.tokenizer(text.rstrip()).split() for text in texts]
    counts = [
        [Counter(zip(*(row[start:] for start in range(n)), strict=False)) for n in range(1, order + 1)] for row in rows
    ]
    # Of n-grams that two texts have: the largest count, and the largest of another text. What one text alone has is clipped to none.
    most: dict[tuple[str, ...], int] = {}
    next_most: dict[tuple[str, ...], int] = {}
    for own in counts:
        for grams in own:
            for gram, count in grams.items():
                first = most.get(gram)
                if first is None:
                    most[gram] = count
                elif count > first:
                    most[gram], next_most[gram] = count, first
                elif count > next_most.get(gram, 0):
                    next_most[gram] = count
    for place, (row, own) in enumerate(zip(rows, counts, strict=True)):
        right = []
        for grams in own:
            shared = ((gram, count) for gram, count in grams.items() if gram in next_most)
            right.append(
                sum(min(count, next_most[gram] if count == most[gram] else most[gram]) for gram, count in shared)
            )
        others = [len(other) for number, other in enumerate(rows) if number != place]
        score = BLEU.compute_bleu(
            right, [max(0, len(row) - n) for n in range(order)], len(row),
            min(others, key=lambda length: (abs(length - len(row)), length)),
            smooth_method=bleu.smooth_method, effective_order=True,
        )  # fmt: skip
        yield score.score / 100


@lru_cache(maxsize=1)
def _sacrebleu() -> Any:
    from sacrebleu.metrics.bleu import BLEU

    return BLEU(effective_order=True)


def diversity_table(prompts: Sequence[str], texts: Sequence[Sequence[str]]) -> Table:
    """One row a prompt.

    Args:
        prompts: their ids.
        texts: of each prompt. Those without a visible character count in `empty` alone.

    Returns:
        `texts` and `empty` are counts, `words` a mean over texts, `rep_4` one over texts of four words, `degenerate_share` a share of the
        texts that are not empty; NaN where there is nothing to measure.
    """
    columns = (
        "prompt",
        "texts",
        "empty",
        "words",
        "dist_1",
        "dist_2",
        "dist_3",
        "self_bleu",
        "rep_4",
        "degenerate_share",
    )
    table: Table = {column: [] for column in columns}
    rows = zip(prompts, texts, strict=True)
    for prompt, own in tqdm(rows, total=len(prompts), desc="diversity", delay=3, disable=None, leave=False):
        there = [text for text in own if not is_empty(text)]
        repeated = [share for share in (rep_n(text, 4) for text in there) if not math.isnan(share)]
        row = {
            "prompt": prompt,
            "texts": len(own),
            "empty": len(own) - len(there),
            "words": _mean([len(text.split()) for text in there]),
            **{f"dist_{n}": distinct_n(there, n) for n in (1, 2, 3)},
            "self_bleu": self_bleu(there),
            "rep_4": _mean(repeated),
            "degenerate_share": _mean([is_degenerate(text) for text in there]),
        }
        for column, value in row.items():
            table[column].append(value)
    return table


def diversity_metrics(table: Table) -> dict[str, Estimate]:
    """Means over prompts, under `diversity/`; a prompt where nothing could be measured is missing."""
    metrics = {
        f"diversity/{name}": mean_estimate(table[column], bounds=(0.0, 1.0))
        for name, column in (
            ("dist_1", "dist_1"), ("dist_2", "dist_2"), ("dist_3", "dist_3"), ("self_bleu", "self_bleu"), ("rep_4", "rep_4"),
            ("degenerate", "degenerate_share"),
        )
    }  # fmt: skip
    return {**metrics, "diversity/words": mean_estimate(table["words"])}


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else math.nan
