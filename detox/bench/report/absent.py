"""Rows that every report has, where nobody measured them: each a named hole with its reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from detox.bench.cell_list import NOISE_FLOOR
from detox.bench.report.reading import Results

PROMPTED = "prompting"  # the method that every other has to beat for nothing


def absent_rows(results: Results, cells: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows that every report has, where they were not measured: a base's own, and the base with a prompt before it."""
    absent = []
    for base in dict.fromkeys(cell["base"] for cell in cells):
        there = {cell["role"] for cell in cells if cell["base"] == base}
        for kind, what in (("base", "the bare base"), ("prompted base", f"a cell of the method {PROMPTED!r}")):
            if kind not in there:
                reasons = [
                    reason for name, reason in results.comparison.holes.items()
                    if name.startswith(f"{base}--") and (PROMPTED in name) == (kind != "base") and (kind != "base" or "-----" in name)
                ]  # fmt: skip
                reason = results.without_paths(reasons[0]) if reasons else f"the grid did not ask for {what}"
                absent.append({"base": base, "kind": kind, "reason": reason})
    return absent


def without_noise_floor(results: Results, identity: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Bases that were not measured against themselves, where another seed of the sampling could have changed anything."""
    rows = results.comparison.rows
    if not (identity.get("sampling") or {}).get("temperature") or len({row.seed for row in rows}) > 1:
        return []
    measured = {row.base for row in results.comparison.noise_floor}
    reason = "no cell of the base with another seed, so that what chance alone does is not shown"
    bases = dict.fromkeys(row.base for row in rows if row.method is None and row.base not in measured)
    return [{"base": base, "kind": NOISE_FLOOR, "reason": reason} for base in bases]
