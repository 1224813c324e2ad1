"""Pictures of probes. Each is written as PNG and as SVG; colours can be told apart with colour-blindness."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detox.files import write_bytes
from detox.probing.comparison import Sides
from detox.probing.measurement import SITES, BaseProbes
from detox.probing.tails import tail_threshold

# Okabe and Ito's colours.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
FORMATS = ("png", "svg")
_TITLES = {
    "means": "differences of means",
    "joint": "other features held",
    "whitened": "differences of means, whitened",
}


def draw_figures(sides: Sides, directory: str | os.PathLike[str]) -> dict[str, Path]:
    """Draw everything there is to draw; name -> the SVG, beside which lies the PNG.

    Args:
        sides: label -> measurements of one base, or of several seeds of one way of training.
        directory: where the files go.

    Raises:
        OutputError: the place cannot be written.
    """
    folder = Path(directory)
    pictures = {
        "heads": _heat_maps(sides),
        "layers": _layers(sides),
        "distribution": _distribution(sides),
        "entanglement": _entanglement(sides),
        "covariates": _covariates(sides),
    }
    return {name: save_figure(figure, folder / name) for name, figure in pictures.items() if figure is not None}


def save_figure(figure: Any, path: Path) -> Path:
    """Write a figure as PNG and SVG, each whole or not at all, and close it; gives the path of the SVG."""
    import matplotlib
    import matplotlib.pyplot as plt

    for kind in FORMATS:
        buffer = io.BytesIO()
        # Without date and random ids: the same figure is the same file.
        with matplotlib.rc_context({"svg.hashsalt": "detox"}):
            figure.savefig(buffer, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
        write_bytes(path.with_name(f"{path.name}.{kind}"), buffer.getvalue())
    plt.close(figure)
    return path.with_name(f"{path.name}.svg")


def figure_grid(rows: int, columns: int, *, width: float = 4.2, height: float = 3.4, **options: Any) -> tuple[Any, Any]:
    """A figure and its (rows, columns) axes; sizes are inches of a panel."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    size = (width * columns, height * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False, **options)
    return figure, axes


