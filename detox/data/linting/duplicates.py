"""Texts that come again, that are nearly another, or that are safe in one place and toxic in another."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from detox.data.contrasts import Contrast
from detox.data.linting.findings import Finding, Side, few, sides
from detox.data.subsets import normalised

_NEAR_WORDS = 3  # words of a shingle: a changed word spoils three of them
Shingles = frozenset[tuple[str, ...]]


def find_duplicates(contrasts: Sequence[Contrast], *, near: float = 0.7) -> list[Finding]:
    """Faults of texts that are compared without case, punctuation and spacing.

    - duplicate: a text stands on the same side more than once.
    - near duplicate: a text shares so much with one of another group that the Jaccard index of their sets of word triples is `near`
      or more, with the prompt and without it.
    - contradiction: a text is safe in one contrast and toxic in another.
    - no difference: a safe and a toxic continuation of one contrast differ in case, punctuation or spacing only.
    - one side only: a contrast without a safe or without a toxic continuation.

    Args:
        contrasts: of one file.
        near: between 0 and 1.
    """
    texts = list(sides(contrasts))
    first: dict[tuple[str, bool], Side] = {}
    again: list[tuple[Side, Side]] = []
    keys = [normalised(side.whole) for side in texts]
    unique = []
    for side, key in zip(texts, keys, strict=True):
        known = first.setdefault((key, side.toxic), side)
        if known is side:
            unique.append(side)
        else:
            again.append((known, side))
    contrary: list[tuple[Side, Side]] = []
    alike: list[tuple[Side, Side]] = []
    for side, key in zip(texts, keys, strict=True):
        other = first.get((key, False)) if side.toxic else None
        if other is not None:
            (alike if other.contrast.id == side.contrast.id else contrary).append((other, side))
    nearly = [pair for toxic in (False, True) for pair in _near([s for s in unique if s.toxic == toxic], near)]
    single = [one.id for one in contrasts if not (one.safe and one.toxic)]
    found = [
        ("contradiction", "error", contrary, "decide which it is: take the text out of one of the contrasts"),
        ("no difference", "warning", alike, "take the pair out, or keep case and punctuation equal on both sides"),
        ("duplicate", "warning", again, "keep one of them; a text that comes often counts often"),
        ("near duplicate", "warning", nearly, "keep one, or give both one `group`, so that a split keeps them together"),
    ]  # fmt: skip
    findings = [
        Finding(
            check=check,
            severity=severity,
            count=len(pairs),
            of=len(texts),
            examples=few(_pair(pair) for pair in pairs),
            advice=advice,
        )
        for check, severity, pairs, advice in found
        if pairs
    ]
    if single:
        findings.append(
            Finding(
                check="one side only",
                severity="note",
                count=len(single),
                of=len(contrasts),
                examples=few(single),
                advice="methods that learn from pairs leave these out",
            )
        )
    return findings


def _pair(pair: tuple[Side, Side]) -> str:
    one, other = (side.contrast.id for side in pair)
    return one if one == other else f"{one} ~ {other}"


def _near(texts: Sequence[Side], near: float) -> Iterator[tuple[Side, Side]]:
    """Texts that are near an earlier one that is itself near none, with it.

    Only the rarest shingles of a text are looked up: as many as two sets must differ in at most, and one, so that no pair is missed.
    """
    sets = [_shingles(side.words()) for side in texts]
    spread = Counter(shingle for one in sets for shingle in one)
    index: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for number, (side, own) in enumerate(zip(texts, sets, strict=True)):
        rare = sorted(own, key=lambda shingle: (spread[shingle], shingle))[: len(own) - math.ceil(near * len(own)) + 1]
        candidates = dict.fromkeys(other for shingle in rare for other in index[shingle])
        for other in candidates:
            if texts[other].contrast.group_key == side.contrast.group_key or _jaccard(own, sets[other]) < near:
                continue
            if side.contrast.prompt or texts[other].contrast.prompt:
                # Contrasts may share a long prompt; what comes after it decides.
                mine, theirs = (_shingles(normalised(one.text).split()) for one in (side, texts[other]))
                if _jaccard(mine, theirs) < near:
                    continue
            yield texts[other], side
            break
        else:
            for shingle in rare:
                index[shingle].append(number)


def _shingles(words: Sequence[str]) -> Shingles:
    if len(words) < _NEAR_WORDS:
        return frozenset([tuple(words)])
    return frozenset(zip(*(words[start:] for start in range(_NEAR_WORDS)), strict=False))


def _jaccard(one: Shingles, other: Shingles) -> float:
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared)
