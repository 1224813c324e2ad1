"""`detox bench run` and `detox bench show`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any


def add_to(commands: Any) -> None:
    """Add the commands of this file."""
    group = commands.add_parser("bench", help="run a grid of bases x detoxifiers, compare the cells")
    inner = group.add_subparsers(metavar="COMMAND", required=True)
    run = inner.add_parser("run", help="compute every cell of a grid that is not there yet, then compare")
    add_run_arguments(run)
    run.set_defaults(run=run_command)
    show = inner.add_parser("show", help="compare the cells of a results directory; computes nothing")
    show.add_argument("results", help="results directory of an earlier run")
    show.add_argument("--protocol", help="which protocol, where there are several")
    show.set_defaults(run=show_command)


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `detox bench run`, which `benchmarks/run.py` shares."""
    parser.add_argument("grid", help="YAML file; see benchmarks/grids/")
    parser.add_argument("--output_dir", help="results directory (default: benchmarks/results/NAME_OF_THE_GRID_FILE)")
    parser.add_argument("--drop_texts", action="store_true", help="do not keep what the models wrote")


def run_command(arguments: argparse.Namespace) -> int:
    """Run a grid, write its comparison."""
    print(f"detox bench run {arguments.grid}", flush=True)
    from detox.bench import read_grid
    from detox.bench.scorers import scorer_maker
    from detox.files import require_writable

    output = Path(arguments.output_dir or Path("benchmarks") / "results" / Path(arguments.grid).stem)
    require_writable(output)
    grid = read_grid(arguments.grid, make_scorer=scorer_maker(output))
    return run_and_compare(grid, output, keep_texts=not arguments.drop_texts)


def run_and_compare(grid: Any, output: Path, *, keep_texts: bool = True) -> int:
    """Run a grid that has been read; print the table, write `comparison.csv` and `pareto.png` of each protocol."""
    from transformers.utils import logging

    from detox.bench import compare, run_grid
    from detox.bench.plots import learning_curves
    from detox.bench.runner import describe_holes, exit_code

    logging.disable_progress_bar()  # "Loading weights" once a cell says nothing
    outcome = run_grid(grid, output, say=say, keep_texts=keep_texts)
    say(f"{outcome.computed} cells computed, {outcome.reused} were there, {len(outcome.holes)} failed")
    measured = {cell.protocol for cell in outcome.cells if cell.folder not in outcome.holes}
    if measured:
        written = []
        for name in (name for name in grid.protocols if name in measured):
            stem = "" if len(grid.protocols) == 1 else f"-{name}"
            comparison = compare(output, protocol=name)
            print(f"\n{comparison}\n")
            comparison.to_csv(output / f"comparison{stem}.csv")
            written.append(f"comparison{stem}.csv")
            has_cost = (
                "clean/cross_entropy" in row.scorecard.metrics for row in comparison.rows if row.toxicity is not None
            )
            if any(has_cost):
                comparison.plot(output / f"pareto{stem}.png")
                written.append(f"pareto{stem}.png")
        if learning_curves(output, output / "learning-curves.png", bases=[base.name for base in grid.bases]):
            written.append("learning-curves.png")
        print(f"records and comparisons are in {output}: {', '.join(written)}")
    for line in describe_holes(outcome):
        print(f"error: {line}", file=sys.stderr)
    return exit_code(outcome)


def show_command(arguments: argparse.Namespace) -> int:
    """Print the comparison of a results directory."""
    from detox.bench import compare

    print(compare(arguments.results, protocol=arguments.protocol))
    return 0


def say(line: str) -> None:
    """Progress goes to stderr, so that the table can be piped."""
    print(line, file=sys.stderr, flush=True)
