"""Linear probes on many sites at once: what can be read off each attention head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from detox.errors import InputError
from detox.probing.logistic import fit_logistic

Floats = NDArray[np.float64]
VALUES_AT_ONCE = 2**20  # float64 features of the heads that are fitted together: what a cache holds
_EPSILON = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class HeadProbes:
    """Logistic-regression probes, one a head, judged on texts that they did not see.

    Attributes:
        accuracy: (layers, heads) in [0, 1], held out, at the probe's own threshold.
        auc: (layers, heads) in [0, 1], held out, area under the ROC curve.
        weights: (layers, heads, head_dim), in the activations' own units; points towards label 1.
        train, heldout: indices of the texts.
        margins: (held-out texts, layers, heads); positive means label 1.
        labels: (held-out texts,) 0 or 1.
    """

    accuracy: Floats
    auc: Floats
    weights: Floats
    train: NDArray[np.int64]
    heldout: NDArray[np.int64]
    margins: Floats = field(repr=False)
    labels: NDArray[np.int64] = field(repr=False)

    @property
    def correct(self) -> NDArray[np.bool_]:
        """(held-out texts, layers, heads): whether a head's probe judges a text right. Its mean over texts is `accuracy`."""
        return np.asarray((self.margins > 0) == (self.labels == 1)[:, None, None])

    @property
    def text_accuracy(self) -> Floats:
        """(held-out texts,) in [0, 1]: the share of heads whose probe judges the text right. Its mean is that of `accuracy`."""
        return np.asarray(self.correct.mean((1, 2)), dtype=np.float64)


def grouped_split(groups: Sequence[str], *, heldout: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices (train, held out) such that no group straddles the split.

    Args:
        groups: one a text; a pair's two sides share one.
        heldout: share of the groups that is held out, in (0, 1).
        seed: of the shuffle.

    Raises:
        InputError: fewer than two groups.
    """
    unique = sorted(set(groups))
    if len(unique) < 2:
        raise InputError(
            f"{len(unique)} group of texts cannot be split into training and held-out groups; expected at least 2"
        )
    order = np.random.default_rng(seed).permutation(len(unique))
    count = min(max(1, round(heldout * len(unique))), len(unique) - 1)
    out = {unique[i] for i in order[:count]}
    where = np.array([group in out for group in groups])
    return np.flatnonzero(~where), np.flatnonzero(where)


def fit_head_probes(
    activations: NDArray[np.floating[Any]] | torch.Tensor,
    labels: Sequence[int],
    train: NDArray[np.int64],
    heldout: NDArray[np.int64],
    *,
    C: float = 1.0,
    tolerance: float = 1e-10,
) -> HeadProbes:
    """One logistic regression a head (papers.md section 3), on features standardised over the training texts.

    Several heads are fitted at once (`detox.probing.logistic`); what is held beside the result is a few heads, so that the
    activations may be a file mapped into memory. Any sites will do: (texts, layers + 1, 1, hidden) are probes of the residual
    stream.

    Args:
        activations: (texts, layers, heads, head_dim) on the CPU, of any float dtype; computed with in float64.
        labels: (texts,) 0 or 1.
        train: indices of the texts to fit on, as `grouped_split` gives them.
        heldout: indices of the texts to measure on.
        C: inverse regularisation, scikit-learn's.
        tolerance: largest component of the gradient, scikit-learn's `tol`. The default gives the minimum itself.

    Raises:
        InputError: shapes that do not fit together, a class is missing on one side of the split, or an activation is not
            finite (names the head).
    """
    if activations.ndim != 4 or len(activations) != len(labels):
        raise InputError(
            f"activations have shape {tuple(activations.shape)}; expected (texts, layers, heads, head_dim) and {len(labels)} texts"
        )
    y = np.asarray(labels)
    for name, part in (("training", train), ("held-out", heldout)):
        if set(np.unique(y[part])) != {0, 1}:
            raise InputError(
                f"the {name} texts hold only one class ({len(part)} texts); expected safe and toxic ones on both sides"
            )
    _, layers, heads, dim = activations.shape
    weights, margins = np.zeros((layers, heads, dim)), np.zeros((len(heldout), layers, heads))
    at_once = max(1, VALUES_AT_ONCE // (len(train) * (dim + 1)))
    toxic = torch.from_numpy(y[train] == 1)
    sites = [(layer, first) for layer in range(layers) for first in range(0, heads, at_once)]
    for layer, first in tqdm(sites, desc="probes", delay=3, disable=None, leave=False):
        some = slice(first, first + at_once)
        x = _wide(activations[:, layer, some]).movedim(0, 1)
        _require_finite(x, layer, first)
        seen = x[:, train]
        scale, mean = torch.std_mean(seen, dim=1, correction=0, keepdim=True)
        # A spread that is nothing but rounding (scikit-learn's StandardScaler, _is_constant_feature).
        scale[scale <= len(train) * _EPSILON * mean.abs()] = 1.0
        coefficients, intercepts = fit_logistic((seen - mean) / scale, toxic, C=C, tolerance=tolerance)
        weights[layer, some] = (coefficients / scale.squeeze(1)).numpy()
        found = ((x[:, heldout] - mean) / scale) @ coefficients[..., None]
        margins[:, layer, some] = (found.squeeze(-1) + intercepts[:, None]).T.numpy()
    truth = y[heldout] == 1
    accuracy = ((margins > 0) == truth[:, None, None]).mean(0)
    return HeadProbes(accuracy, _aucs(truth, margins), weights, train, heldout, margins, truth.astype(np.int64))


def _wide(values: NDArray[np.floating[Any]] | torch.Tensor) -> torch.Tensor:
    """A float64 tensor; of an array a copy, because a file may be mapped for reading only."""
    return values.double() if isinstance(values, torch.Tensor) else torch.from_numpy(np.array(values, dtype=np.float64))


def _require_finite(x: torch.Tensor, layer: int, first: int) -> None:
    finite = x.isfinite().all(dim=2)
    if not finite.all():
        head, text = (int(i) for i in (~finite).nonzero()[0])
        raise InputError(
            f"activations of layer {layer} head {first + head} hold NaN or infinity (first in text {text}); the model's own "
            "arithmetic overflowed"
        )


def _aucs(truth: NDArray[np.bool_], margins: Floats) -> Floats:
    """(layers, heads) areas under the ROC curve by the rank sum of label 1, ties counted half."""
    from scipy.stats import rankdata

    positive = int(truth.sum())
    ranks = rankdata(margins, axis=0)[truth].sum(0)
    areas: Floats = (ranks - positive * (positive + 1) / 2) / (positive * (len(truth) - positive))
    return areas
