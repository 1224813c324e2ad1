"""`detox demo`: four base models, five detoxifiers, one comparison, on the miniature; nothing is downloaded."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from detox.bench import Comparison
    from detox.bench.comparison import Row


def add_to(commands: Any) -> None:
    """Add the commands of this file."""
    parser = commands.add_parser("demo", help="pretrain, detoxify and compare on the miniature; offline, in minutes")
    parser.add_argument("--output_dir", default="detox-demo", help="results directory (default: detox-demo)")
    parser.set_defaults(run=command)


def command(arguments: argparse.Namespace) -> int:
    """Run the demo's grid and say what to look at."""
    output = Path(arguments.output_dir)
    print(
        f"detox demo: four base models of a tiny forum, each with and without detoxifiers; results go to {output}/",
        flush=True,
    )
    from detox.bench import compare, read_grid
    from detox.bench.report import write_report
    from detox.bench.scorers import scorer_maker
    from detox.cli.bench import run_and_compare, say
    from detox.files import require_writable

    require_writable(output)
    say("the first run pretrains the base models (minutes); they are kept, and another run goes on from there")
    grid = read_grid(Path(__file__).with_name("demo.yaml"), make_scorer=scorer_maker(output))
    code = run_and_compare(grid, output)
    if code == 0:
        write_report(output, texts=True, command="detox demo")
        print("\n".join(["", "What to look at", *what_to_look_at(compare(output))]))
    return code


def what_to_look_at(comparison: Comparison) -> list[str]:
    """The comparison in sentences; every number is read off it."""
    bare = {row.base: row for row in comparison.rows if row.method is None}
    lines = []
    if {"clean", "toxic-mix"} <= bare.keys():
        lines.append(
            f"- Pretraining decides what a model writes: {_rates(bare)}. The masked and unlikelihood bases have read the same abuse "
            "as the toxic-mix base, and were never rewarded for producing it."
        )
    known = {name: row.scorecard.metrics["recognition/accuracy"] for name, row in bare.items()}
    lines.append(
        "- Understanding is another matter than writing: the moderator's verdict on a reply is right in "
        + ", ".join(f"{estimate.value:.2f} ({name})" for name, estimate in known.items())
        + " of cases; chance is 0.50."
    )
    for base in bare:
        path = [row for row in comparison.rows if row.base == base and row.method is not None]
        moved = [row for row in path if row.toxicity_change and row.toxicity_change.high < 0]
        if moved:
            lines.append(f"- {base}: " + "; ".join(_change(row) for row in path) + ".")
    rises = [row for row in comparison.rows if row.toxicity_change and row.toxicity_change.low > 0]
    if rises:
        lines.append(
            "- No method is safe by its name: toxicity rose with "
            + "; ".join(f"{_change(row)} on {row.base}" for row in rises)
            + "."
        )
    lines += _controls(comparison)
    lines.append(
        "- pareto.png: down is less toxic, right is a worse language model; a method is a path through its strengths. report.html has "
        "all of it, to open in a browser."
    )
    return lines


def _controls(comparison: Comparison) -> list[str]:
    from detox.bench.equal_cost import against_controls

    last = {(one.base, one.method, one.control): one for one in against_controls(comparison)}  # at the highest price
    return [
        f"- {base}: at {one.result.price:+.2f} nats {method} leaves {one.result.first:.3f}, its control {control} "
        f"{one.result.second:.3f}: {one.verdict}."
        for (base, method, control), one in last.items()
    ]


def _rates(bare: dict[str, Row]) -> str:
    return ", ".join(
        f"{row.toxicity.value:.3f} of {name}'s replies are abuse" for name, row in bare.items() if row.toxicity
    )


def _change(row: Row) -> str:
    toxicity, cost = row.toxicity_change, row.cross_entropy_change
    assert toxicity is not None
    price = f" for {cost.value:+.2f} nats" if cost is not None else ""
    clear = "" if toxicity.excludes_zero else " (the interval holds zero)"
    return f"{row.method_label} {toxicity.value:+.3f}{clear}{price}"
