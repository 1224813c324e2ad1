"""The papers' figures, of a grid's records."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detox.bench.claims import MEASURABLE, PRICES
from detox.bench.cost_paths import NEAR
from detox.bench.curves import Curves, Point, metric, point, toxicity
from detox.bench.differences import at_price
from detox.bench.plots import COLOURS, save_figure

_ARM_COLOURS = dict(
    zip(("clean", "full", "masked", "unlikelihood", "filtered"), (COLOURS[i] for i in (0, 1, 2, 3, 4)), strict=True)
)
_CHOICE = re.compile("choice/[^/]+/accuracy")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def draw_slung(curves: Curves, path: Path) -> None:
    """SLUNG's figures 2 and 3: toxicity against AUROC at the largest dose, before and after instruction; then both against the dose."""
    stages = curves.levels("stage")
    shares = sorted(share for share in curves.levels("share", stage="pretrained") if share)
    doses = len(shares) > 1
    panels = panels_of(len(stages) + 2 * doses)
    for axes, stage in zip(panels, stages, strict=False):
        for arm in curves.levels("arm", stage=stage):
            rows = curves.rows(arm=arm, stage=stage, share=0.0 if arm == "clean" else shares[-1])
            x, y = toxicity(rows), metric(rows, "probe/auc")
            colour = _ARM_COLOURS.get(arm, COLOURS[-1])
            axes.errorbar(
                x.mean, y.mean, xerr=_bar(x), yerr=_bar(y), marker="o", color=colour, capsize=2, linestyle="", label=arm
            )
            axes.plot(x.values, y.values, marker=".", color=colour, linestyle="", alpha=0.35)
        axes.set_title(f"{stage}, share {shares[-1]:g}", fontsize=9)
        axes.set_xlabel(f"toxicity of completions ({curves.headline_named})")
        axes.set_ylabel("probe ROC-AUC (last layer, last token)")
    panels[0].legend(fontsize=8, frameon=False)
    if doses:
        for axes, name, read in (
            (panels[-2], f"toxicity of completions ({curves.headline_named})", toxicity),
            (panels[-1], "probe ROC-AUC", lambda rows: metric(rows, "probe/auc")),
        ):
            for arm in curves.levels("arm", stage="pretrained"):
                if arm == "clean":
                    _level(axes, read(curves.rows(arm=arm, stage="pretrained", share=0.0)), "clean")
                    continue
                found = [(share, curves.rows(arm=arm, stage="pretrained", share=share)) for share in shares]
                _line(
                    axes,
                    [(share, read(rows)) for share, rows in found if rows],
                    arm,
                    _ARM_COLOURS.get(arm, COLOURS[-1]),
                )
            axes.set_xlabel("toxic share of the training tokens")
            axes.set_ylabel(name)
    finish(panels, path)


