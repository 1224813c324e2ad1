"""`detox bench run` and `detox bench show`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any


def add_to(commands: Any) -> None:
    """Add the commands of this file."""
    group = commands.add_parser("bench", help="run a grid of bases x detoxifiers, compare the cells")
    inner = group.add_subparsers(metavar="COMMAND", required=True)
    run = inner.add_parser("run", help="compute every cell of a grid that is not there yet, then compare")
    add_run_arguments(run)
    run.set_defaults(run=run_command)
    planned = inner.add_parser("plan", help="cells, tokens and the difference that can be found; computes nothing")
    planned.add_argument("grid", help="YAML file; see benchmarks/grids/")
    planned.add_argument("--output_dir", help="results directory (default: benchmarks/results/NAME_OF_THE_GRID_FILE)")
    planned.set_defaults(run=plan_command)
    show = inner.add_parser("show", help="compare the cells of a results directory; computes nothing")
    show.add_argument("results", help="results directory of an earlier run")
    show.add_argument("--protocol", help="which protocol, where there are several")
    show.add_argument(
        "--scorer", help="which of the protocol's scorers is the headline (default: its first that is independent)"
    )
    show.add_argument(
        "--save",
        action="store_true",
        help="write comparison[-SCORER].csv, pareto[-SCORER].png, interaction[-SCORER].md, .json and .png, controls[-SCORER].md, too",
    )
    _add_question(show)
    show.set_defaults(run=show_command)
    curves = inner.add_parser("curves", help="the papers' curves and claims, of a grid over arms, shares and seeds")
    curves.add_argument("results", help="results directory of an earlier run")
    curves.add_argument("--protocol", help="which protocol, where there are several")
    curves.add_argument(
        "--scorer",
        help="read by this scorer of the protocol, and write curves-SCORER.md and the like (default: the headline)",
    )
    _add_question(curves)
    curves.set_defaults(run=curves_command)


def _add_question(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--reference", help="arm of pretraining that the others are held against (default: clean, or full)"
    )
    parser.add_argument(
        "--price", type=float, default=0.05, help="nats of clean cross-entropy at which arms are read (default: 0.05)"
    )


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `detox bench run`, which `benchmarks/run.py` shares."""
    parser.add_argument("grid", help="YAML file; see benchmarks/grids/")
    parser.add_argument("--output_dir", help="results directory (default: benchmarks/results/NAME_OF_THE_GRID_FILE)")
    parser.add_argument(
        "--drop_texts",
        action="store_true",
        help="do not keep what the models wrote, in records or between stages: a scorer that is added later generates again",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=1,
        help="processes, one thread each, that share the bases (default: 1, all threads)",
    )
    parser.add_argument("--bases", nargs="+", help="only these bases; the rest of the grid has no record")
    parser.add_argument("--as_worker", action="store_true", help=argparse.SUPPRESS)


def plan_command(arguments: argparse.Namespace) -> int:
    """Print what a grid will cost and what it will be able to see."""
    from detox.bench import read_grid
    from detox.bench.plan import plan
    from detox.bench.scorers import scorer_maker

    output = Path(arguments.output_dir or Path("benchmarks") / "results" / Path(arguments.grid).stem)
    grid = read_grid(arguments.grid, make_scorer=scorer_maker(output, train=False))
    print(plan(grid, output))
    return 0


def run_command(arguments: argparse.Namespace) -> int:
    """Run a grid, write its comparison."""
    print(f"detox bench run {arguments.grid}", flush=True)
    from detox.bench import read_grid
    from detox.bench.scorers import scorer_maker
    from detox.errors import InputError
    from detox.files import require_writable

    if arguments.workers < 1:
        raise InputError(f"workers is {arguments.workers}; expected at least 1")
    output = Path(arguments.output_dir or Path("benchmarks") / "results" / Path(arguments.grid).stem)
    require_writable(output)
    grid = read_grid(arguments.grid, make_scorer=scorer_maker(output))
    if arguments.bases:
        grid = only(grid, arguments.bases)
    if arguments.as_worker:
        return work(grid, output, keep_texts=not arguments.drop_texts)
    before = None
    if arguments.workers > 1:
        from detox.bench.workers import run_workers

        def before() -> None:
            run_workers(
                arguments.grid,
                output,
                grid.bases,
                workers=arguments.workers,
                keep_texts=not arguments.drop_texts,
                say=say,
            )

    return run_and_compare(grid, output, keep_texts=not arguments.drop_texts, before=before)


def only(grid: Any, names: Sequence[str]) -> Any:
    """The grid with these bases alone.

    Raises:
        UnknownName: the grid has no base of that name.
    """
    from detox.errors import require_known

    known = {base.name: base for base in grid.bases}
    for name in names:
        require_known("base", name, known)
    return replace(grid, bases=tuple(known[name] for name in names))


def work(grid: Any, output: Path, *, keep_texts: bool) -> int:
    """Compute the cells of some bases, for another process that holds the results directory and compares."""
    from transformers.utils import logging

    from detox.bench.cells import Store
    from detox.bench.runner import exit_code, run_bases

    logging.disable_progress_bar()
    return exit_code(run_bases(grid, Store(output), grid.bases, say=say, keep_texts=keep_texts, bars=False))


