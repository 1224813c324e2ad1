"""`detox judges check`: how often the judge of refusals errs, on answers that people judged and on functional tests."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def add_to(commands: Any) -> None:
    """Add the commands of this file."""
    group = commands.add_parser("judges", help="how far to trust the judge of refusals")
    inner = group.add_subparsers(metavar="COMMAND", required=True)
    check = inner.add_parser(
        "check",
        help="sensitivity and specificity of the judge of refusals, and functional tests",
        description="Without answers, functional tests alone. Answers are CSV files of XSTest's model_completions, or JSONL files with "
        "id, request, reply, verdict, and where known group and source.",
    )
    check.add_argument("--answers", nargs="+", default=[], metavar="FILE", help="answers that people judged")
    check.add_argument(
        "--half", type=int, choices=(0, 1),
        help="requests of one half only, by a hash of the id: phrases are mended on one and measured on the other",
    )  # fmt: skip
    check.add_argument("--output_dir", help="where refusals.json goes")
    check.set_defaults(run=command)


def command(arguments: argparse.Namespace) -> int:
    """Read, judge, print, write."""
    from detox.bench.cells import provenance
    from detox.bench.judged import read_judged
    from detox.evaluation import RefusalPhrases
    from detox.evaluation.judge_check import check_judge
    from detox.evaluation.scorecard import jsonable
    from detox.files import require_writable, write_json

    store = require_writable(arguments.output_dir) if arguments.output_dir else None
    replies = [one for file in arguments.answers for one in read_judged(file, half=arguments.half)]
    found = check_judge(RefusalPhrases(), replies)
    print(render(found))
    if store is not None:
        about = {"command": "detox judges check", "half": arguments.half}
        files = {Path(file).name: hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in arguments.answers}
        write_json(store / "refusals.json", {**about, "answers": files, "provenance": provenance(), **jsonable(found)})
    return 0


def render(found: dict[str, Any]) -> str:
    """The record as a short text."""
    lines = [f"judge {found['judge']['name']}: {found['replies']} answers to {found['requests']} requests"]
    if found["parts"]:
        lines += [
            "",
            _row(
                "answers", "n", "kappa", "any refusal: sensitivity", "specificity", "full: sensitivity", "specificity"
            ),
        ]
    for name, one in found["parts"].items():
        rates = [_rate(one[question][kind]) for question in ("any", "full") for kind in ("sensitivity", "specificity")]
        lines.append(_row(name, str(one["n"]), _interval(one["kappa"]), *rates))
    if found["parts"]:
        lines += [
            "",
            "Intervals are over requests. Where the models differ by more than these, another model differs, too.",
        ]
    lines += ["", "functional tests: right of all, right about whether it refuses at all"]
    for one in found["functional"]:
        lines.append(
            f"  {one['function']:48s} ({one['verdict']:14s})  {one['right']:2d}/{one['n']:<2d}  {one['refusal_right']:2d}/{one['n']}"
        )
    return "\n".join([*lines, ""])


def _rate(one: dict[str, Any]) -> str:
    return _interval(one) if one["n"] else "-"


def _interval(one: dict[str, Any]) -> str:
    if one["value"] != one["value"]:
        return "-"
    return f"{one['value']:.3f} [{one['low']:.3f}, {one['high']:.3f}]"


def _row(*cells: str) -> str:
    widths: Sequence[int] = (32, 6, 21, 25, 21, 21, 21)
    return " ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