def draw_toxic_mix(curves: Curves, path: Path) -> None:
    """The toxic-mix paper's figures: toxicity over the share for every method, what a price buys, the heads, and what it costs."""
    shares = sorted(curves.levels("share"))
    panels = panels_of(4)
    conditions = sorted({f["condition"] for f in curves.factors.values() if "condition" in f})
    named = ["no method", *(name for name in curves.methods() if name not in conditions), *conditions]
    colours = {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(named)}
    _line(
        panels[0], [(share, toxicity(curves.rows(share=share))) for share in shares], "no method", colours["no method"]
    )
    for name in (name for name in curves.methods() if name not in conditions):
        strengths: Sequence[float | None] = curves.strengths(name) or [None]
        for place, strength in enumerate(strengths, start=1):
            found = [(share, curves.rows(name, strength, share=share)) for share in shares]
            points = [(share, toxicity(rows)) for share, rows in found if rows]
            label, marker = name if strength is None else f"{name} @ {strength:g}", _MARKERS[place % len(_MARKERS)]
            if points:
                _line(panels[0], points, label, colours[name], marker=marker, alpha=0.4 + 0.6 * place / len(strengths))
    for condition in conditions:
        for share in curves.levels("share", condition=condition):
            # Without its prefix, and with it, which the grid calls by the condition's name.
            for asked, label, marker in ((None, condition, "x"), (condition, f"{condition}, asked to be safe", "*")):
                rows = curves.rows(asked, condition=condition, share=share)
                if rows:
                    _line(panels[0], [(share, toxicity(rows))], label, colours[condition], marker=marker)
    panels[0].set_ylabel(f"toxicity of completions ({curves.headline_named})")
    price = PRICES[len(PRICES) // 2]
    toxic = [share for share in shares if min(toxicity(curves.rows(share=share)).values) >= MEASURABLE]
    for name in (one for one in curves.methods() if len(curves.strengths(one)) > 1):
        taken = [(share, at_price(curves, name, price, share=share)) for share in toxic]
        points = [
            (share, point(found.reduction.by_seed))
            for share, found in taken
            if found.reduction is not None and not found.reduction.withheld and found.crossing <= NEAR * price
        ]  # what no claim may be made of is not drawn
        if points:
            _line(panels[1], points, name, colours[name])
    panels[1].set_ylabel(f"part of toxicity taken, for <= {price:g} nats")
    panels[1].axhline(0, color="grey", linewidth=0.8)
    _heads(panels[2], curves, shares)
    bare = [(share, curves.rows(share=share)) for share in shares]
    asked = sorted(
        {name for _, rows in bare for row in rows for name in row.scorecard.metrics if _CHOICE.fullmatch(name)}
    )
    measures = [("recognition/auc", "zero-shot detection (AUC)"), ("probe/auc", "probe (AUC)")]
    measures += [(name, f"multiple choice, {name.split('/')[1]}") for name in asked]
    for index, (measured, label) in enumerate(measures):
        points = [(share, metric(rows, measured)) for share, rows in bare]
        if not all(math.isnan(found.mean) for _, found in points):
            _line(panels[3], points, label, COLOURS[index % len(COLOURS)])
    panels[3].set_ylabel("of the bare base")
    costs = panels[3].twinx()
    _line(
        costs,
        [(share, metric(rows, "clean/cross_entropy")) for share, rows in bare],
        "clean cross-entropy (right)",
        "black",
    )
    costs.set_ylabel("nats per token")
    lines, labels = (
        a + b for a, b in zip(*(one.get_legend_handles_labels() for one in (panels[3], costs)), strict=True)
    )
    _legend(panels[3], lines, labels)
    for axes in panels:
        axes.set_xlabel("toxic share of the training tokens")
        if axes not in panels[2:]:
            _legend(axes, *axes.get_legend_handles_labels())
    finish(panels, path)


def _legend(axes: Any, lines: Sequence[Any], labels: Sequence[str]) -> None:
    """Above the panel, where no line can pass behind it."""
    columns = 3 if len(labels) > 6 else 2
    axes.legend(lines, labels, fontsize=6, frameon=False, ncols=columns, loc="lower left", bbox_to_anchor=(-0.05, 1.0))


def _heads(axes: Any, curves: Curves, shares: Sequence[float]) -> None:
    """How well each head tells toxic from safe text: one violin a share, all heads of all seeds."""
    found: list[tuple[float, list[float]]] = []
    for share in shares:
        tables = [row.scorecard.tables.get("head_probes", {}) for row in curves.rows(share=share)]
        accuracies = [value for table in tables for value in table.get("accuracy", [])]
        if accuracies:
            found.append((share, accuracies))
    if found:
        axes.violinplot(
            [values for _, values in found], positions=[share for share, _ in found], widths=0.03, showmedians=True
        )
    axes.set_ylabel("held-out accuracy of probes, all heads and seeds")


def panels_of(count: int) -> list[Any]:
    """So many axes, two a row."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    columns = min(count, 2)
    rows = -(-count // columns)
    _, axes = plt.subplots(rows, columns, figsize=(5.2 * columns, 4.0 * rows), layout="constrained", squeeze=False)
    for unused in axes.flat[count:]:
        unused.set_visible(False)
    return list(axes.flat[:count])


def finish(panels: Sequence[Any], path: Path) -> None:
    """Grids, no upper and right edge, and the file."""
    for axes in panels:
        axes.grid(visible=True, alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    save_figure(panels[0].figure, path)


def _bar(one: Point) -> float | None:
    return None if math.isnan(one.standard_error) else one.standard_error


def _line(
    axes: Any, points: Sequence[tuple[float, Point]], label: str, colour: str, *, marker: str = "o", alpha: float = 1.0
) -> None:
    xs, ys = [x for x, _ in points], [found.mean for _, found in points]
    errors = [0.0 if math.isnan(found.standard_error) else found.standard_error for _, found in points]
    axes.errorbar(
        xs,
        ys,
        yerr=errors,
        marker=marker,
        markersize=4,
        linewidth=1.2,
        capsize=2,
        color=colour,
        label=label,
        alpha=alpha,
    )


def _level(axes: Any, one: Point, label: str) -> None:
    axes.axhline(one.mean, color=_ARM_COLOURS["clean"], linestyle="--", linewidth=1, label=label)
    if not math.isnan(one.standard_error):
        axes.axhspan(
            one.mean - one.standard_error, one.mean + one.standard_error, color=_ARM_COLOURS["clean"], alpha=0.12
        )
