"""What ITI adds to a head, and to which: directions, selections, and the controls that a direction must beat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from detox.errors import InputError

Floats = NDArray[np.float64]

DIRECTIONS = ("mass-mean", "probe", "pca")
SELECTIONS = ("top", "threshold", "all")
CONTROLS = {
    "random": "a random direction of the same norm in the same heads",
    "shuffled": "heads and directions learned from labels that were shuffled between groups of texts",
    "flipped": "the same shift with its sign turned",
}


def towards_safe(
    x: Floats, labels: NDArray[np.int64], groups: Sequence[str], *, direction: str, probe: Floats
) -> Floats:
    """Unit vector from toxic to safe in one head, or zeros where the activations do not differ.

    Args:
        x: (texts, head_dim), training activations.
        labels: (texts,) 1 for toxic.
        groups: one a text; the two sides of a contrast share one.
        direction: "mass-mean", mean of safe minus mean of toxic (Li et al. 2023, arXiv 2306.03341, section 3.2); "probe", the
            probe's weights towards safe; "pca", the first principal component of the groups' differences, mean of safe minus mean
            of toxic (Zou et al. 2023, arXiv 2310.01405, section 3.1), with the sign of their mean.
        probe: (head_dim,), the probe's weights towards toxic.

    Raises:
        InputError: "pca" of fewer than two groups that have both sides.
    """
    if direction == "probe":
        found = -probe
    elif direction == "mass-mean":
        found = x[labels == 0].mean(0) - x[labels == 1].mean(0)
    else:
        names = np.unique(np.asarray(groups), return_inverse=True)[1]
        both = [g for g in range(names.max() + 1) if len(set(labels[names == g])) == 2]
        if len(both) < 2:
            raise InputError(
                f"ITI: direction 'pca' needs contrasts with safe and toxic continuations, and {len(both)} have both; expected at "
                "least 2, or another direction"
            )
        differences = np.stack(
            [x[(names == g) & (labels == 0)].mean(0) - x[(names == g) & (labels == 1)].mean(0) for g in both]
        )
        found = np.linalg.svd(differences, full_matrices=False)[2][0]
        if found @ differences.mean(0) < 0:
            found = -found
    norm = np.linalg.norm(found)
    return np.zeros_like(found) if norm == 0 else found / norm


def selected_heads(accuracy: Floats, *, selection: str, num_heads: int, threshold: float) -> list[tuple[int, int]]:
    """(layer, head) of the heads to shift, the best first, of equals the first.

    Args:
        accuracy: (layers, heads), of held-out texts.
        selection: "top", the best `num_heads`; "threshold", those of at least `threshold`; "all".
        num_heads: see "top".
        threshold: see "threshold".

    Raises:
        InputError: no head reaches the threshold.
    """
    order = np.argsort(-accuracy, axis=None, kind="stable")
    if selection == "top":
        order = order[:num_heads]
    elif selection == "threshold":
        order = order[accuracy.ravel()[order] >= threshold]
        if not len(order):
            raise InputError(
                f"ITI: no head's held-out accuracy reaches the threshold {threshold:g}; the best has {accuracy.max():.3f}: lower it, or "
                "choose selection='top'"
            )
    return [(int(layer), int(head)) for layer, head in zip(*np.unravel_index(order, accuracy.shape), strict=True)]


def shuffled_labels(labels: NDArray[np.int64], groups: Sequence[str], *, seed: int) -> NDArray[np.int64]:
    """Labels that say nothing: in a group with both sides the two are exchanged or not by a coin, groups of one side trade theirs."""
    rng = np.random.default_rng([seed, 0x5A])
    names = np.unique(np.asarray(groups), return_inverse=True)[1]
    result = labels.copy()
    members = [np.flatnonzero(names == group) for group in range(names.max() + 1)]
    paired = [where for where in members if len(set(labels[where])) == 2]
    # Exactly half of the pairs are turned: by coins alone, a few pairs would often leave labels that still say something.
    for index in rng.permutation(len(paired))[: len(paired) // 2]:
        result[paired[index]] = 1 - labels[paired[index]]
    alone = [where for where in members if len(set(labels[where])) == 1]
    sides = rng.permutation([int(labels[where[0]]) for where in alone])
    for where, side in zip(alone, sides, strict=True):
        result[where] = side
    return result


def random_unit(dimension: int, *, seed: int, layer: int, head: int) -> Floats:
    """A direction drawn evenly from the sphere, one for each head and seed."""
    drawn = np.random.default_rng([seed, 0x5B, layer, head]).normal(size=dimension)
    unit: Floats = drawn / np.linalg.norm(drawn)
    return unit
