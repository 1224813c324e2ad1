"""Verdicts and fronts as text."""

from __future__ import annotations

import math

from detox.bench.cell_list import NOISE_FLOOR
from detox.bench.comparison import Comparison
from detox.bench.comparison_text import show
from detox.bench.fronts import FLOOR, Front, fronts
from detox.bench.gamed_scorer import said
from detox.bench.verdicts import MARGIN, CellVerdict, verdicts


def verdicts_table(comparison: Comparison) -> str:
    """What each cell's changes let one say, with its place on the front; empty where there is no method."""
    found = [one for one in verdicts(comparison) if one.row.method is not None]
    if not any(one.row.method != NOISE_FLOOR for one in found):
        return ""
    on_front = {(f.base, f.seed): f for f in fronts(comparison)}
    tasks = list(dict.fromkeys(task for one in found for task in one.choices))
    header = [
        "base",
        "method",
        "toxicity",
        "p (Holm)",
        f"CE within {MARGIN:g}",
        "on front",
        *(f"{t}: McNemar p" for t in tasks),
    ]
    lines = [header, *(_line(one, on_front.get((one.row.base, one.row.seed)), tasks) for one in found)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    text = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines]
    text.insert(1, "-" * len(text[0]))
    covered = [line for front in on_front.values() for line in _covered(front)]
    alone = [
        f"! {one.row.base}, {one.row.method_label}: {said(str(comparison.headline), one.unseen)}"
        for one in found
        if one.unseen
    ]
    return "\n".join(["Verdicts against the own base", *text, *alone, *covered])


def _line(one: CellVerdict, front: Front | None, tasks: list[str]) -> list[str]:
    row = one.row
    place = front.labels.index(row.method_label) if front is not None and row.method_label in front.labels else None
    p = one.p if math.isnan(one.p_holm) else one.p_holm
    verdict = f"{one.toxicity} ({one.missing:.1%} missing)" if one.toxicity == "withheld" else one.toxicity_words
    return [
        row.base,
        row.method_label + row.chosen_mark,
        verdict,
        ""
        if math.isnan(p) or one.toxicity == "withheld"
        else f"{p:.2g}" + ("" if row.method != NOISE_FLOOR else " (single)"),
        one.utility or "",
        f"{front.membership[place]:.2f}" if front is not None and place is not None else "",
        *(_choice(one, task) for task in tasks),
    ]


def _choice(one: CellVerdict, task: str) -> str:
    if task not in one.choices:
        return ""
    test = one.choices[task]
    p = test.p if math.isnan(test.p_holm) else test.p_holm
    return f"{p:.2g} (+{test.gained} -{test.lost})"


def _covered(front: Front) -> list[str]:
    best = ", ".join(f"{method} {show(area)}" for method, area in front.covered.items())
    return [f"{front.base}: area below the base's toxicity within +{FLOOR:g} nats: {best}"]
