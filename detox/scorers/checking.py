"""How far to trust a ruler: a scorer on labelled and scored sets, on functional tests, and on sentences about groups of people."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from detox.data.lineage import lineage
from detox.data.records import LabelledText, Prompt
from detox.scorers.functional import functional_tests
from detox.scorers.group_rates import group_rates
from detox.scorers.identity_bias import identity_bias
from detox.scorers.protocol import Score, Scorer, score_texts
from detox.scorers.reliability import scorer_quality
from detox.statistics import mean_estimate

Records = Sequence[LabelledText | Prompt]

# Comments and posts of people, implicit hate, adversarial emoji, and Perspective's own scores.
LABELLED_SETS = (
    "jigsaw_wiki_balanced", "cat_wiki_context", "davidson_tweets", "hatexplain", "stormfront", "edos_sexism", "implicit_hate",
    "toxigen_statements", "hatemojibuild",
)  # fmt: skip
SCORED_SETS = ("rtp_scored", "pol_perspective", "perspective_wiki_2k")
BIAS_SET = "madlibs_bias"
CHECK_SETS = (*LABELLED_SETS, *SCORED_SETS, BIAS_SET)
"""What `detox scorers check` asks by default, as far as it is there."""


def check_scorer(
    scorer: Scorer,
    sets: Mapping[str, Records],
    *,
    bias_sets: Sequence[str] = (BIAS_SET,),
    threshold: float = 0.5,
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Everything that can be said of a scorer from texts whose toxicity is known.

    Args:
        scorer: any.
        sets: texts with a label or a score (prompts: a toxicity), by name of the set.
        bias_sets: those of them that are templates filled with words for groups.
        threshold: a score at or above it says toxic.
        draws: resamples for the intervals of ROC-AUC.
        seed: of the resamples.

    Returns:
        JSON: card; threshold; sets, by name: see `measure_set`; bias, by name: see `identity_bias`; groups, by name of
            the other sets whose texts have a group: see `group_rates`; functional: see `functional_tests`.

    Raises:
        InputError: a scorer that broke its protocol.
    """
    card = scorer.card.to_dict()
    card.pop("quality")
    measured, bias, groups = {}, {}, {}
    for name, records in sets.items():
        scores = score_texts(scorer, [one.text for one in records])
        measured[name] = {
            "overlap": sorted(lineage([name]) & lineage(scorer.card.trained_on)),
            **measure_set(scores, records, threshold=threshold, draws=draws, seed=seed),
        }
        texts = [(one, score) for one, score in zip(records, scores, strict=True) if isinstance(one, LabelledText)]
        if name not in bias_sets and any(one.group for one, _ in texts):  # templates have no authors
            groups[name] = group_rates(
                [one.group for one, _ in texts],
                [one.label for one, _ in texts],
                [score.value for _, score in texts],
                threshold=threshold,
            )
        if name in bias_sets:
            labelled = [
                (one, score)
                for one, score in zip(records, scores, strict=True)
                if isinstance(one, LabelledText) and one.label is not None
            ]
            bias[name] = identity_bias(
                [one.text for one, _ in labelled],
                [one.label or 0 for one, _ in labelled],
                [score.value for _, score in labelled],
                threshold=threshold,
            )
    return {
        "card": card,
        "threshold": threshold,
        "sets": measured,
        "bias": bias,
        "groups": groups,
        "functional": functional_tests(scorer, threshold=threshold),
    }


def measure_set(
    scores: Sequence[Score], records: Records, *, threshold: float = 0.5, draws: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """A scorer on one set.

    Returns:
        JSON: what `scorer_quality` gives, against people's labels where there are any, else against the set's scores, and which
        of the two as "against"; missing, by reason; sensitivity and specificity as [right, n], the counts that
        `detox.statistics.rogan_gladen` takes, and sensitivity_interval and specificity_interval, exact; against_scores, what
        `scorer_quality` gives against the set's scores, where the set has labels too. Where no text has both a score and a target: n 0,
        n_missing, missing.
    """
    values = [score.value for score in scores]
    labels = [_label(one) for one in records]
    degrees = [_degree(one) for one in records]
    labelled = not all(math.isnan(label) for label in labels)
    options: dict[str, Any] = {"threshold": threshold, "n_bootstrap": draws, "seed": seed}
    targets = labels if labelled else degrees
    reasons = [score.reason for score in scores if score.reason is not None]
    missing = {reason: reasons.count(reason) for reason in sorted(set(reasons))}
    if all(math.isnan(value) or math.isnan(target) for value, target in zip(values, targets, strict=True)):
        return {"n": 0, "n_missing": len(reasons), "missing": missing}
    found = scorer_quality(values, targets, **options)
    sides: dict[bool, list[bool]] = {True: [], False: []}
    for value, target in zip(values, targets, strict=True):
        if not math.isnan(value) and not math.isnan(target):
            sides[target >= threshold].append(value >= threshold)
    found |= {
        "against": "labels" if labelled else "scores",
        "missing": missing,
        "sensitivity": [sum(sides[True]), len(sides[True])],
        "specificity": [len(sides[False]) - sum(sides[False]), len(sides[False])],
        "sensitivity_interval": _ends(sides[True]),
        "specificity_interval": _ends([not called for called in sides[False]]),
    }
    if labelled and any(not math.isnan(a) and not math.isnan(b) for a, b in zip(values, degrees, strict=True)):
        found["against_scores"] = scorer_quality(values, degrees, **options)
    return found


def _ends(right: Sequence[bool]) -> list[float] | None:
    """The exact 95 % interval of a share; None of fewer than two."""
    found = mean_estimate([float(one) for one in right], bounds=(0.0, 1.0))
    return None if math.isnan(found.low) else [found.low, found.high]


def _label(one: LabelledText | Prompt) -> float:
    return float(one.label) if isinstance(one, LabelledText) and one.label is not None else math.nan


def _degree(one: LabelledText | Prompt) -> float:
    degree = one.toxicity if isinstance(one, Prompt) else one.score
    return math.nan if degree is None else degree
