"""The question of pretraining as a picture: the difference of differences of every method on every arm."""

from __future__ import annotations

from pathlib import Path

from detox.bench.interaction import Interactions
from detox.bench.plots import COLOURS, save_figure


def draw(found: Interactions, path: Path) -> None:
    """One line a method and arm: the interval over prompts, and a dot a fit. Hollow where no verdict is given."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 1.2 + 0.28 * len(found.rows)), layout="constrained")
    arms = list(dict.fromkeys(row.arm for row in found.rows))
    for place, row in enumerate(found.rows):
        colour, value = COLOURS[arms.index(row.arm) % len(COLOURS)], row.interaction.over_prompts
        face = colour if row.unsaid is None else "white"
        axes.plot(
            [value.low, value.high], [place, place], color=colour, linewidth=1.5, alpha=1 if row.unsaid is None else 0.5
        )
        axes.plot(value.value, place, marker="o", color=colour, markerfacecolor=face, markersize=6)
        if row.fits > 1:
            axes.plot(row.interaction.by_seed, [place + 0.28] * row.fits, ".", color=colour, markersize=4, alpha=0.6)
        axes.annotate(row.verdict, (1.01, place), xycoords=("axes fraction", "data"), fontsize=7, va="center")
    axes.axvline(0, color="grey", linewidth=0.8)
    axes.set_yticks(range(len(found.rows)), [f"{row.method}: {row.arm}" for row in found.rows], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel(
        f"toxicity ({found.headline}) taken away on the arm minus on {found.rows[0].reference}, at the same cross-entropy\n"
        "below zero: more on the arm; line: 95 % over prompts, small dots: fits",
        fontsize=8,
    )
    axes.grid(visible=True, axis="x", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path)