def run_and_compare(
    grid: Any, output: Path, *, keep_texts: bool = True, before: Callable[[], None] | None = None
) -> int:
    """Run a grid that has been read; print the table, write `comparison.csv` and `pareto.png` of each protocol."""
    from transformers.utils import logging

    from detox.bench import compare, run_grid
    from detox.bench.comparison_files import draw_curves, write_comparison
    from detox.bench.curves import read_factors
    from detox.bench.interaction import interactions
    from detox.bench.interaction_text import table, write
    from detox.bench.plan import plan
    from detox.bench.plots import learning_curves
    from detox.bench.runner import describe_holes, exit_code
    from detox.bench.verdict_text import verdicts_table

    logging.disable_progress_bar()  # "Loading weights" once a cell says nothing
    say(str(plan(grid, output, look=False)))
    outcome = run_grid(grid, output, say=say, keep_texts=keep_texts, before=before)
    say(f"{outcome.computed} cells computed, {outcome.reused} were there, {len(outcome.holes)} failed")
    measured = {cell.protocol for cell in outcome.cells if cell.folder not in outcome.holes}
    if measured:
        written = []
        for name in (name for name in grid.protocols if name in measured):
            stem = "" if len(grid.protocols) == 1 else f"-{name}"
            comparison = compare(output, protocol=name)
            if grid.curves is None:  # draw_curves asks it of its protocol
                found = interactions(comparison, read_factors(output))
                if found is not None:
                    print(f"\n{table(found)}")
                    written += write(found, output, stem=stem)
            print(f"\n{comparison}\n")
            print(f"{verdicts_table(comparison)}\n")
            written += write_comparison(comparison, output, stem=stem, plot=grid.curves is None)
        if learning_curves(output, output / "learning-curves.png", bases=[base.name for base in grid.bases]):
            written.append("learning-curves.png")
        if grid.curves is not None and not outcome.holes:
            print(f"{draw_curves(output, grid.curves, protocol=next(iter(grid.protocols)))}\n")
            written += ["curves.png", "curves.md", "claims.json"]
            written += [
                name for name in ("interaction.md", "interaction.json", "interaction.png") if (output / name).is_file()
            ]
        print(f"records and comparisons are in {output}: {', '.join(written)}")
        print(f"detox report {output} makes a page of them")
    for line in describe_holes(outcome):
        print(f"error: {line}", file=sys.stderr)
    return exit_code(outcome)


def show_command(arguments: argparse.Namespace) -> int:
    """Print the comparison of a results directory, the question of pretraining first."""
    from detox.bench import compare
    from detox.bench.cells import read_summary
    from detox.bench.comparison_files import write_comparison
    from detox.bench.curves import read_factors
    from detox.bench.equal_utility import at_equal_utility
    from detox.bench.equal_utility import table as utility_table
    from detox.bench.interaction import interactions
    from detox.bench.interaction_text import table, write
    from detox.bench.verdict_text import verdicts_table

    comparison = compare(arguments.results, protocol=arguments.protocol, scorer=arguments.scorer)
    factors = read_factors(arguments.results)
    found = interactions(comparison, factors, reference=arguments.reference, price=arguments.price)
    if found is not None:
        print(f"{table(found)}\n")
    if arguments.save:
        stem = "".join(f"-{part}" for part in (arguments.protocol, arguments.scorer) if part)
        if found is not None:
            write(found, Path(arguments.results), stem=stem)
        write_comparison(
            comparison,
            Path(arguments.results),
            stem=stem,
            plot=(read_summary(Path(arguments.results)) or {}).get("curves") is None,
        )
    print(f"{comparison}\n\n{verdicts_table(comparison)}")
    equal = utility_table(at_equal_utility(comparison, price=arguments.price))
    print(f"\n{equal}" if equal else "")
    if len(comparison.scorers) > 1:
        from detox.bench.agreement import table as agreement_table

        print(f"\n{agreement_table(comparison)}".rstrip())
    return 0


def curves_command(arguments: argparse.Namespace) -> int:
    """Draw the curves of a results directory, and print what holds."""
    from detox.bench.cells import read_summary
    from detox.bench.comparison_files import draw_curves
    from detox.bench.grid import CURVES
    from detox.errors import InputError, require_known

    results = Path(arguments.results)
    kind = (read_summary(results) or {}).get("curves")
    if kind is None:
        raise InputError(f"{results} is not of a grid with `curves: {' | '.join(CURVES)}`; nothing to draw")
    require_known("kind of curves", kind, CURVES)
    text = draw_curves(
        results, kind,
        protocol=arguments.protocol, scorer=arguments.scorer, reference=arguments.reference, price=arguments.price,
    )  # fmt: skip
    print(text)
    return 0


def say(line: str) -> None:
    """Progress goes to stderr, so that the table can be piped."""
    print(line, file=sys.stderr, flush=True)
