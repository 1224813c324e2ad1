"""How good the filters are: pairs that people wrote, some of them made bad on purpose, and which of those are found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from detox.data.contrasts import Contrast
from detox.data.making.filters import MEANINGS, REPEATS, Candidate, Filters, repeats
from detox.data.making.prompts import SIDES
from detox.data.subsets import normalised
from detox.errors import InputError
from detox.statistics import mean_estimate

SWAPPED, TOXIC_TWICE, SAFE_TWICE, IDENTICAL, TRUNCATED = (
    "swapped",
    "toxic twice",
    "safe twice",
    "identical",
    "truncated",
)

PLANTED = {
    SWAPPED: "the safe text of another pair",
    TOXIC_TWICE: "the toxic text in the place of the safe one, its first word moved to the end",
    SAFE_TWICE: "the safe text in the place of the toxic one: another rewriting where there is one, else its first word moved to the end",
    IDENTICAL: "the toxic text on both sides",
    TRUNCATED: "the first third of the safe text's words",
}
"""What makes a pair bad, and how it is made."""


class JudgedPair(NamedTuple):
    """A safe and a toxic text of one meaning, or what was planted instead."""

    id: str
    safe: str
    toxic: str
    planted: str | None


def plant_bad_pairs(contrasts: Sequence[Contrast], *, share: float = 0.5, seed: int = 0) -> list[JudgedPair]:
    """One pair of each contrast with both sides; a `share` of them bad, each kind of `PLANTED` as often as another.

    Args:
        contrasts: those with a prompt are taken as prompt and continuation.
        share: of bad pairs.
        seed: which pairs are made bad, and how.

    Raises:
        InputError: fewer than two contrasts with both sides, or a share outside (0, 1).
    """
    if not 0 < share < 1:
        raise InputError(f"share of bad pairs {share}; expected a number between 0 and 1")
    both = [one for one in contrasts if one.safe and one.toxic]
    if len(both) < 2:
        raise InputError(f"{len(both)} contrasts with both sides; expected at least 2")
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(both))
    kinds: list[str | None] = [None] * len(both)
    for place, index in enumerate(order[: round(share * len(both))]):
        kinds[index] = list(PLANTED)[place % len(PLANTED)]
    pairs = []
    for index, (one, kind) in enumerate(zip(both, kinds, strict=True)):
        safe, toxic = one.prompt + one.safe[0], one.prompt + one.toxic[0]
        # Any other pair; not the neighbour, which in a sorted file may say the same.
        other = both[(index + 1 + int(rng.integers(len(both) - 1))) % len(both)]
        if kind == SWAPPED:
            safe = other.prompt + other.safe[0]
        elif kind == TOXIC_TWICE:
            safe = _rotated(toxic)
        elif kind == SAFE_TWICE:
            toxic = one.prompt + one.safe[1] if len(one.safe) > 1 else _rotated(safe)
        elif kind == IDENTICAL:
            safe = toxic
        elif kind == TRUNCATED:
            words = safe.split()
            safe = " ".join(words[: max(1, len(words) // 3)])
        pairs.append(JudgedPair(one.id, safe, toxic, kind))
    return pairs


def judge_filters(pairs: Sequence[JudgedPair], filters: Filters) -> dict[str, Any]:
    """Precision and recall of each filter and of all together, in finding planted pairs.

    Each text of a pair is judged as a paraphrase of the other; a filter drops the pair if it drops either. A pair that was not
    planted counts as good, though people's pairs are not all so: precision is a lower bound. A pair with the same words on both sides
    cannot pass: either its safe text is called toxic or its toxic one is not. What toxicity costs is read from `good_dropped`.

    Returns:
        JSON: `pairs` by kind; for each filter (alone, whatever the others say), and for `all`: how many pairs it drops, its
        `precision` and `recall` with 95 % intervals (None where nothing is dropped), `recall_by_kind`, and `good_dropped`, the share
        of the other pairs that it drops. `bad_kept` is the share of planted pairs among those that all filters keep, `called_toxic` that
        of the texts in the other pairs which a scorer calls toxic, by side.
    """
    candidates = [
        candidate
        for index, one in enumerate(pairs)
        for candidate in (
            Candidate(str(index), "safe", one.toxic, one.safe),
            Candidate(str(index), "toxic", one.safe, one.toxic),
        )
    ]
    failed: list[set[str]] = [set() for _ in pairs]
    verdicts = filters.judge(candidates)
    for place, (again, verdict) in enumerate(zip(repeats(candidates), verdicts, strict=True)):
        failed[place // 2].update((*verdict.failed, *([again] if again else [])))
    bad = np.array([one.planted is not None for one in pairs])
    kinds = [kind for kind in PLANTED if any(one.planted == kind for one in pairs)]
    of_kind = {kind: np.array([one.planted == kind for one in pairs]) for kind in kinds}
    found = {
        name: _quality(np.array([name in names for names in failed]), bad, of_kind)
        for name in (*REPEATS, *MEANINGS)
        if name in MEANINGS or any(name in names for names in failed)
    }
    dropped = np.array([bool(names) for names in failed])
    good = [
        (one.side, verdict)
        for place, (one, verdict) in enumerate(zip(candidates, verdicts, strict=True))
        if not bad[place // 2]
    ]
    called = {
        scorer.card.name: {
            side: _share(
                np.array([scorer.card.name in verdict.called_toxic_by for of_side, verdict in good if of_side == side])
            )
            for side in SIDES
        }
        for scorer in filters.scorers
    }
    return {
        "pairs": {"good": int((~bad).sum()), **{kind: int(mask.sum()) for kind, mask in of_kind.items()}},
        "filters": found,
        "all": _quality(dropped, bad, of_kind),
        "bad_kept": _share(bad[~dropped]),
        "called_toxic": called,
    }


def _quality(dropped: Any, bad: Any, of_kind: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "dropped": int(dropped.sum()),
        "precision": _share(bad[dropped]),
        "recall": _share(dropped[bad]),
        "recall_by_kind": {kind: round(float(dropped[mask].mean()), 4) for kind, mask in of_kind.items()},
        "good_dropped": _share(dropped[~bad]),
    }


def _share(flags: Any) -> dict[str, float] | None:
    if not len(flags):
        return None
    estimate = mean_estimate(flags.astype(np.float64), bounds=(0.0, 1.0))
    return {"value": round(estimate.value, 4), "low": round(estimate.low, 4), "high": round(estimate.high, 4)}


def _rotated(text: str) -> str:
    """The same words in another order, so that neither the text nor its normal form is the same."""
    first, *rest = text.split()
    moved = " ".join([*rest, first])
    return moved if normalised(moved) != normalised(text) else f"{text} {text}"
