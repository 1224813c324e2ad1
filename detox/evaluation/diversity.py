"""Diversity and repetition of generated text: dist-n, self-BLEU, rep-n, and which texts are degenerate.

Words are what stands between blanks. What a text without words would give is missing, never 0.
"""

from __future__ import annotations

import math
import zlib

from detox.scorers.protocol import is_empty

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
