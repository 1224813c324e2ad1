"""What a method costs, as far as records hold it. What they do not hold is None, never 0."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from detox.bench.report.reading import Results, names_of


@dataclass(frozen=True)
class Cost:
    """Cost of one cell.

    Attributes:
        fit_seconds: wall-clock time of the fit; 0 for what needs none.
        milliseconds_per_token: of generation, in the batches and on the machine of the record.
        relative: the same over that of its base; None for the base.
        peak_mib: most memory held while it was measured.
        prompt_tokens: put before every prompt.
        likelihood_seconds: of scoring the clean documents.
    """

    fit_seconds: float | None
    milliseconds_per_token: float | None
    relative: float | None
    peak_mib: float | None
    prompt_tokens: float | None
    likelihood_seconds: float | None


def costs(results: Results) -> list[Cost]:
    """One for each row of `results.rows()`."""
    rows = list(results.rows())
    fits: dict[tuple[str, str | None], float] = {}
    for row in rows:
        seconds = _number(results.cell(row).get("fit", {}), "seconds")
        # Only the run that fitted knows how long it took; cells that took the fit from the store say 0.
        fits[row.base, row.method] = max(fits.get((row.base, row.method), 0.0), seconds or 0.0)
    speeds = {names_of(row): _speed(row.scorecard.seconds, row.scorecard.tables.get("completions")) for row in rows}
    found = []
    for row in rows:
        cell = results.cell(row)
        base = results.base_of(row)
        method = cell.get("identity", {}).get("method") or {}
        needs_fit = method.get("contrasts") is not None
        fit: float | None = fits[row.base, row.method] or (None if needs_fit or not cell else 0.0)
        speed, before = speeds[names_of(row)], speeds.get(names_of(base)) if base is not None else None
        extra = cell.get("cost", {})
        found.append(
            Cost(
                fit_seconds=None if row.method is None else fit,
                milliseconds_per_token=speed,
                relative=speed / before if speed and before else None,
                peak_mib=_number(extra, "peak_mib"),
                prompt_tokens=_number(extra, "prompt_tokens"),
                likelihood_seconds=_number(row.scorecard.seconds, "documents"),
            )
        )
    return found


def _speed(seconds: Mapping[str, float], completions: Mapping[str, list[Any]] | None) -> float | None:
    tokens = sum(completions["tokens"]) if completions else 0
    taken = seconds.get("generate")
    return 1000 * taken / tokens if tokens and taken else None


def _number(values: Any, key: str) -> float | None:
    value = values.get(key) if isinstance(values, Mapping) else None
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
