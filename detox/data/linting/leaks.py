"""Texts that are also on the other side of a split, or among what will be evaluated."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from detox.data.contrasts import Contrast
from detox.data.linting.findings import Finding, few, sides
from detox.data.subsets import Record, normalised, texts_of
from detox.errors import InputError

_SHORT = 4  # words below which two texts are the same by chance
_MANY = 0.01  # share of the other texts above which shared runs of words are an error


def find_leaks(contrasts: Sequence[Contrast], others: Sequence[Record], *, name: str, words: int = 8) -> list[Finding]:
    """What `contrasts` share with `others`: whole texts or prompts, runs of words, groups.

    Texts are compared without case, punctuation and spacing. One of fewer than `words` words shares no run, but may be the same
    as a whole.

    Args:
        contrasts: what will be learned from.
        others: another side of the split, or the prompts and documents of an evaluation.
        name: what the others are called in the findings.
        words: length of a run.

    Raises:
        InputError: runs of fewer than 2 words.
    """
    if words < 2:
        raise InputError(f"runs of {words} words; expected at least 2")
    wholes, runs = _index(others, words)
    same: dict[str, int] = {}
    short: dict[str, int] = {}
    partly: dict[str, int] = {}
    touched: set[int] = set()
    for one in contrasts:
        for text in (one.prompt, *(side.whole for side in sides([one]))):
            key = normalised(text)
            hits = wholes.get(key, []) if key else []
            if hits:
                (same if len(key.split()) >= _SHORT else short).setdefault(one.id, hits[0])
            for run in _runs(key.split(), words):
                shared = runs.get(run, [])
                touched.update(shared)
                if shared:
                    partly.setdefault(one.id, shared[0])
    of_others = f"{len(touched)} of {len(others)} in {name}"
    only_partly = {id: other for id, other in partly.items() if id not in same}
    short = {id: other for id, other in short.items() if id not in same}
    found = [
        ("same text", "error", same, f"in {name}", "take these contrasts out, or the texts out of the other set"),
        (
            "same short text", "warning", short, f"of fewer than {_SHORT} words in {name}",
            "a short phrase may be there by chance; where the evaluation asks it, take it out",
        ),
        (
            f"shared {words} words", "error" if len(touched) > _MANY * len(others) else "warning", only_partly, of_others,
            "look at what is shared: a quotation may stay, a copy may not",
        ),
        (
            "same group", "error", _shared_groups(contrasts, others), f"in {name}",
            "split by group, so that paraphrases of one meaning are on one side",
        ),
    ]  # fmt: skip
    return [
        Finding(
            check=f"leak: {check}",
            severity=severity,
            count=len(hits),
            of=len(contrasts),
            examples=few(f"{id} ~ {others[other].id}" for id, other in hits.items()),
            detail=detail,
            advice=advice,
        )
        for check, severity, hits, detail, advice in found
        if hits
    ]


def _index(others: Sequence[Record], words: int) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
    """Places of the records that hold a text as a whole, and of those that hold a run of words."""
    wholes: dict[str, list[int]] = defaultdict(list)
    runs: dict[str, list[int]] = defaultdict(list)
    for place, record in enumerate(others):
        texts = set(texts_of(record)) | ({record.prompt} - {""} if isinstance(record, Contrast) else set())
        keys = {normalised(text) for text in texts} - {""}
        for key in keys:
            wholes[key].append(place)
        for run in {run for key in keys for run in _runs(key.split(), words)}:
            runs[run].append(place)
    return wholes, runs


def _runs(words: Sequence[str], length: int) -> Iterator[str]:
    for start in range(len(words) - length + 1):
        yield " ".join(words[start : start + length])


def _shared_groups(contrasts: Sequence[Contrast], others: Sequence[Record]) -> dict[str, int]:
    places: dict[str, int] = {}
    for place, record in enumerate(others):
        if isinstance(record, Contrast) and record.group is not None:
            places.setdefault(record.group, place)
    return {one.id: places[one.group] for one in contrasts if one.group is not None and one.group in places}