def plain_axes(axes: Any) -> None:
    """A faint grid, and no box around."""
    axes.grid(visible=True, alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def label_text(label: str) -> str:
    """A label as matplotlib shows it: no mathematics, no line breaks, not too long."""
    line = "".join(character if character.isprintable() else " " for character in label)
    return (line if len(line) <= 40 else f"{line[:39]}…").replace("$", r"\$")


def _heat_maps(sides: Sides) -> Any:
    # A row a way of training and a column a seed; without seeds, side by side.
    rows = [[(label, base) for base in side] for label, side in sides.items()]
    if all(len(row) == 1 for row in rows):
        everyone = [row[0] for row in rows]
        rows = [everyone[start : start + 4] for start in range(0, len(everyone), 4)]
    shapes = [base.heads.accuracy.shape for row in rows for _, base in row]
    layers, heads = (max(shape[axis] for shape in shapes) for axis in (0, 1))
    panel = (min(6.5, max(2.6, 1.2 + 0.3 * heads)), min(6.0, max(2.4, 0.9 + 0.28 * layers)))
    figure, grid = figure_grid(len(rows), max(map(len, rows)), width=panel[0], height=panel[1])
    top = max(float(base.heads.accuracy.max()) for row in rows for _, base in row)
    image = None
    for panels, row in zip(grid, rows, strict=True):
        for axes in panels[len(row) :]:
            axes.set_visible(False)
        for axes, (label, base) in zip(panels, row, strict=False):
            image = _heat_map(axes, base, top)
            side = sides[label]
            number = [one is base for one in side].index(True)
            seed = f", {number + 1} of {len(side)}" if len(side) > 1 else ""
            axes.set_title(label_text(label) + seed, fontsize=9)
        panels[0].set_ylabel("layer")
    figure.colorbar(image, ax=grid, label="held-out accuracy", shrink=0.8)
    figure.supxlabel("head\nthick square: the best; thin: the best tenth\n×: not better than chance", fontsize=8)
    return figure


def _heat_map(axes: Any, base: BaseProbes, top: float) -> Any:
    accuracy = base.heads.accuracy
    layers, heads = accuracy.shape
    image = axes.imshow(accuracy, vmin=0.5, vmax=max(top, 0.51), cmap="viridis", aspect="auto", origin="lower")
    best = np.argsort(-accuracy, axis=None, kind="stable")[: math.ceil(accuracy.size / 10)]
    for rank, place in enumerate(best):
        layer, head = divmod(int(place), heads)
        axes.add_patch(_square(head, layer, width=2.4 if rank == 0 else 1.1))
    for layer, head in np.argwhere(base.heads.p > 0.05):
        axes.text(head, layer, "×", ha="center", va="center", color="white", fontsize=8)
    axes.set_xticks(range(0, heads, max(1, heads // 8)))
    axes.set_yticks(range(0, layers, max(1, layers // 8)))
    return image


def _square(x: int, y: int, *, width: float) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((x - 0.46, y - 0.46), 0.92, 0.92, fill=False, edgecolor="#D55E00", linewidth=width)


def _layers(sides: Sides) -> Any:
    figure, grid = figure_grid(1, 1, width=6.4, height=4)
    axes = grid[0, 0]
    for number, (label, side) in enumerate(sides.items()):
        colour = COLOURS[number % len(COLOURS)]
        shift = (number - (len(sides) - 1) / 2) * 0.06
        for base in side:
            site, x = base.layers, np.arange(len(base.layers.accuracy)) + shift
            reach = np.abs(np.stack([site.low[:, 0], site.high[:, 0]]) - site.accuracy[:, 0])
            axes.errorbar(
                x, site.accuracy[:, 0], yerr=reach, color=colour, marker="o", markersize=3.5, linewidth=1,
                elinewidth=0.7, capsize=2, alpha=0.9, label=label_text(label) if base is side[0] else None,
            )  # fmt: skip
    chance = max(base.layers.chance for side in sides.values() for base in side)
    axes.axhline(chance, color="grey", linestyle="--", linewidth=1, label="95 % of the best by chance")
    axes.set_xlabel("layers that the residual stream has passed (0: embeddings)")
    axes.set_ylabel("accuracy on held-out texts (95 % interval)")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(fontsize=8, frameon=False)
    plain_axes(axes)
    return figure


def _distribution(sides: Sides) -> Any:
    figure, grid = figure_grid(1, 2, width=4.6, height=3.8)
    threshold = tail_threshold(*(np.stack([b.heads.accuracy for b in side]) for side in sides.values()))
    for number, (label, side) in enumerate(sides.items()):
        colour = COLOURS[number % len(COLOURS)]
        rng = np.random.default_rng(number)
        for place, base in enumerate(side):
            values = np.sort(base.heads.accuracy.ravel())
            across = number + (place - (len(side) - 1) / 2) * 0.16 + rng.uniform(-0.04, 0.04, len(values))
            grid[0, 0].plot(values, across, "o", color=colour, markersize=4, alpha=0.5, markeredgewidth=0)
            grid[0, 0].plot([values.mean()] * 2, across.mean() + np.array([-0.09, 0.09]), color="black", linewidth=1.6)
        pooled = np.sort(np.concatenate([base.heads.accuracy.ravel() for base in side]))
        share = 1 - np.arange(len(pooled)) / len(pooled)
        grid[0, 1].step(pooled, share, where="pre", color=colour, linewidth=1.4, label=label_text(label))
    grid[0, 0].set_yticks(range(len(sides)), [label_text(label) for label in sides])
    grid[0, 0].invert_yaxis()
    grid[0, 0].set_title("each head, and the mean of each base", fontsize=9)
    grid[0, 1].set_title("share of heads at least as accurate", fontsize=9)
    grid[0, 1].legend(fontsize=8, frameon=False)
    chance = max(base.heads.chance for side in sides.values() for base in side)
    for axes in grid[0]:
        axes.axvline(chance, color="grey", linestyle="--", linewidth=1)
        axes.axvline(threshold, color="black", linestyle=":", linewidth=1)
        axes.set_xlabel("accuracy (dashed: best by chance; dotted: tail)", fontsize=8)
        plain_axes(axes)
    return figure


def _entanglement(sides: Sides) -> Any:
    first = next(iter(sides.values()))[0]
    panels = [(kind, key) for kind in SITES for key in getattr(first, kind).entanglement]
    if not panels:
        return None
    columns = max(sum(kind == k for k, _ in panels) for kind in SITES)
    figure, grid = figure_grid(len(SITES), columns, width=3.6, height=3, sharey=True)
    for row, kind in zip(grid, SITES, strict=True):
        keys = [key for k, key in panels if k == kind]
        for axes in row[len(keys) :]:
            axes.set_visible(False)
        for axes, key in zip(row, keys, strict=False):
            _entanglement_panel(axes, sides, kind, key)
            axes.set_title(f"{kind}: {_TITLES[key]}", fontsize=8)
        row[0].set_ylabel("largest |cosine| of toxicity", fontsize=8)
    grid[0, 0].legend(fontsize=7, frameon=False)
    for axes in grid[-1]:
        axes.set_xlabel("layer (layers: how many were passed)", fontsize=8)
    return figure


def _entanglement_panel(axes: Any, sides: Sides, kind: str, key: str) -> None:
    bound: Mapping[str, float] = {}
    for number, (label, side) in enumerate(sides.items()):
        colour = COLOURS[number % len(COLOURS)]
        known = [base for base in side if key in getattr(base, kind).entanglement]
        shift = (number - (len(sides) - 1) / 2) * 0.16
        for base in known:
            site = getattr(base, kind)
            layers, heads = site.accuracy.shape
            one = site.entanglement[key]
            x = np.repeat(np.arange(layers), heads) + shift
            first = label_text(label) if base is known[0] else None
            axes.plot(
                x, one.largest[:, 0], "o", color=colour, markersize=3.5, alpha=0.6, markeredgewidth=0, label=first
            )
            chance = one.shuffled.reshape(layers, heads).mean(1)
            axes.plot(np.arange(layers) + shift, chance, "_", color=colour, markersize=9, markeredgewidth=1.2)
            bound = {"random directions": one.random, "Welch's bound": one.welch}
    for (name, value), line in zip(bound.items(), ("--", ":"), strict=False):
        if value > 0:
            axes.axhline(value, color="grey", linestyle=line, linewidth=1, label=name)
    axes.plot([], [], "_", color="black", markersize=9, label="labels shuffled")
    axes.set_ylim(0, 1.03)
    axes.xaxis.get_major_locator().set_params(integer=True)
    plain_axes(axes)


def _covariates(sides: Sides) -> Any:
    first = next(iter(sides.values()))[0]
    figure, grid = figure_grid(1, 2, width=4.8, height=max(3.0, 0.34 * (len(first.heads.best_auc) + 3)))
    layer_keys = list(first.heads.explained)
    for number, (label, side) in enumerate(sides.items()):
        colour = COLOURS[number % len(COLOURS)]
        for place, base in enumerate(side):
            shift = (number - (len(sides) - 1) / 2) * 0.16 + (place - (len(side) - 1) / 2) * 0.04
            name = label_text(label) if place == 0 else None
            layer, head = base.heads.best
            rows = [base.heads.explained[key][:, layer, head] for key in layer_keys]
            _intervals(grid[0, 0], [(r[0], r[1], r[2]) for r in rows], shift, colour, name)
            areas = [(e.value, e.low, e.high) for e in base.heads.best_auc.values()]
            _intervals(grid[0, 1], areas, shift, colour, name)
    grid[0, 0].set_yticks(range(len(layer_keys)), layer_keys)
    grid[0, 0].set_title("share of the best head's direction explained ($R^2$)", fontsize=9)
    grid[0, 0].axvline(0, color="grey", linewidth=0.8)
    grid[0, 1].set_yticks(range(len(first.heads.best_auc)), list(first.heads.best_auc))
    grid[0, 1].set_title("ROC-AUC of the best head's probe", fontsize=9)
    grid[0, 1].axvline(0.5, color="grey", linewidth=0.8)
    for axes in grid[0]:
        axes.invert_yaxis()
        plain_axes(axes)
    grid[0, 0].legend(fontsize=8, frameon=False)
    return figure


def _intervals(
    axes: Any, rows: Sequence[tuple[float, float, float]], shift: float, colour: str, label: str | None
) -> None:
    value, low, high = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    reach = np.abs(np.stack([low, high]) - value)
    axes.errorbar(
        value, np.arange(len(rows)) + shift, xerr=reach, fmt="o", color=colour, markersize=3.5, elinewidth=0.9,
        capsize=2, label=label,
    )  # fmt: skip
