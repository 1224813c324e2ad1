"""`detox protocols list` and `detox protocols show`: named protocols, where they come from, where they differ from that."""

from __future__ import annotations

import argparse
from typing import Any


def add_to(commands: Any) -> None:
    """Add the commands of this file."""
    group = commands.add_parser("protocols", help="named protocols: what papers ask, and what is asked here")
    inner = group.add_subparsers(metavar="COMMAND", required=True)
    names = inner.add_parser("list", help="names and titles")
    names.add_argument("--markdown", action="store_true", help="the tables of docs/protocols.md")
    names.set_defaults(run=list_command)
    show = inner.add_parser("show", help="one protocol: source, prompts, settings, deviations from the source")
    show.add_argument("name")
    show.set_defaults(run=show_command)


def list_command(arguments: argparse.Namespace) -> int:
    """Print names and titles, or the tables."""
    from detox.bench.presets import names, preset

    if arguments.markdown:
        from detox.bench.presets.describing import markdown

        print(markdown(), end="")
        return 0
    for name in names():
        print(f"{name:18s} {preset(name).title}")
    return 0


def show_command(arguments: argparse.Namespace) -> int:
    """Print one protocol."""
    from detox.bench.presets import preset
    from detox.bench.presets.describing import describe

    print(describe(preset(arguments.name)))
    return 0
