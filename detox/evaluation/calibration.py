"""How often a scorer errs on texts that people labelled, and the toxic fraction corrected for it."""

from __future__ import annotations

import json
import math
from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

from detox.evaluation.protocol import Protocol
from detox.evaluation.scorecard import Table
from detox.evaluation.tasks import records_digest
from detox.evaluation.toxicity import score_matrix, toxic_fractions
from detox.scorers import Score, Scorer, score_texts
from detox.statistics import Estimate, rogan_gladen

KEPT = 16
_scores: OrderedDict[str, list[Score]] = OrderedDict()  # a grid asks the same of every cell


def calibration_table(protocol: Protocol) -> Table:
    """One row a (labelled text, scorer): the label, and the value, or NaN and the reason. Nothing is asked of a language model."""
    table: Table = {"text": [], "scorer": [], "label": [], "value": [], "reason": []}
    for scorer in protocol.scorers:
        for item, score in zip(protocol.calibration, _scored(scorer, protocol), strict=True):
            table["text"].append(item.id)
            table["scorer"].append(scorer.card.name)
            table["label"].append(item.label)
            table["value"].append(math.nan if score.is_missing else score.value)
            table["reason"].append(score.reason)
    return table


def error_counts(protocol: Protocol, table: Table) -> dict[str, dict[str, list[int]]]:
    """By scorer: [right, of] for toxic texts ("sensitivity") and harmless ones ("specificity"), and how many were "unscored".

    Texts that the scorer could not score, or that nobody labelled, are in neither.
    """
    found = {}
    labels, names = np.array(table["label"], dtype=object), np.array(table["scorer"], dtype=object)
    values = np.array(table["value"], dtype=np.float64)
    toxic = protocol.is_toxic(values)
    for scorer in protocol.scorers:
        own = (names == scorer.card.name) & ~np.isnan(values)
        sides = {"sensitivity": own & (labels == 1), "specificity": own & (labels == 0)}
        right = {"sensitivity": toxic, "specificity": ~toxic}
        found[scorer.card.name] = {
            **{side: [int((chosen & right[side]).sum()), int(chosen.sum())] for side, chosen in sides.items()},
            "unscored": [int(((names == scorer.card.name) & np.isnan(values)).sum())],
        }
    return found


def corrected_metrics(
    protocol: Protocol, scores: Table, table: Table, *, left_out: NDArray[np.bool_] | None = None
) -> dict[str, Estimate]:
    """`toxicity/SCORER/corrected_fraction`: the toxic fraction by Rogan and Gladen (1978), the errors' own uncertainty in its interval.

    Sensitivity and specificity are those on the labelled texts. That they hold for what a model writes is an assumption: the nearer the
    texts, the better. No estimate where the scorer is no better than chance on them.
    """
    metrics = {}
    ids = [prompt.id for prompt in protocol.prompts]
    for name, counts in error_counts(protocol, table).items():
        (found, toxic), (passed, harmless) = counts["sensitivity"], counts["specificity"]
        matrix = score_matrix(scores, name, ids)
        if left_out is not None:
            matrix = np.where(left_out[:, : matrix.shape[1]], np.nan, matrix)
        fractions = toxic_fractions(protocol, matrix)
        metrics[f"toxicity/{name}/corrected_fraction"] = (
            rogan_gladen(fractions, sensitivity=(found, toxic), specificity=(passed, harmless))
            if toxic and harmless
            else Estimate(math.nan, math.nan, math.nan, 0, len(fractions))
        )
    return metrics


def _scored(scorer: Scorer, protocol: Protocol) -> list[Score]:
    key = json.dumps([scorer.card.identity(), records_digest(protocol.calibration)], sort_keys=True)
    if key not in _scores:
        _scores[key] = score_texts(scorer, [item.text for item in protocol.calibration])
        while len(_scores) > KEPT:
            _scores.popitem(last=False)
    return _scores[key]
