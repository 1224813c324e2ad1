"""Documents without some of their characters: what is deleted, what becomes of the white space, where other spans go."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from detox.data.records import Document, Span


def without_spans(
    document: Document, doomed: Callable[[Span], bool], *, keep: Callable[[Span], bool] | None = None
) -> Document:
    """Delete the characters of some spans from a document.

    Every other character stays, in order, but for white space next to a deletion, which would tell of it: of the white
    space on both sides one side stays, the one with more line breaks, the right one where both have as many; at the
    start and the end of the text none stays. Deletions with only white space between them are one. Nothing is added:
    where a span reaches from letter to letter, what stood before and after it meets.

    Args:
        document: text with spans; not changed.
        doomed: which spans' characters go.
        keep: spans whose characters stay although a doomed span covers them; none by default.

    Returns:
        A document with the remaining text and the other spans where they are now; a span with nothing left is gone. The
        same object where no span is doomed. The text is empty where nothing is left.
    """
    text = document.text
    gone = _mask(text, (span for span in document.spans if doomed(span)))
    if keep is not None:
        gone &= ~_mask(text, (span for span in document.spans if keep(span)))
    gaps = _ranges(gone)
    if not gaps:
        return document
    for start, end in _stray_white_space(text, gaps):
        gone[start:end] = True
    position = np.concatenate([[0], np.cumsum(~gone)])
    others = (
        Span(int(position[span.start]), int(position[span.end]), span.kind)
        for span in document.spans
        if not doomed(span)
    )
    return replace(
        document,
        text="".join(text[start:end] for start, end in _ranges(~gone)),
        spans=tuple(span for span in others if span.start < span.end),
    )


def _mask(text: str, spans: Iterable[Span]) -> NDArray[np.bool_]:
    mask = np.zeros(len(text), dtype=np.bool_)
    for span in spans:
        mask[span.start : span.end] = True
    return mask


def _ranges(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """[start, end) of each run of True."""
    edges = np.flatnonzero(np.diff(mask, prepend=False, append=False))
    return [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]


def _stray_white_space(text: str, gaps: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The white space around gaps that goes with them."""
    stray: list[tuple[int, int]] = []
    runs: list[tuple[int, int]] = []  # the white space before, between and after gaps that no other character parts
    for index, (start, end) in enumerate(gaps):
        if not runs:
            runs.append((_back(text, start), start))
        after = end
        limit = gaps[index + 1][0] if index + 1 < len(gaps) else len(text)
        while after < limit and text[after].isspace():
            after += 1
        runs.append((end, after))
        if index + 1 < len(gaps) and after == limit:
            continue
        at_edge = runs[0][0] == 0 or after == len(text)
        stays = None if at_edge else max(runs, key=lambda run: (text.count("\n", *run), run[0] < run[1], run))
        stray += [run for run in runs if run != stays]
        runs = []
    return stray


def _back(text: str, position: int) -> int:
    """Where the white space before `position` begins."""
    while position > 0 and text[position - 1].isspace():
        position -= 1
    return position
