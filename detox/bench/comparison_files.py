"""What a comparison leaves beside its records: the table, controls, pictures, curves and claims."""

from __future__ import annotations

from pathlib import Path

from detox.bench.claims import table
from detox.bench.comparison import Comparison
from detox.bench.curve_kinds import KINDS
from detox.bench.curves import read_curves, summary
from detox.bench.equal_cost import against_controls
from detox.bench.equal_cost import markdown as controls_table
from detox.bench.interaction import interactions
from detox.bench.interaction_text import markdown, write
from detox.bench.plots import COLOURS
from detox.files import write_json, write_text


def write_comparison(comparison: Comparison, output: Path, *, stem: str = "", plot: bool) -> list[str]:
    """Write `comparison.csv`, `controls.md` where there are any and, where asked, `pareto.png`; `stem` after each name.

    Returns:
        The names of the files.
    """
    comparison.to_csv(output / f"comparison{stem}.csv")
    written = [f"comparison{stem}.csv"]
    if comparison.control_rows:
        write_text(output / f"controls{stem}.md", f"{controls_table(against_controls(comparison))}\n")
        written.append(f"controls{stem}.md")
    costs = ("clean/cross_entropy" in row.scorecard.metrics for row in comparison.rows if row.toxicity is not None)
    few = len({row.base for row in comparison.rows}) <= len(COLOURS)
    if plot and few and any(costs):  # more bases than colours, as with curves, make no picture that can be read
        comparison.plot(output / f"pareto{stem}.png")
        written.append(f"pareto{stem}.png")
    return written


def draw_curves(
    results: Path,
    kind: str,
    *,
    protocol: str | None = None,
    scorer: str | None = None,
    reference: str | None = None,
    price: float = 0.05,
) -> str:
    """Write `curves.png`, `claims.json`, `curves.md` and, with arms and a method, `interaction.md` and `.json`; `-SCORER` for one by name.

    Returns:
        The interaction, the kinds of base and the claims as tables.
    """
    curves = read_curves(results, protocol=protocol, scorer=scorer)
    stem = f"-{scorer}" if scorer else ""
    claims_of, draw = KINDS[kind]
    draw(curves, results / f"curves{stem}.png")
    claims = claims_of(curves)
    write_json(results / f"claims{stem}.json", [claim.to_dict() for claim in claims])
    text = f"{summary(curves)}\n\n{table(claims)}"
    write_text(results / f"curves{stem}.md", f"{text}\n")
    found = interactions(curves.comparison, curves.factors, reference=reference, price=price)
    if found is None:
        return text
    write(found, results, stem=stem)
    return f"{markdown(found)}\n\n{text}"
