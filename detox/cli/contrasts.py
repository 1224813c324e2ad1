"""`detox contrasts ...`: make contrasts, and look at them before anything is trained on them; each command is in a file of its own."""

from __future__ import annotations

from typing import Any

from detox.cli import contrasts_lint, contrasts_make


def add_to(commands: Any) -> None:
    """Add the commands of this group."""
    group = commands.add_parser("contrasts", help="make a file of contrasts; find the faults of one")
    inner = group.add_subparsers(metavar="COMMAND", required=True)
    contrasts_make.add_to(inner)
    contrasts_lint.add_to(inner)
