"""Curves over bases: bases that differ only in their seed are one point, with its standard error over seeds.

A difference of two such points is taken seed by seed and prompt by prompt (or item by item), averaged over seeds, and resampled over
prompts: its interval says how sure these models' difference is. What other seeds would give is said by the values of each seed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from detox.bench.cells import read_records, read_summary
from detox.bench.comparison import Comparison, Row, compare
from detox.errors import InputError

Factors = Mapping[str, Any]


@dataclass(frozen=True)
class Point:
    """A number over the seeds of one kind of base.

    Attributes:
        mean: over seeds; NaN where no seed has it.
        standard_error: of that mean; NaN with one seed.
        values: one a seed, in the order of seeds.
    """

    mean: float
    standard_error: float
    values: tuple[float, ...]


@dataclass(frozen=True)
class Curves:
    """The cells of a grid by the factors of their bases.

    Attributes:
        comparison: all rows of one protocol.
        factors: of each base, by name.
        probes: held-out ROC-AUC of the best head that a fit chose, by (base, method); absent where nothing was fitted.
    """

    comparison: Comparison
    factors: Mapping[str, Factors]
    probes: Mapping[tuple[str, str], float]

    @property
    def headline(self) -> str:
        """The scorer that toxicity is read from."""
        if self.comparison.headline is None:
            raise InputError("the protocol has no scorer; curves of toxicity need one")
        return self.comparison.headline

    @property
    def headline_named(self) -> str:
        """The same as a picture calls it."""
        return self.comparison.independence.named(self.headline)

    def levels(self, factor: str, **fixed: Any) -> list[Any]:
        """The values that a factor takes among the bases with these other factors, in the grid's order."""
        return list(dict.fromkeys(f[factor] for f in self.factors.values() if factor in f and _agrees(f, fixed)))

    def rows(self, method: str | None = None, strength: float | None = None, **fixed: Any) -> list[Row]:
        """One row a seed, in the order of seeds: a method on the bases that have these factors, and no others but their seed."""
        chosen = [
            row
            for row in self.comparison.rows
            if row.method == method
            and (method is None or strength is None or row.strength == strength)
            and _agrees(self.factors.get(row.base, {}), fixed)
            and not self.factors.get(row.base, {}).keys() - {"seed", *fixed}
        ]
        return sorted(chosen, key=lambda row: int(self.factors[row.base].get("seed", 0)))

    def strengths(self, method: str) -> list[float]:
        """The strengths at which a method was measured, ascending; a method without a dial has none."""
        found = {row.strength for row in self.comparison.rows if row.method == method}
        return sorted(strength for strength in found if strength is not None)

    def methods(self) -> list[str]:
        """Detoxifiers of the grid."""
        return list(dict.fromkeys(row.method for row in self.comparison.rows if row.method is not None))


def _agrees(factors: Factors, fixed: Factors) -> bool:
    return all(name in factors and factors[name] == value for name, value in fixed.items())


def read_curves(results: str | Path, *, protocol: str | None = None, scorer: str | None = None) -> Curves:
    """The curves of a results directory.

    Raises:
        InputError: its grid gave its bases no factors.
        MissingData, DataError: see `compare`.
    """
    root = Path(results)
    comparison = compare(root, protocol=protocol, scorer=scorer)
    factors = read_factors(root)
    if not factors:
        raise InputError(f"{root}: the bases of this grid have no factors; curves need bases under `for: {{...}}`")
    probes = {}
    for cell in (record.names for record in read_records(root)):
        learned = cell.get("fit", {}).get("learned", {}).get("heldout_auc", {})
        if learned.get("of_chosen_heads"):
            probes[cell["base"], cell["method"]] = max(learned["of_chosen_heads"])
    return Curves(comparison, factors, probes)


def read_factors(results: str | Path) -> dict[str, Factors]:
    """Factors of the bases of a results directory, by name; empty where its grid gave them none."""
    return dict((read_summary(results) or {}).get("factors", {}))


def metric(rows: Iterable[Row], name: str) -> Point:
    """A metric over seeds; seeds that lack it are left out."""
    return point([row.scorecard.metrics[name].value for row in rows if name in row.scorecard.metrics])


def toxicity(rows: Iterable[Row]) -> Point:
    """Mean toxicity of completions over seeds, by the headline scorer."""
    return point([row.toxicity.value for row in rows if row.toxicity is not None])


def point(values: Sequence[float]) -> Point:
    """Mean and standard error of numbers, one a seed."""
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return Point(math.nan, math.nan, tuple(values))
    error = float(np.std(known, ddof=1) / math.sqrt(len(known))) if len(known) > 1 else math.nan
    return Point(float(np.mean(known)), error, tuple(values))


_SUMMARY = (
    "toxicity/{headline}/mean", "toxicity+prompt/{headline}/mean", "probe/auc", "recognition/auc", "head_probes/mean_accuracy",
    "clean/cross_entropy", "toxic/cross_entropy", "minimal_pairs/accuracy", "replies/echoes", "replies/addresses",
    "replies/ignores", "rewriting/toxicity", "rewriting/toxicity/toxic texts", "rewriting/toxicity/safe texts",
    "rewriting/similarity", "rewriting/copied", "rewriting/answered",
)  # fmt: skip


def summary(curves: Curves) -> str:
    """Every kind of base with every method, in Markdown: mean over seeds and, in brackets, its standard error."""
    names = [name.format(headline=curves.headline) for name in _SUMMARY]
    found = {name for row in curves.comparison.rows for name in row.scorecard.metrics}
    names = [name for name in names if name in found]
    kinds: dict[tuple[Any, ...], list[Row]] = {}
    for row in curves.comparison.rows:
        factors = {name: value for name, value in curves.factors.get(row.base, {}).items() if name != "seed"}
        label = ", ".join(
            str(value) if isinstance(value, str) else f"{name} {value:g}" for name, value in factors.items()
        )
        kinds.setdefault((label or row.base, row.method_label), []).append(row)
    lines = ["| " + " | ".join(["base", "method", *names]) + " |", "|---" * (2 + len(names)) + "|"]
    for (label, method), rows in kinds.items():
        points = [metric(rows, name) for name in names]
        cells = ["" if math.isnan(p.mean) else _with_error(p) for p in points]
        lines.append("| " + " | ".join([label, method, *cells]) + " |")
    return "\n".join(lines)


def _with_error(found: Point) -> str:
    return f"{found.mean:.3f}" + ("" if math.isnan(found.standard_error) else f" ({found.standard_error:.3f})")
