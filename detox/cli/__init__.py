"""The command line: `detox demo`, `detox bench ...`, and a file of this folder for every other group of commands."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

# Threads of this program that wait should not keep a core from those that work. Must be set before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 when all went well; 1 for a checkpoint that is not what was certified, 2 for wrong input, 3 for a grid with holes or
        contrasts with errors, 130 after Ctrl-C.
    """
    from detox.cli import (
        bench,
        contrasts,
        data,
        demo,
        export,
        judges,
        positions,
        probe,
        protocols,
        report,
        scorers,
        tune,
        verify,
    )
    from detox.cli.flags import guarded

    parser = argparse.ArgumentParser(
        prog="detox", description="Make language models less toxic, and measure what it costs."
    )
    parser.add_argument("--version", action="store_true", help="print the version")
    parser.set_defaults(run=None)
    commands = parser.add_subparsers(metavar="COMMAND")
    for group in (
        demo,
        bench,
        tune,
        protocols,
        report,
        probe,
        scorers,
        judges,
        data,
        contrasts,
        positions,
        export,
        verify,
    ):
        group.add_to(commands)
    arguments = parser.parse_args(argv)
    if arguments.version:
        from detox import __version__

        print(f"detox {__version__}")
        return 0
    if arguments.run is None:
        parser.print_help()
        return 0
    try:
        return guarded(lambda: int(arguments.run(arguments)))
    except BrokenPipeError:
        # The reader (head, less) has gone; that is its right.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
