"""Is the best of many probes better than chance? Intervals over groups of texts, and a null that knows the best was picked."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from detox.statistics import bootstrap_weights

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Integers = NDArray[np.int64]
DRAWS = 2000
_CHUNK = 100


def text_weights(groups: Integers, *, draws: int, seed: int = 0) -> Iterator[Floats]:
    """Chunks (at most 100, texts) of how often each text stands in a resample of groups with replacement."""
    for weights in bootstrap_weights(int(groups.max()) + 1, draws=draws, seed=seed):
        yield weights[:, groups]


def accuracy_intervals(correct: Bools, groups: Integers, *, draws: int = DRAWS) -> tuple[Floats, Floats]:
    """Ends (sites,) of the 95 % intervals of accuracies, groups of texts resampled; the probes stay as they are fitted.

    Args:
        correct: (texts, sites) whether a site's probe judges a text right.
        groups: (texts,) whole numbers from 0, without a gap.
        draws: resamples.
    """
    values = correct.astype(np.float64)
    means = [(w @ values) / w.sum(1, keepdims=True) for w in text_weights(groups, draws=draws)]
    low, high = np.quantile(np.concatenate(means), [0.025, 0.975], axis=0)
    return low, high


def best_accuracy_null(
    margins: Floats, labels: Integers, groups: Integers, *, draws: int = DRAWS, seed: int = 0
) -> Floats:
    """(draws,) largest accuracy of any site where labels have nothing to do with texts: Westfall and Young's single step (1993).

    The probes stay as they were fitted, and the labels of the held-out texts are shuffled, so that the null keeps what the sites
    share. Whole groups of equal size change their labels, and labels change places within a group: pairs stay pairs.

    Args:
        margins: (texts, sites) of held-out texts; positive means label 1.
        labels: (texts,) 0 or 1.
        groups: (texts,) whole numbers from 0.
        draws: shuffles.
        seed: of the shuffles.
    """
    says = (margins > 0).astype(np.float64)
    n, rng, found = len(labels), np.random.default_rng([seed, len(labels)]), []
    for start in range(0, draws, _CHUNK):
        y = np.stack([_shuffled(labels, groups, rng) for _ in range(min(_CHUNK, draws - start))]).astype(np.float64)
        # right = says yes and is yes, or says no and is no
        right = y @ says + (1 - y) @ (1 - says)
        found.append(right.max(1) / n)
    return np.concatenate(found)


def adjusted_p(accuracy: Floats, null: Floats) -> Floats:
    """Each site's p against the largest of all sites under the null, the data counted among the shuffles; shape of `accuracy`."""
    beyond = len(null) - np.searchsorted(np.sort(null), accuracy - 1e-12, side="left")
    return np.asarray((1 + beyond) / (1 + len(null)), dtype=np.float64)


def halves(groups: Integers, *, seed: int = 0) -> tuple[Integers, Integers]:
    """Two halves of the texts' places, whole groups each, drawn by the seed."""
    numbers = np.random.default_rng([seed, int(groups.max())]).permutation(int(groups.max()) + 1)
    first = numbers[groups] % 2 == 0
    return np.flatnonzero(first), np.flatnonzero(~first)


def _shuffled(labels: Integers, groups: Integers, rng: np.random.Generator) -> Integers:
    sizes = np.bincount(groups)
    if sizes.max() == 1:
        return rng.permutation(labels)
    # Texts in the order of (size of their group, a random order of groups, a random order within): groups of equal size lie
    # side by side, and the labels of one fall on the places of another.
    at = sizes[groups]
    places = np.lexsort((np.arange(len(labels)), groups, at))
    draw = rng.permutation(len(sizes))
    sources = np.lexsort((rng.random(len(labels)), draw[groups], at))
    result = np.empty_like(labels)
    result[places] = labels[sources]
    return result
