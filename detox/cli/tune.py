"""`detox tune`: a strength that was chosen honestly."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def add_to(commands: Any) -> None:
    """Add the commands of this file."""
    parser = commands.add_parser(
        "tune",
        help="choose strengths and settings on development prompts under a budget, report once on held-out prompts",
    )
    parser.usage = "detox tune [-h] [--output_dir OUTPUT_DIR] [--drop_texts] FILE | show RESULTS"
    parser.add_argument(
        "file",
        nargs="+",
        metavar="FILE | show RESULTS",
        help="YAML: a grid with one protocol, strength or search of each detoxifier, and tune: {...}; or show, and results of an "
        "earlier run: every choice with its points, computing nothing",
    )
    parser.add_argument("--output_dir", help="results directory (default: runs/tune-NAME_OF_THE_FILE)")
    parser.add_argument("--drop_texts", action="store_true", help="do not keep what the models wrote")
    parser.set_defaults(run=tune_command)


def tune_command(arguments: argparse.Namespace) -> int:
    """Tune, print what was chosen and what it gives on held-out prompts."""
    from transformers.utils import logging

    from detox.bench.cells import Store, sole_runner
    from detox.bench.scorers import scorer_maker
    from detox.bench.tune_file import read_tuning, run_tuning
    from detox.bench.tune_records import describe
    from detox.cli.bench import say
    from detox.errors import InputError
    from detox.files import require_writable

    if arguments.file[0] == "show":
        return show_command(arguments.file[1:])
    if len(arguments.file) > 1:
        raise InputError(f"detox tune takes one file, got {' '.join(arguments.file)}; expected FILE, or show RESULTS")
    [file] = arguments.file
    output = Path(arguments.output_dir or Path("runs") / f"tune-{Path(file).stem}")
    require_writable(output)
    print(f"detox tune {file}", flush=True)
    tuning = read_tuning(file, make_scorer=scorer_maker(output))
    logging.disable_progress_bar()
    with sole_runner(output):
        records = run_tuning(tuning, Store(output), say=say, keep_texts=not arguments.drop_texts)
    for record in records:
        print(describe(record))
    print(f"records are in {output / 'tuned'}; `detox tune show {output}` prints every point")
    if any(record["chosen"] is not None for record in records):
        print(f"a grid takes a choice over by `tuned: {output}`, on a protocol with `held_out_of: {output}`")
    return 0


def show_command(results: Sequence[str]) -> int:
    """Print what is in the results of a tuning: of every base, method and split the choice and the points that were tried."""
    from detox.bench.tune_records import describe, points_table, read_tune_records
    from detox.errors import InputError

    if len(results) != 1:
        raise InputError(f"detox tune show takes one results directory, got {' '.join(results) or 'none'}")
    for path, record in read_tune_records(results[0]):
        print(f"{path}\n{describe(record)}\n\n{points_table(record)}\n")
    return 0
