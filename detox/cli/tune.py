"""`detox tune`: a strength that was chosen honestly."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_to(commands: Any) -> None:
    """Add the commands of this file."""
    parser = commands.add_parser(
        "tune",
        help="choose strengths and settings on development prompts under a budget, report once on held-out prompts",
    )
    parser.add_argument(
        "file", help="YAML: a grid with one protocol, strength or search of each detoxifier, and tune: {...}"
    )
    parser.add_argument("--output_dir", help="results directory (default: runs/tune-NAME_OF_THE_FILE)")
    parser.add_argument("--drop_texts", action="store_true", help="do not keep what the models wrote")
    parser.set_defaults(run=tune_command)


def tune_command(arguments: argparse.Namespace) -> int:
    """Tune, print what was chosen and what it gives on held-out prompts."""
    from transformers.utils import logging

    from detox.bench.cells import Store, sole_runner
    from detox.bench.scorers import scorer_maker
    from detox.bench.tune_file import describe, read_tuning, run_tuning
    from detox.cli.bench import say
    from detox.files import require_writable

    output = Path(arguments.output_dir or Path("runs") / f"tune-{Path(arguments.file).stem}")
    require_writable(output)
    print(f"detox tune {arguments.file}", flush=True)
    tuning = read_tuning(arguments.file, make_scorer=scorer_maker(output))
    logging.disable_progress_bar()
    with sole_runner(output):
        records = run_tuning(tuning, Store(output), say=say, keep_texts=not arguments.drop_texts)
    for record in records:
        print(describe(record))
    print(f"records are in {output / 'tuned'}")
    return 0
