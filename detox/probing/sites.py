"""Probes of all sites of one kind, heads or layers: how accurate, how sure, along which directions, and what explains them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detox.errors import InputError
from detox.probing.entanglement import KINDS, Entanglement, measure_entanglement
from detox.probing.explained import (
    auc_over_groups,
    explained_variance,
    over_groups,
    predicted,
    stratified_auc_over_groups,
)
from detox.probing.linear import fit_head_probes
from detox.probing.significance import accuracy_intervals, adjusted_p, best_accuracy_null, halves
from detox.probing.texts import ProbeTexts, group_numbers
from detox.statistics import Estimate, ratio_estimate, roc_auc

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
_WIDEST = 512  # width of a site whose covariance is estimated


@dataclass(frozen=True, kw_only=True)
class ProbeSettings:
    """How probes are fitted and judged.

    Attributes:
        heldout: share of the texts (or groups) that the probes are judged on; arXiv 2505.04741 splits 4:1.
        C: inverse regularisation, scikit-learn's, on standardised features.
        seed: of the split, the shuffles and the halves.
        draws: resamples and shuffles at most; what takes longer (areas under curves, directions) is drawn less often.

    Raises:
        InputError: a number out of range.
    """

    heldout: float = 0.2
    C: float = 1.0
    seed: int = 0
    draws: int = 2000

    def __post_init__(self) -> None:
        if not 0 < self.heldout < 1:
            raise InputError(f"heldout is {self.heldout}; expected a share in (0, 1)")
        if not 0 < self.C < math.inf:
            raise InputError(f"C is {self.C}; expected a positive number")
        if self.seed < 0:
            raise InputError(f"seed is {self.seed}; expected a whole number from 0")
        if self.draws < 20:
            raise InputError(f"draws is {self.draws}; expected at least 20, without which there is no interval")


@dataclass(frozen=True, kw_only=True)
class SiteProbes:
    """Probes of all sites of one kind.

    Heads have the shape (layers, heads). The residual stream is (layers + 1, 1): entry 0 enters the first layer, entry k is what
    the k-th leaves.

    Attributes:
        accuracy, low, high: held out, in [0, 1], and its 95 % interval over groups of texts.
        auc: held out, area under the ROC curve.
        p: of each site against the best of all sites under shuffled labels, `best_accuracy_null`.
        null: (draws,) that best accuracy.
        margins: (held-out texts, layers, heads) of the probes; positive means toxic.
        directions: (layers, heads, width) unit vectors, mean of the toxic minus mean of the other training texts.
        middle, sigma: (layers, heads) of the training texts' projections: halfway between the classes' means, and the standard
            deviation. A projection is read as (x . direction - middle) / sigma.
        explained: covariate, or "all" -> (3, layers, heads): R^2 of the projection on held-out texts, and the ends of its interval.
        entanglement: kind of direction -> `Entanglement`; its sites are layers x heads.
        selected_accuracy, selected_auc: of the site that the other half of the held-out texts finds best: free of the luck of the best.
        best: place of the highest accuracy.
        best_auc: what the best site's AUC is, also "within" strata of a covariate and as a "residual" once covariates are subtracted.
    """

    accuracy: Floats
    low: Floats
    high: Floats
    auc: Floats
    p: Floats
    null: Floats
    margins: NDArray[np.float32]
    directions: NDArray[np.float32]
    middle: Floats
    sigma: Floats
    explained: dict[str, Floats]
    entanglement: dict[str, Entanglement]
    selected_accuracy: Estimate
    selected_auc: Estimate
    best_auc: dict[str, Estimate]

    @property
    def best(self) -> tuple[int, int]:
        """(layer, head) of the highest accuracy, the first where several are equal."""
        layer, head = np.unravel_index(int(np.argmax(self.accuracy)), self.accuracy.shape)
        return int(layer), int(head)

    @property
    def chance(self) -> float:
        """The 95 % quantile of the best accuracy under shuffled labels: a site above it is better than chance, whichever was picked."""
        return float(np.quantile(self.null, 0.95))


def measure_sites(
    x: NDArray[np.float32],
    texts: ProbeTexts,
    train: Integers,
    heldout: Integers,
    groups: Integers,
    strata: dict[str, Integers],
    covariates: dict[str, Floats],
    settings: ProbeSettings,
) -> SiteProbes:
    """Probe all sites of one kind.

    Args:
        x: (texts, layers, heads, width) activations.
        texts: what was read.
        train: places of the training texts.
        heldout: places of the held-out texts.
        groups: (texts,) whole numbers from 0: what is resampled together.
        strata: covariate -> (texts,) numbers of alike texts.
        covariates: covariate, or "all" -> (texts, columns).
        settings: how probes are fitted and judged.

    Raises:
        InputError: a class is missing on one side of the split.
    """
    n, layers, heads, width = x.shape
    probes = fit_head_probes(x, texts.labels.tolist(), train, heldout, C=settings.C)
    among = group_numbers(groups[heldout])
    margins = probes.margins.reshape(len(heldout), -1)
    correct = probes.correct.reshape(len(heldout), -1)
    low, high = accuracy_intervals(correct, among, draws=settings.draws)
    null = best_accuracy_null(margins, probes.labels, among, draws=settings.draws, seed=settings.seed)

    flat = x.reshape(n, layers * heads, width)
    toxic, safe = (flat[train[texts.labels[train] == label]].mean(0, dtype=np.float64) for label in (1, 0))
    directions = toxic - safe
    length = np.linalg.norm(directions, axis=-1, keepdims=True)
    directions = directions / np.where(length > 0, length, 1.0)
    projections = np.einsum("nsd,sd->ns", flat, directions, optimize=True)
    middle = ((toxic + safe) / 2 * directions).sum(-1)

    shape = (layers, heads)
    explained = {
        key: np.stack(
            explained_variance(projections, z, train, heldout, groups, draws=min(1000, settings.draws))
        ).reshape(3, *shape)
        for key, z in covariates.items()
    }
    features = {key: has[train] for key, has in texts.features.items()}
    entanglement = {
        kind: measure_entanglement(
            flat[train],
            features,
            group_numbers(groups[train]),
            kind=kind,
            draws=min(200, settings.draws),
            seed=settings.seed,
        )
        for kind in KINDS
        # A covariance of thousands of dimensions is neither known from thousands of texts nor cheap to turn.
        if len(features) > 1 and (kind != "whitened" or width <= _WIDEST)
    }
    accuracy = probes.accuracy.reshape(-1)
    best = int(np.argmax(accuracy))
    selected_accuracy, selected_auc = _selected(margins, correct, probes.labels, among, settings)
    return SiteProbes(
        accuracy=probes.accuracy,
        low=low.reshape(shape),
        high=high.reshape(shape),
        auc=probes.auc,
        p=adjusted_p(accuracy, null).reshape(shape),
        null=null,
        margins=probes.margins.astype(np.float32),
        directions=directions.reshape(layers, heads, width).astype(np.float32),
        middle=middle.reshape(shape),
        sigma=projections[train].std(0).reshape(shape),
        explained=explained,
        entanglement=entanglement,
        selected_accuracy=selected_accuracy,
        selected_auc=selected_auc,
        best_auc=_best_auc(
            flat[:, best].astype(np.float64) @ probes.weights.reshape(-1, width)[best],
            texts.labels, train, heldout, groups, strata, covariates, min(1000, settings.draws),
        ),
    )  # fmt: skip


def _selected(
    margins: Floats, correct: NDArray[np.bool_], labels: Integers, groups: Integers, settings: ProbeSettings
) -> tuple[Estimate, Estimate]:
    """Accuracy and AUC of the site that the other half of the texts finds most accurate; the AUC is the mean of both halves'."""
    parts = halves(groups, seed=settings.seed)
    right = np.zeros(len(correct))
    chosen = []
    for chosen_on, measured_on in (parts, parts[::-1]):
        site = int(np.argmax(correct[chosen_on].mean(0))) if len(chosen_on) else 0
        right[measured_on] = correct[measured_on, site]
        chosen.append((measured_on, margins[:, site]))

    def area(w: Floats) -> float:
        return float(np.mean([roc_auc(labels[half], scores[half], w[half]) for half, scores in chosen]))

    accuracy = ratio_estimate(np.bincount(groups, weights=right), np.bincount(groups))
    return accuracy, over_groups(area, groups, draws=min(500, settings.draws))


def _best_auc(
    projection: Floats,
    labels: Integers,
    train: Integers,
    heldout: Integers,
    groups: Integers,
    strata: dict[str, Integers],
    covariates: dict[str, Floats],
    draws: int,
) -> dict[str, Estimate]:
    y, p, g = labels[heldout], projection[heldout], groups[heldout]
    found = {"plain": auc_over_groups(y, p, g, draws=draws)}
    for key, numbers in strata.items():
        found[f"within {key}"] = stratified_auc_over_groups(y, p, numbers[heldout], g, draws=min(500, draws))
    for key, z in covariates.items():
        left = projection - predicted(projection[:, None], z, train)[:, 0]
        found[f"residual {key}"] = auc_over_groups(y, left[heldout], g, draws=draws)
    return found
