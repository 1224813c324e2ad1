"""Pictures of a comparison."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detox.files import write_bytes

if TYPE_CHECKING:
    from detox.bench.comparison import Comparison, Row

_CE = "clean/cross_entropy"
_MOST_CURVES = 8  # more than that, nobody can tell apart
# Okabe and Ito's colours, which people with colour-blindness can tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("s", "^", "D", "v", "P", "X")


def pareto(comparison: Comparison, path: Path) -> None:
    """Toxicity (mean, with its 95 % interval) against clean cross-entropy: one colour a base, a path a method through its strengths.

    Down and to the left is better: less toxic, and still a good language model.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.lines import Line2D

    measured = [row for row in comparison.rows if row.toxicity is not None and _CE in row.scorecard.metrics]
    rows = [row for row in measured if math.isfinite(row.scorecard.metrics[_CE].value)]
    beyond = [f"{row.base}, {row.method_label}" for row in measured if math.isinf(row.scorecard.metrics[_CE].value)]
    figure, axes = plt.subplots(figsize=(8, 5.2), layout="constrained")
    bases = list(dict.fromkeys(row.base for row in rows))
    methods = list(dict.fromkeys(row.method for row in rows if row.method is not None))
    for index, base in enumerate(bases):
        colour = COLOURS[index % len(COLOURS)]
        mine = [row for row in rows if row.base == base]
        start = [row for row in mine if row.method is None]
        for row in start:
            _point(axes, row, "o", colour, size=9)
        for number, method in enumerate(methods):
            path_rows = sorted((r for r in mine if r.method == method), key=lambda r: r.strength or 0.0)
            points = [_at(row) for row in [*start[:1], *path_rows]]
            if not points:
                continue
            axes.plot(
                *zip(*points, strict=True),
                color=colour,
                linewidth=1,
                alpha=0.7,
                linestyle="-" if number == 0 else (0, (4, 2)),
            )
            for row in path_rows:
                _point(axes, row, _MARKERS[number % len(_MARKERS)], colour, size=6)
                if len(path_rows) > 1 and row.strength is not None:
                    axes.annotate(
                        f"{row.strength:g}",
                        _at(row),
                        textcoords="offset points",
                        xytext=(5, 4),
                        fontsize=7,
                        color=colour,
                    )
    bare = Line2D([], [], marker="o", color="grey", linestyle="", label="base")
    shapes = [
        Line2D([], [], marker=_MARKERS[i % len(_MARKERS)], color="grey", linestyle="", label=m)
        for i, m in enumerate(methods)
    ]
    colours = [Line2D([], [], color=COLOURS[i % len(COLOURS)], linewidth=3, label=b) for i, b in enumerate(bases)]
    axes.legend(handles=[*colours, bare, *shapes], fontsize=8, frameon=False)
    axes.set_xlabel("cross-entropy on held-out clean text (nats per token): lower is a better language model")
    if beyond:
        axes.set_title(f"of infinite cross-entropy, so not here: {'; '.join(beyond)}", fontsize=7, wrap=True)
    axes.set_ylabel(
        f"toxicity of continuations ({comparison.independence.named(comparison.headline)}, mean, 95 % interval)"
    )
    axes.set_ylim(bottom=0)
    axes.grid(visible=True, alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path)


def learning_curves(store: Path, path: Path, *, bases: Sequence[str] = ()) -> bool:
    """How the bases that were pretrained in a results directory learned: loss while training, cross-entropy on held-out text.

    Args:
        store: the results directory.
        path: of the picture.
        bases: names in the order of the comparison, so that colours agree with its picture; others come after them.

    Returns:
        Whether there was anything to draw, and not too much.
    """
    cards: dict[str, dict[str, Any]] = {}
    for file in sorted(store.glob("bases/*/base.json"), key=lambda file: file.stat().st_mtime):
        if (file.parent / "pretraining.json").is_file():  # an instructed base has another card
            cards[json.loads(file.read_text())["name"]] = json.loads((file.parent / "pretraining.json").read_text())
    if not 0 < len(cards) <= _MOST_CURVES:
        return False
    cards = {base: cards[base] for base in [*(name for name in bases if name in cards), *cards]}
    figure, axes = _panels(1 + len({name for card in cards.values() for name in card["held_out"]}))
    for index, (base, card) in enumerate(cards.items()):
        colour = COLOURS[index % len(COLOURS)]
        curve, per_step = card["curve"], card["recipe"]["batch_size"] * card["recipe"]["sequence_length"] / 1e6
        training = [(point["step"] * per_step, point["likelihood"]) for point in curve["training"]]
        axes[0].plot(*zip(*training, strict=True), color=colour, linewidth=1, label=base)
        axes[0].set_title("training text (tokens that are rewarded)", fontsize=9)
        for panel, name in zip(axes[1:], card["held_out"], strict=False):
            for part, line in (("safe", "-"), ("risky", "--")):
                points = [(p["step"] * per_step, p[name][part]) for p in curve["held_out"] if part in p[name]]
                if points:
                    panel.plot(
                        *zip(*points, strict=True), line, color=colour, linewidth=1.2, marker="o", markersize=2.5
                    )
            panel.set_title(f"held-out {name} text (dashed: its risky tokens)", fontsize=9)
    for panel in axes:
        panel.set_xlabel("million tokens read")
        panel.grid(visible=True, alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("cross-entropy (nats per token)")
    axes[0].legend(fontsize=8, frameon=False)
    save_figure(figure, path)
    return True


def _panels(count: int) -> tuple[Any, Any]:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, count, figsize=(4.2 * count, 3.6), layout="constrained", sharey=True, squeeze=False)
    return figure, axes[0]


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure and close it; the file appears whole."""
    import io

    import matplotlib.pyplot as plt

    buffer = io.BytesIO()
    figure.savefig(buffer, format=path.suffix.lstrip(".") or "png", dpi=150)
    plt.close(figure)
    write_bytes(path, buffer.getvalue())


def _at(row: Row) -> tuple[float, float]:
    assert row.toxicity is not None
    return row.scorecard.metrics[_CE].value, row.toxicity.value


def _point(axes, row: Row, marker: str, colour: str, *, size: int) -> None:  # type: ignore[no-untyped-def]
    assert row.toxicity is not None
    x, y = _at(row)
    low, high = max(0.0, y - row.toxicity.low), max(0.0, row.toxicity.high - y)
    axes.errorbar([x], [y], yerr=[[low], [high]], marker=marker, markersize=size, color=colour, elinewidth=1, capsize=2)
