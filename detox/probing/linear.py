"""Linear probes on many sites at once: what can be read off each attention head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from detox.errors import InputError

Floats = NDArray[np.float64]


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
    activations: NDArray[np.float32],
    labels: Sequence[int],
    train: NDArray[np.int64],
    heldout: NDArray[np.int64],
    *,
    C: float = 1.0,
) -> HeadProbes:
    """One logistic regression a head (papers.md section 3), on standardised features.

    Args:
        activations: (texts, layers, heads, head_dim).
        labels: (texts,) 0 or 1.
        train: indices of the texts to fit on, as `grouped_split` gives them.
        heldout: indices of the texts to measure on.
        C: inverse regularisation, scikit-learn's.

    Raises:
        InputError: a class is missing on one side of the split, or an activation is not finite (names the head).
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    y = np.asarray(labels)
    for name, part in (("training", train), ("held-out", heldout)):
        if set(np.unique(y[part])) != {0, 1}:
            raise InputError(
                f"the {name} texts hold only one class ({len(part)} texts); expected safe and toxic ones on both sides"
            )
    bad = ~np.isfinite(activations).all(axis=(0, 3))
    if bad.any():
        layer, head = map(int, np.argwhere(bad)[0])
        raise InputError(
            f"activations of layer {layer} head {head} hold NaN or infinity; the model's own arithmetic overflowed"
        )
    _, layers, heads, dim = activations.shape
    accuracy, auc = np.zeros((layers, heads)), np.zeros((layers, heads))
    weights, all_margins = np.zeros((layers, heads, dim)), np.zeros((len(heldout), layers, heads))
    for layer in range(layers):
        for head in range(heads):
            x = activations[:, layer, head].astype(np.float64)
            mean, scale = x[train].mean(0), x[train].std(0)
            scale[scale == 0] = 1.0
            z = (x - mean) / scale
            probe = LogisticRegression(C=C, max_iter=1000).fit(z[train], y[train])
            margins = probe.decision_function(z[heldout])
            accuracy[layer, head] = np.mean((margins > 0) == (y[heldout] == 1))
            auc[layer, head] = roc_auc_score(y[heldout], margins)
            weights[layer, head] = probe.coef_[0] / scale
            all_margins[:, layer, head] = margins
    return HeadProbes(accuracy, auc, weights, train, heldout, all_margins, y[heldout].astype(np.int64))
