"""A comparison as text and as CSV."""

from __future__ import annotations

import io
import math
import re
from csv import writer as csv_writer
from typing import TYPE_CHECKING, Any

from detox.bench.cell_list import NOISE_FLOOR
from detox.statistics import Estimate

if TYPE_CHECKING:
    from detox.bench.comparison import Comparison, Row

_CE = "clean/cross_entropy"
_EXTRA = (
    "refusals/rate",
    "recognition/auc",
    "probe/auc",
    "safenlp/mean_all_groups",
    "rewriting/toxicity",
    "rewriting/similarity",
)


def table(comparison: Comparison) -> str:
    """The comparison as text, for a terminal."""
    rows = (*comparison.rows, *comparison.noise_floor)
    place = {key: index for index, key in enumerate(dict.fromkeys((row.base, row.seed) for row in rows))}
    shown = sorted(rows, key=lambda row: (place[row.base, row.seed], row.method is not None, row.method != NOISE_FLOOR))
    lines = [_header(comparison), *(_line(comparison, row) for row in shown)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    text.insert(1, "-" * len(text[0]))
    if any(row.chosen_on == "development" for row in rows):
        budgets = sorted(
            {f"+{row.budget:g}" for row in rows if row.chosen_on == "development" and row.budget is not None}
        )
        within = f" within {' or '.join(budgets)} nats" if budgets else ""
        text.append(
            f"(tuned: strength chosen by detox tune{within} on development prompts, none of which is among these)"
        )
    if any(row.chosen_on == "test" for row in rows):
        text.append("(chosen on these prompts: by detox tune, so that the row stands in no ranking)")
    text += [f"({note})" for note in comparison.independence.notes]
    text += [f"(no record: {name}: {reason})" for name, reason in comparison.holes.items()]
    if comparison.control_rows:
        from detox.bench.equal_cost import against_controls
        from detox.bench.equal_cost import table as controls_table

        text += ["", controls_table(against_controls(comparison))]
    return "\n".join(text)


def _extra_metrics(comparison: Comparison) -> list[str]:
    present = [name for name in _EXTRA if any(name in r.scorecard.metrics for r in comparison.rows)]
    choices = sorted(
        {n for r in comparison.rows for n in r.scorecard.metrics if n.startswith("choice/") and n.endswith("/accuracy")}
    )
    pairs = (
        ["minimal_pairs/accuracy"]
        if any("minimal_pairs/accuracy" in r.scorecard.metrics for r in comparison.rows)
        else []
    )
    # Where nothing is written, the tasks are what the protocol is for.
    return [*present, *(choices[:2] if comparison.headline else choices), *pairs]


def _header(comparison: Comparison) -> list[str]:
    named = comparison.independence.named
    names = ["base", "method", f"toxicity ({named(comparison.headline)})", "change"]
    names += [f"({named(scorer)})" for scorer in comparison.scorers[1:]]
    return [
        *names,
        "CE nats",
        "change",
        *(m.replace("/accuracy", "").replace("choice/", "") for m in _extra_metrics(comparison)),
    ]


def _line(comparison: Comparison, row: Row) -> list[str]:
    metrics = row.scorecard.metrics
    others = [metrics.get(f"toxicity/{scorer}/mean") for scorer in comparison.scorers[1:]]
    return [
        row.base,
        row.method_label + row.chosen_mark,
        show(row.toxicity),
        show(row.toxicity_change, signed=True),
        *(show(other, interval=False) for other in others),
        show(metrics.get(_CE), interval=False),
        show(row.cross_entropy_change, signed=True),
        *(show(metrics.get(name), interval=False) for name in _extra_metrics(comparison)),
    ]


def csv(comparison: Comparison) -> str:
    """One line a cell: every metric with its interval; empty where it was not measured.

    The last column is the share of the completions without a score of the headline; above 2 % there is no verdict.
    """
    metrics = list(dict.fromkeys(name for row in comparison.rows for name in row.scorecard.metrics))
    changes = ["toxicity_change", "cross_entropy_change"]
    out = io.StringIO()
    writer = csv_writer(out, lineterminator="\n")
    names = [f"{name}{end}" for name in [*metrics, *changes] for end in ("", " low", " high")]
    writer.writerow(["base", "method", "strength", "protocol", "seed", *names, "chosen_on", "share without score"])
    for row in (*comparison.rows, *comparison.noise_floor, *comparison.control_rows):
        estimates = [
            *(row.scorecard.metrics.get(name) for name in metrics),
            row.toxicity_change,
            row.cross_entropy_change,
        ]
        cells = [_plain(value) for e in estimates for value in ((e.value, e.low, e.high) if e else (math.nan,) * 3)]
        strength = "" if row.strength is None else f"{row.strength:g}"
        names = [harmless(name) for name in (row.base, row.method or "", strength, row.protocol)]
        lacking = row.scorecard.share_without_score(comparison.headline) if comparison.headline else math.nan
        writer.writerow([*names, row.seed, *cells, row.chosen_on or "", _plain(lacking)])
    return out.getvalue()


# What a spreadsheet would take for a formula.
_FORMULA = re.compile(r"^[=+\-@\t\r]")


def harmless(value: Any) -> Any:
    """A value of a CSV file; text that a spreadsheet would run has an apostrophe before it."""
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def show(estimate: Estimate | None, *, signed: bool = False, interval: bool = True) -> str:
    """An estimate for a table; empty where there is none."""
    if estimate is None:
        return ""
    if math.isnan(estimate.value):
        return "missing"
    sign = "+" if signed else ""
    text = f"{estimate.value:{sign}.3f}"
    return (
        f"{text} [{estimate.low:{sign}.3f}, {estimate.high:{sign}.3f}]"
        if interval and not math.isnan(estimate.low)
        else text
    )


def _plain(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6g}"
