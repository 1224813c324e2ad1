"""`detox verify`: is an exported checkpoint still what was certified?"""

from __future__ import annotations

import argparse
import sys
from typing import Any


def add_to(commands: Any) -> None:
    """Add the command of this file."""
    parser = commands.add_parser(
        "verify",
        help="repeat the checks of an exported checkpoint's certificate",
        description="Check the files of an export, load it, look for its biases, and compare it with the base model and the "
        "detoxifier again. What cannot be checked is said. Exits with 1 where a check fails.",
    )
    parser.add_argument("directory", help="folder that export wrote")
    parser.add_argument("--base", help="the base model (default: the path in the certificate)")
    parser.add_argument("--detoxifier", help="the saved detoxifier (default: the copy in the folder)")
    parser.add_argument("--device", help="cpu, cuda, ... (default: a GPU if there is one)")
    parser.set_defaults(run=verify_command)


def verify_command(arguments: argparse.Namespace) -> int:
    """Verify, print what was and what was not."""
    from detox.detoxifiers.verification import FAILED, verify

    found = verify(arguments.directory, base=arguments.base, detoxifier=arguments.detoxifier, device=arguments.device)
    for check in found.checks:
        if check.outcome != FAILED:
            print(f"{check.outcome}: {check.name}: {check.detail}")
    if found.failure is not None:
        print(f"FAILED: {found.failure.name}: {found.failure.detail}", file=sys.stderr)
        return 1
    return 0
