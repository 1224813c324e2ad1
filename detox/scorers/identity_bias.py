"""Unintended bias of a scorer towards words for groups of people: AUCs by term (Borkan et al. 2019) and gaps of false positives.

Of sentences that mention a term (the subgroup) and those that do not (the background):

- subgroup AUC: toxic against other sentences, within the subgroup;
- BPSN AUC: background's toxic against the subgroup's other sentences: low where the term alone raises the score;
- BNSP AUC: the subgroup's toxic against the background's other sentences: low where the term alone lowers it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from detox.errors import InputError
from detox.statistics import Estimate, bias_aucs, clustered_auc_estimate

# The terms that the templates of Dixon et al. 2018 ("madlibs") were filled with, in their spelling.
MADLIBS_TERMS = (
    "african", "african american", "american", "asian", "bisexual", "black", "blind", "buddhist", "canadian", "catholic", "chinese",
    "christian", "deaf", "elderly", "european", "female", "gay", "heterosexual", "hispanic", "homosexual", "indian", "japanese", "jewish",
    "latina", "latino", "latinx", "lesbian", "lgbt", "lgbtq", "male", "mexican", "middle aged", "middle eastern", "millenial", "muslim",
    "nonbinary", "old", "older", "paralyzed", "protestant", "queer", "sikh", "straight", "taoist", "teenage", "trans", "transgender",
    "white", "young", "younger",
)  # fmt: skip
ENOUGH = 5  # sentences on each side of an AUC, below which none is given


def terms_in(texts: Sequence[str], terms: Sequence[str] = MADLIBS_TERMS) -> list[frozenset[str]]:
    """The terms that each text mentions, as whole words without case; the longest wins, so "african american" is not "african".

    Raises:
        InputError: no terms.
    """
    wanted = sorted({term.casefold() for term in terms}, key=lambda term: (-len(term), term))
    if not wanted:
        raise InputError("no identity terms; expected at least one")
    pattern = re.compile(rf"\b(?:{'|'.join(map(re.escape, wanted))})\b")
    return [frozenset(pattern.findall(" ".join(text.casefold().split()))) for text in texts]


def identity_bias(
    texts: Sequence[str],
    labels: Sequence[int],
    scores: Sequence[float],
    *,
    terms: Sequence[str] = MADLIBS_TERMS,
    threshold: float = 0.5,
) -> dict[str, Any]:
    """Bias by term.

    Args:
        texts: sentences, best of templates in which every term stands equally often.
        labels: 1 toxic, 0 not; one a text.
        scores: in [0, 1], NaN where missing; one a text.
        terms: words for groups.
        threshold: a score at or above it is a positive.

    Returns:
        JSON: n, missing; roc_auc, and the false-positive rate as [positives, sentences that are not toxic]; terms, by name: n,
        subgroup_auc, bpsn_auc and bnsp_auc, each {value, low, high} or null, false_positives as [positives, n], and gap, the term's
        rate minus that of all sentences, null of fewer than 5; worst: for each AUC the lowest with its term, and the largest gap of either
        sign. The worst of many terms is bad by chance, too, the more so the fewer sentences each has.

    Raises:
        InputError: different lengths, or no terms.
    """
    if not len(texts) == len(labels) == len(scores):
        raise InputError(f"{len(texts)} texts, {len(labels)} labels, {len(scores)} scores; expected one of each a text")
    values = np.asarray(scores, dtype=np.float64)
    known = ~np.isnan(values)
    toxic = np.asarray(labels) == 1
    mentioned = terms_in(texts, terms)
    overall = _rate(values[known & ~toxic], threshold)
    found: dict[str, dict[str, Any]] = {}
    for term in terms:
        inside = np.array([term.casefold() in one for one in mentioned], dtype=bool)
        if not inside.any():
            continue
        false = _rate(values[known & inside & ~toxic], threshold)
        areas = bias_aucs(toxic[known], values[known], inside[known], estimate=_estimate)
        found[term] = {
            "n": int((known & inside).sum()),
            **{f"{kind}_auc": _given(area) for kind, area in areas.items()},
            "false_positives": false,
            "gap": false[0] / false[1] - overall[0] / overall[1] if false[1] >= ENOUGH else None,
        }
    return {
        "n": int(known.sum()),
        "missing": int((~known).sum()),
        "threshold": threshold,
        "roc_auc": _given(_estimate(toxic[known], values[known])),
        "false_positives": overall,
        "terms": found,
        "worst": _worst(found),
    }


def _rate(values: npt.NDArray[np.float64], threshold: float) -> list[int]:
    return [int((values >= threshold).sum()), len(values)]


def _estimate(toxic: npt.NDArray[Any], values: npt.NDArray[np.float64]) -> Estimate:
    positive = int((toxic == 1).sum())
    if min(positive, len(toxic) - positive) < ENOUGH:
        return Estimate(math.nan, math.nan, math.nan, len(toxic))
    return clustered_auc_estimate(toxic, values)


def _given(area: Estimate) -> dict[str, float] | None:
    return None if math.isnan(area.value) else {"value": area.value, "low": area.low, "high": area.high}


def _worst(terms: dict[str, dict[str, Any]]) -> dict[str, Any]:
    worst: dict[str, Any] = {}
    for kind in ("subgroup_auc", "bpsn_auc", "bnsp_auc"):
        areas = {term: entry[kind]["value"] for term, entry in terms.items() if entry[kind] is not None}
        if areas:
            lowest = min(areas, key=areas.__getitem__)
            worst[kind] = {"term": lowest, "value": areas[lowest]}
    gaps = {term: entry["gap"] for term, entry in terms.items() if entry["gap"] is not None}
    if gaps:
        widest = max(gaps, key=lambda term: math.fabs(gaps[term]))
        worst["gap"] = {"term": widest, "value": gaps[widest]}
    return worst
