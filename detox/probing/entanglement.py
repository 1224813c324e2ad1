"""How much feature directions share: the largest cosine of a feature's direction with another's (arXiv 2505.04741, section 2).

    E_i = max over j != i of |v_i . v_j|,   v unit directions

A number alone says little. n directions in d < n dimensions cannot all be orthogonal: the largest of all cosines is at least
sqrt((n - d) / (d (n - 1))), Welch's bound (1974). For n <= d they can, and random directions are the thing to compare with: E_i
of random directions has the expectation that `random_largest_cosine` gives. Directions that are estimated from activations share
more than random ones even where there is nothing to estimate, because activations spread along few axes. The measurement therefore
also gives E_i of directions for shuffled labels, and cosines in coordinates in which the activations spread alike along all axes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from detox.errors import InputError, require_known
from detox.statistics import bootstrap_weights

Floats = NDArray[np.float64]
KINDS = ("means", "joint", "whitened")
DRAWS = 200
SHUFFLES = 50
_NUMBERS_AT_ONCE = 2**26  # of activations that are looked at together


def welch_bound(n: int, d: int) -> float:
    """The least that the largest |cosine| of n unit vectors in d dimensions can be: sqrt((n - d) / (d (n - 1))); 0 for n <= d.

    Raises:
        InputError: fewer than two directions, or no dimension.
    """
    if n < 2 or d < 1:
        raise InputError(f"{n} directions in {d} dimensions have no cosine; expected at least 2 and 1")
    return math.sqrt((n - d) / (d * (n - 1))) if n > d else 0.0


def random_largest_cosine(n: int, d: int) -> float:
    """Expectation of E_i for n independent directions, uniform on the sphere in d dimensions.

    The squared cosine of two is Beta(1/2, (d - 1)/2) distributed, and those of one direction with the n - 1 others are
    independent, so that E[E_i] is the integral of 1 - F(t)**(n - 1) over t in [0, 1], F(t) the distribution function of |cosine|.

    Raises:
        InputError: fewer than two directions, or no dimension.
    """
    from scipy import integrate, special

    if n < 2 or d < 1:
        raise InputError(f"{n} directions in {d} dimensions have no cosine; expected at least 2 and 1")
    if d == 1:
        return 1.0
    value, _ = integrate.quad(lambda t: 1 - special.betainc(0.5, (d - 1) / 2, t * t) ** (n - 1), 0, 1, limit=200)
    return float(value)


def cosines(directions: ArrayLike) -> Floats:
    """(..., features, features) cosines of (..., features, dimensions) directions; NaN where a direction is zero."""
    v = np.asarray(directions, dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        unit = v / np.linalg.norm(v, axis=-1, keepdims=True)
    return np.asarray(unit @ np.swapaxes(unit, -1, -2))


def largest_cosines(directions: ArrayLike) -> Floats:
    """(..., features): E_i, the largest |cosine| of each feature's direction with another's. NaN beside a direction of zero."""
    found = np.abs(cosines(directions))
    if found.shape[-1] < 2:
        raise InputError(f"{found.shape[-1]} feature has no other to be entangled with; expected at least 2")
    own = np.eye(found.shape[-1], dtype=bool)
    return np.asarray(np.where(own, -np.inf, found).max(-1))


def direction_maps(features: NDArray[np.bool_], weights: Floats, *, kind: str = "means") -> Floats:
    """(..., features, texts) matrices that turn activations (texts, dimensions) into feature directions.

    Args:
        features: (texts, features).
        weights: (..., texts) how often each text counts.
        kind: "means": mean of the texts with the feature minus mean of those without, the direction that ITI shifts along.
            "joint": coefficients of a least-squares regression of the activation on all features at once: what a feature moves
            while the others are held, so that features that come together are not entangled for that alone. "whitened": as
            "means"; it is the activations that are others, see `whitened`.

    Raises:
        UnknownName: another kind.
    """
    require_known("kind of direction", kind, KINDS)
    z = features.astype(np.float64)
    if kind != "joint":
        with np.errstate(invalid="ignore", divide="ignore"):
            sides = [(side.T * weights[..., None, :]) for side in (z, 1 - z)]
            first, second = (side / side.sum(-1, keepdims=True) for side in sides)
        return np.asarray(first - second)
    design = np.concatenate([np.ones((len(z), 1)), z], axis=1)
    weighted = design.T * weights[..., None, :]
    return np.asarray((np.linalg.pinv(weighted @ design) @ weighted)[..., 1:, :])


@dataclass(frozen=True)
class Entanglement:
    """Entanglement of feature directions at many sites (heads, or layers).

    Attributes:
        names: of the features.
        dimensions: of a direction.
        largest: (sites, features) E_i.
        mean: (sites, features) mean |cosine| with the others.
        partner: (sites, features) index of the feature that E_i is with.
        draws: (resamples, sites) the first feature's E_i where texts are resampled.
        shuffled: (sites,) mean E_i of the first feature over directions for labels shuffled among the texts (rows of labels
            together, so that features that come together still do): what noise in this site's activations gives.
        p: (sites,) share of shuffles whose E_i of the first feature is at least as large, the data counted among them.
    """

    names: tuple[str, ...]
    dimensions: int
    largest: Floats
    mean: Floats
    partner: NDArray[np.int64]
    draws: Floats
    shuffled: Floats
    p: Floats

    @property
    def interval(self) -> tuple[Floats, Floats]:
        """Ends (sites,) of the 95 % interval over texts of the first feature's E_i.

        A maximum is lifted by noise, in a resample once more: read it as a spread.
        """
        low, high = np.nanquantile(self.draws, [0.025, 0.975], axis=0)
        return low, high

    @property
    def welch(self) -> float:
        """The least that the largest of all cosines can be."""
        return welch_bound(len(self.names), self.dimensions)

    @property
    def random(self) -> float:
        """Expected E_i of random directions."""
        return random_largest_cosine(len(self.names), self.dimensions)


def measure_entanglement(
    activations: NDArray[np.float32],
    features: dict[str, NDArray[np.bool_]],
    groups: NDArray[np.int64],
    *,
    kind: str = "means",
    draws: int = DRAWS,
    shuffles: int = SHUFFLES,
    seed: int = 0,
) -> Entanglement:
    """Entanglement of the features' directions at every site.

    Args:
        activations: (texts, sites, dimensions).
        features: name -> (texts,) bool; the first is the one that intervals and shuffles are about.
        groups: (texts,) whole numbers from 0: what is resampled together.
        kind: of direction, see `direction_maps`.
        draws: resamples.
        shuffles: of the labels.
        seed: of the shuffles.

    Raises:
        InputError: fewer than two features.
        UnknownName: another kind.
    """
    if len(features) < 2:
        raise InputError(f"{len(features)} feature has no other to be entangled with; expected at least 2")
    n, sites, _ = activations.shape
    z = np.stack(list(features.values()), axis=1)
    rng = np.random.default_rng([seed, n])
    plain = direction_maps(z, np.ones(n), kind=kind)
    resampled = [
        direction_maps(z, weights[groups], kind=kind)
        for chunk in bootstrap_weights(int(groups.max()) + 1, draws=draws)
        for weights in chunk
    ]
    null = [plain[:, rng.permutation(n)] for _ in range(shuffles)]
    block = max(1, _NUMBERS_AT_ONCE // activations[:, 0].size)
    parts = [
        _measure_block(activations[:, start : start + block], kind, plain, resampled, null)
        for start in range(0, sites, block)
    ]
    largest, mean, partner, drawn, shuffled, p = (np.concatenate(values) for values in zip(*parts, strict=True))
    return Entanglement(tuple(features), activations.shape[2], largest, mean, partner, drawn.T, shuffled, p)


def whitened(activations: NDArray[Any]) -> Floats:
    """(texts, sites, dimensions) centred, and turned so that each site's covariance is the identity.

    A little of the mean variance is added to it (dimensions / texts / 1000), for sites with more dimensions than texts.
    """
    x = activations.astype(np.float64) - activations.mean(0, dtype=np.float64)
    covariance = np.einsum("nsd,nse->sde", x, x, optimize=True) / len(x)
    ridge = 1e-3 * np.trace(covariance, axis1=1, axis2=2) / len(x)
    values, vectors = np.linalg.eigh(covariance + ridge[:, None, None] * np.eye(x.shape[2]))
    root = np.where(values > 0, np.maximum(values, 1e-300) ** -0.5, 0.0)
    return np.asarray(np.einsum("nsd,sde,se,sfe->nsf", x, vectors, root, vectors, optimize=True))


def _measure_block(
    activations: NDArray[np.float32], kind: str, plain: Floats, resampled: list[Floats], null: list[Floats]
) -> tuple[NDArray[Any], ...]:
    n, sites, _ = activations.shape
    if kind == "whitened":
        x = whitened(activations).reshape(n, -1)
    else:
        x = activations.reshape(n, -1).astype(np.float64)
        x = x - x.mean(0)  # directions do not depend on it; their arithmetic is better

    def directions(maps: Floats) -> Floats:
        return np.moveaxis((maps @ x).reshape(len(plain), sites, -1), 0, 1)

    found = np.abs(cosines(directions(plain)))
    own = np.eye(len(plain), dtype=bool)
    largest = np.where(own, -np.inf, found).max(-1)
    drawn = np.stack([largest_cosines(directions(maps))[:, 0] for maps in resampled])
    chance = np.stack([largest_cosines(directions(maps))[:, 0] for maps in null])
    return (
        largest,
        np.where(own, 0, found).sum(-1) / (len(plain) - 1),
        np.where(own, -np.inf, found).argmax(-1).astype(np.int64),
        drawn.T,
        chance.mean(0),
        (1 + (chance >= largest[:, 0] - 1e-12).sum(0)) / (1 + len(null)),
    )
