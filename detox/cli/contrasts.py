"""`detox contrasts ...`: look at contrasts before anything is trained on them; each command is in a file of its own."""

from __future__ import annotations

from typing import Any

from detox.cli import contrasts_lint


def add_to(commands: Any) -> None:
    """Add the commands of this group."""
    group = commands.add_parser("contrasts", help="find the faults of a file of contrasts")
    inner = group.add_subparsers(metavar="COMMAND", required=True)
    contrasts_lint.add_to(inner)
