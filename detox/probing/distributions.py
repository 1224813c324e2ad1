"""Are the heads of one model better probes than those of another? The same gain, tested in three units.

The paper that asked (arXiv 2505.04741, section 4: 25 % against 0 % toxic data) takes heads for its units. The heads of one
model have read the same texts and the same weights, so they are far from independent, and a test over heads finds differences
between two halves of nothing. Over texts the question is whether these two models differ; over seeds, whether two ways of
training do, which is what one wants to know and what needs several models a side.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from detox.errors import InputError
from detox.statistics import bootstrap_weights

Floats = NDArray[np.float64]
DRAWS = 5000
_CHUNK = 500  # permutations that exist at once


@dataclass(frozen=True)
class HeadTest:
    """One test of the mean gain.

    Attributes:
        unit: "heads", "texts" or "seeds": what was taken for independent.
        method: the test, in words.
        low, high: 95 % interval of the gain, in accuracy points; NaN where the test gives none.
        p: two-sided, of no gain.
        n: units.
    """

    unit: str
    method: str
    low: float
    high: float
    p: float
    n: int

    def __str__(self) -> str:
        interval = "" if math.isnan(self.low) else f" [{self.low:+.2f}, {self.high:+.2f}]"
        return f"over {self.n} {self.unit}, {self.method}:{interval} p = {self.p:.2g}"


@dataclass(frozen=True)
class HeadComparison:
    """Mean gain of b over a in accuracy points (hundredths), and its tests.

    Attributes:
        gain: mean over heads (and models) of b's accuracy minus a's, in points.
        tests: "heads/t" and "heads/wilcoxon" (paired over heads, as the paper does: too sure of themselves), "heads/mann-whitney"
            (the two distributions, unpaired), "texts" (sign flips; bootstrap interval), "seeds" (Welch). Absent where the data
            does not give them.
    """

    gain: float
    tests: dict[str, HeadTest]

    @property
    def headline(self) -> HeadTest | None:
        """The test to believe: over seeds where there are at least two models a side, else over texts, else none."""
        return self.tests.get("seeds") or self.tests.get("texts")

    def __str__(self) -> str:
        return "\n".join([f"mean gain {self.gain:+.2f} points", *(f"  {test}" for test in self.tests.values())])


def compare_head_distributions(
    a: ArrayLike,
    b: ArrayLike,
    *,
    texts_a: ArrayLike | None = None,
    texts_b: ArrayLike | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> HeadComparison:
    """Compare the accuracies of two models' (or two groups of models') head probes.

    Args:
        a: (layers, heads) or (models, layers, heads) accuracies in [0, 1], as `HeadProbes.accuracy`.
        b: the same of the other; the same layers and heads, any number of models.
        texts_a: (texts,) or (models, texts) shares in [0, 1] of heads that judge each held-out text right, as
            `HeadProbes.text_accuracy`.
        texts_b: the same of the other, of the same texts in the same order.
        draws: sign flips of the permutation test over texts, and resamples of its interval.
        seed: of the flips.

    Returns:
        The gain of b over a and its tests. Several models of a side are averaged before heads or texts are compared.

    Raises:
        InputError: shapes that do not fit together, a value outside [0, 1], or fewer than two heads.
    """
    first, second = (_accuracies(values, name, 2) for values, name in ((a, "a"), (b, "b")))
    if first.shape[1:] != second.shape[1:]:
        raise InputError(
            f"heads can be paired only in equal architectures; a has {first.shape[1:]} (layers, heads) and b {second.shape[1:]}"
        )
    gains = 100 * (second.mean(0) - first.mean(0)).ravel()
    if len(gains) < 2:
        raise InputError(f"{len(gains)} head cannot be compared; expected at least 2")
    tests = _over_heads(first.mean(0).ravel(), second.mean(0).ravel())
    if (texts_a is None) != (texts_b is None):
        raise InputError(
            f"texts_{'b' if texts_b is None else 'a'} is missing; give the texts of both models or of neither"
        )
    if texts_a is not None and texts_b is not None:
        left, right = (_accuracies(values, name, 1) for values, name in ((texts_a, "texts_a"), (texts_b, "texts_b")))
        if left.shape[1] != right.shape[1]:
            raise InputError(
                f"texts_a holds {left.shape[1]} texts and texts_b {right.shape[1]}; expected the same texts"
            )
        if left.shape[1] > 1:
            tests["texts"] = _over_texts(100 * (right.mean(0) - left.mean(0)), draws=draws, seed=seed)
    if min(len(first), len(second)) > 1:
        tests["seeds"] = _over_seeds(100 * first.mean((1, 2)), 100 * second.mean((1, 2)))
    return HeadComparison(float(gains.mean()), tests)


def _accuracies(values: ArrayLike, name: str, dimensions: int) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim == dimensions:
        array = array[None]
    if array.ndim != dimensions + 1 or not array.size:
        axes = "(layers, heads)" if dimensions == 2 else "(texts,)"
        raise InputError(f"{name} has shape {np.shape(values)}; expected {axes}, perhaps with an axis of models before")
    if not ((array >= 0) & (array <= 1)).all():
        raise InputError(f"{name} holds values outside [0, 1] or NaN; expected accuracies")
    return array


def _over_heads(a: Floats, b: Floats) -> dict[str, HeadTest]:
    from scipy import stats

    # Accuracies are counts over texts: without the rounding, arithmetic would break ties between ranks.
    a, b = a.round(12), b.round(12)
    gains, n = (100 * (b - a)).round(9), len(a)
    if not gains.any():
        equal = HeadTest("heads", "paired t test", 0.0, 0.0, 1.0, n)
        return {"heads/t": equal}
    with np.errstate(divide="ignore", invalid="ignore"):  # all gains equal: a spread of zero
        t = stats.ttest_rel(b, a)
        interval = t.confidence_interval(0.95)
    low, high = (100 * float(end) for end in interval)
    return {
        "heads/t": HeadTest("heads", "paired t test", low, high, float(t.pvalue), n),
        "heads/wilcoxon": HeadTest(
            "heads", "Wilcoxon signed ranks", math.nan, math.nan, float(stats.wilcoxon(gains).pvalue), n
        ),
        "heads/mann-whitney": HeadTest(
            "heads", "Mann-Whitney, unpaired", math.nan, math.nan, float(stats.mannwhitneyu(b, a).pvalue), n
        ),
    }


def _over_texts(gains: Floats, *, draws: int, seed: int) -> HeadTest:
    n, gain = len(gains), gains.mean()
    beyond = total = 0
    for signs in _signs(n, draws, seed):
        # A flip that gives the same sum in another order is no farther out than the data.
        beyond += int((np.abs(signs @ gains / n) >= abs(gain) - 1e-9).sum())
        total += len(signs)
    means = np.concatenate([weights @ gains / n for weights in bootstrap_weights(n, draws=draws)])
    low, high = np.quantile(means, [0.025, 0.975])
    return HeadTest("texts", "sign flips, bootstrap interval", float(low), float(high), (beyond + 1) / (total + 1), n)


def _signs(n: int, draws: int, seed: int) -> Iterator[Floats]:
    rng = np.random.default_rng([seed, n])
    for start in range(0, draws, _CHUNK):
        yield rng.choice(np.array([-1.0, 1.0]), size=(min(_CHUNK, draws - start), n))


def _over_seeds(a: Floats, b: Floats) -> HeadTest:
    from scipy import stats

    n = len(a) + len(b)
    if a.var() == b.var() == 0:
        equal = bool(a[0] == b[0])
        gain = float(b[0] - a[0])
        return HeadTest("seeds", "Welch's t test", gain, gain, 1.0 if equal else 0.0, n)
    welch = stats.ttest_ind(b, a, equal_var=False)
    interval = welch.confidence_interval(0.95)
    return HeadTest("seeds", "Welch's t test", float(interval.low), float(interval.high), float(welch.pvalue), n)
