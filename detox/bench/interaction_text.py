"""Differences of differences as text, Markdown and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from detox.bench.comparison_text import show
from detox.bench.interaction import InteractionRow, Interactions
from detox.bench.interaction_plot import draw
from detox.evaluation.scorecard import jsonable
from detox.files import write_json, write_text

_HEADER = (
    "method", "arm", "against", "at nats", "arm: from, to", "reference: from, to", "difference of differences", "each fit",
    "t over fits", "part taken, difference", "p (Holm)", "works",
)  # fmt: skip


def table(found: Interactions) -> str:
    """For a terminal."""
    lines = [list(_HEADER), *(_line(row) for row in found.rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(_HEADER))]
    text = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([_title(found), text[0], "-" * len(text[0]), *text[1:], *_notes(found)])


def markdown(found: Interactions) -> str:
    """For documents."""
    lines = [list(_HEADER), ["---"] * len(_HEADER), *(_line(row) for row in found.rows)]
    notes = [f"\n{note}" for note in _notes(found)]
    return "\n".join([f"{_title(found)}\n", *(f"| {' | '.join(line)} |" for line in lines), *notes])


def to_dict(found: Interactions) -> dict[str, Any]:
    """As JSON; NaN is null."""
    rows = [{**asdict(row), "verdict": row.verdict} for row in found.rows]
    values: dict[str, Any] = jsonable({**asdict(found), "rows": rows})
    return values


def write(found: Interactions, results: Path, *, stem: str = "") -> list[str]:
    """Write `interaction.md`, `.json` and `.png`, with `stem` after the name; returns the names."""
    write_text(results / f"interaction{stem}.md", f"{markdown(found)}\n")
    write_json(results / f"interaction{stem}.json", to_dict(found))
    draw(found, results / f"interaction{stem}.png")
    return [f"interaction{stem}{suffix}" for suffix in (".md", ".json", ".png")]


def _title(found: Interactions) -> str:
    return (
        f"Does pretraining make a method work better? Toxicity ({found.headline}) that it takes away on the arm minus on the "
        f"reference, read at the same cross-entropy (+{found.price:g} nats, or less where a path costs less); below zero: more on the arm"
    )


def _notes(found: Interactions) -> list[str]:
    single = any(row.fits == 1 for row in found.rows)
    return [
        *(f"({line})" for line in found.left_out),
        *(["1 fit: what another seed of the pretraining would give is not known."] if single else []),
    ]


def _line(row: InteractionRow) -> list[str]:
    interaction = row.interaction
    between = interaction.over_fits
    return [
        row.method,
        row.arm,
        row.reference,
        f"{'+' if row.matched else 'at most +'}{row.price:.3f}",
        _path(row.arm_toxicity),
        _path(row.reference_toxicity),
        show(interaction.over_prompts, signed=True),
        _signed(interaction.by_seed),
        "1 fit" if row.fits == 1 else f"[{between.low:+.3f}, {between.high:+.3f}]",
        show(row.taken, signed=True) or "-",
        f"{row.p_holm:.3g}" if row.p_holm == row.p_holm else "-",
        row.verdict,
    ]


def _path(values: tuple[float, float]) -> str:
    return f"{values[0]:.3f}, {values[1]:.3f}"


def _signed(values: Sequence[float]) -> str:
    return " ".join(f"{value:+.3f}" for value in values)
