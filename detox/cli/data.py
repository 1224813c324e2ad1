"""`detox data list` and `detox data show`: the catalogue; `detox data annotate` is in a file of its own."""

from __future__ import annotations

import argparse
from typing import Any

from detox.cli import annotate


def add_to(commands: Any) -> None:
    """Add the commands of this file."""
    group = commands.add_parser(
        "data",
        help="which data sets there are, where they come from, whether they are here; label the risk of a corpus",
    )
    inner = group.add_subparsers(metavar="COMMAND", required=True)
    names = inner.add_parser("list", help="names of the catalogue")
    names.add_argument(
        "--kind", help="only this kind: contrasts, documents, labelled, scored, prompts, multiple-choice, ..."
    )
    names.set_defaults(run=list_command)
    show = inner.add_parser("show", help="one data set: licence, columns, hub id, file, hash")
    show.add_argument("name")
    show.set_defaults(run=show_command)
    annotate.add_to(inner)


def list_command(arguments: argparse.Namespace) -> int:
    """Print names and kinds."""
    from detox.data import catalogue

    for name in catalogue.names(arguments.kind):
        print(f"{name:32s} {catalogue.entry(name).kind}")
    return 0


def show_command(arguments: argparse.Namespace) -> int:
    """Print one card."""
    from detox.data import catalogue

    print(catalogue.describe(arguments.name))
    return 0
