"""How good is a scorer: ranking (ROC-AUC, Spearman) and calibration, against labels or another scorer's values."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from detox.errors import InputError
from detox.scorers.protocol import Score
from detox.statistics import auc_estimate, bootstrap_weights, weighted_kappas, weighted_spearmans

Values = Sequence[float] | Sequence[Score] | npt.NDArray[np.float64]


def _array(values: Values) -> npt.NDArray[np.float64]:
    return np.array([value.value if isinstance(value, Score) else value for value in values], dtype=np.float64)


def _paired(first: Values, second: Values, names: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    a, b = _array(first), _array(second)
    if a.shape != b.shape:
        raise InputError(f"{len(a)} {names.split()[0]} but {len(b)} {names.split()[1]}; expected one of each a text")
    return a, b


def scorer_quality(
    scores: Values,
    targets: Values,
    *,
    threshold: float = 0.5,
    n_bins: int = 10,
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """How well `scores` rank and predict `targets`.

    Args:
        scores: in [0, 1], or NaN where missing.
        targets: labels 0 and 1, or scores in [0, 1]; NaN where unknown.
        threshold: targets at or above it count as toxic in the ROC-AUC.
        n_bins: bins of equal width on [0, 1] for the reliability table.
        n_bootstrap: resamples of the texts for the interval; 0 for none.
        seed: of the resamples.

    Returns:
        JSON: n (texts with both), n_missing, n_toxic; roc_auc and roc_auc_interval (95 %, percentile bootstrap over
        texts; null with one class only); spearman (null where either side is constant) and spearman_interval; ece, the expected
        calibration error: mean absolute difference between mean score and mean target over the bins, weighted by texts, and
        ece_interval (of few texts both are too large: what is in a bin differs from its mean by chance alone);
        mean_score, mean_target; reliability, one row a non-empty bin: low, high, n, mean_score, mean_target.

    Raises:
        InputError: different lengths, or no text with both.
    """
    given, wanted = _paired(scores, targets, "scores targets")
    known = ~(np.isnan(given) | np.isnan(wanted))
    values, truth = given[known], wanted[known]
    if not len(values):
        raise InputError(f"none of {len(given)} texts has both a score and a target; nothing can be said of the scorer")
    toxic = truth >= threshold
    auc = auc_estimate(toxic, values, draws=max(n_bootstrap, 1), seed=seed)
    table = _reliability(values, truth, n_bins)
    return {
        "n": len(values),
        "n_missing": int(np.isnan(given).sum()),
        "n_toxic": int(toxic.sum()),
        "threshold": threshold,
        "roc_auc": None if math.isnan(auc.value) else auc.value,
        "roc_auc_interval": None if math.isnan(auc.value) or not n_bootstrap else [auc.low, auc.high],
        "spearman": _spearman(values, truth),
        "spearman_interval": _resampled(lambda w: weighted_spearmans(values, truth, w), len(values), n_bootstrap, seed),
        "ece": sum(row["n"] * abs(row["mean_score"] - row["mean_target"]) for row in table) / len(values),
        "ece_interval": _resampled(lambda w: _weighted_ece(values, truth, n_bins, w), len(values), n_bootstrap, seed),
        "mean_score": float(values.mean()),
        "mean_target": float(truth.mean()),
        "reliability": table,
    }


def scorer_agreement(first: Values, second: Values, *, threshold: float = 0.5) -> dict[str, Any]:
    """How far two scorers agree on the same texts.

    Returns:
        JSON: n (texts with both); spearman; kappa (Cohen's, of "at or above `threshold`"; null where chance alone
        agrees always); first_only and second_only, the shares of texts that only one of them puts at or above
        `threshold`.

    Raises:
        InputError: different lengths, or no text with both.
    """
    a, b = _paired(first, second, "first second")
    known = ~(np.isnan(a) | np.isnan(b))
    a, b = a[known], b[known]
    if not len(a):
        raise InputError("no text has a score by both scorers; their agreement is unknown")
    x, y = a >= threshold, b >= threshold
    kappa = float(weighted_kappas(x.astype(np.float64), y.astype(np.float64), np.ones((1, len(a))))[0])
    return {
        "n": len(a),
        "spearman": _spearman(a, b),
        "kappa": None if math.isnan(kappa) else kappa,
        "first_only": float((x & ~y).mean()),
        "second_only": float((y & ~x).mean()),
    }


def _spearman(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float | None:
    value = float(weighted_spearmans(a, b, np.ones((1, len(a))))[0])
    return None if math.isnan(value) else value


def _weighted_ece(
    values: npt.NDArray[np.float64], truth: npt.NDArray[np.float64], n_bins: int, weights: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """(resamples,) expected calibration errors for (resamples, texts) weights: |sum of score minus target| of a bin over all texts."""
    bins = np.eye(n_bins)[np.minimum((values * n_bins).astype(int), n_bins - 1)]
    gaps = np.abs(weights @ (bins * (values - truth)[:, None])).sum(1)
    return np.asarray(gaps / weights.sum(1), dtype=np.float64)


def _resampled(
    of: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]], n: int, draws: int, seed: int
) -> list[float] | None:
    if n < 2 or not draws:
        return None
    drawn = np.concatenate([of(weights) for weights in bootstrap_weights(n, draws=draws, seed=seed)])
    drawn = drawn[~np.isnan(drawn)]
    return [float(end) for end in np.quantile(drawn, [0.025, 0.975])] if len(drawn) else None


def _reliability(
    values: npt.NDArray[np.float64], truth: npt.NDArray[np.float64], n_bins: int
) -> list[dict[str, float | int]]:
    bins = np.minimum((values * n_bins).astype(int), n_bins - 1)
    rows: list[dict[str, float | int]] = []
    for k in range(n_bins):
        inside = bins == k
        if inside.any():
            rows.append(
                {
                    "low": k / n_bins,
                    "high": (k + 1) / n_bins,
                    "n": int(inside.sum()),
                    "mean_score": float(values[inside].mean()),
                    "mean_target": float(truth[inside].mean()),
                }
            )
    return rows
