"""`detox contrasts ...`: training data of detoxifiers; each command is in a file of its own."""

from __future__ import annotations

from typing import Any

from detox.cli import contrasts_make


def add_to(commands: Any) -> None:
    """Add the commands of this group."""
    group = commands.add_parser("contrasts", help="make pairs of safe and toxic text to learn from")
    inner = group.add_subparsers(metavar="COMMAND", required=True)
    contrasts_make.add_to(inner)
