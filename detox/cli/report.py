"""`detox report`: one page of a results directory, and its tables and pictures."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any


def add_to(commands: Any) -> None:
    """Add the command of this file."""
    parser = commands.add_parser(
        "report",
        help="one HTML page of a results directory, from its records alone; also tables, pictures, lm-eval and Inspect files",
        description="Write report.html: one file, no network, that shows a results directory - bases x methods with intervals and "
        "verdicts, figures to point at, side effects, cost, what is missing, provenance. It computes no model. Texts are left out "
        "unless --texts is given, and hidden until clicked then.",
    )
    parser.add_argument("results", help="results directory of `detox bench run`")
    parser.add_argument("--protocol", help="which protocol, where there are several")
    parser.add_argument(
        "--output", metavar="FILE", help="file of the page (default: RESULTS/report.html); other formats go beside it"
    )
    parser.add_argument(
        "--format",
        default="html",
        metavar="NAMES",
        help="html, csv, latex, markdown, png, svg, lm-eval, inspect; several with commas (default: html)",
    )
    parser.add_argument("--texts", action="store_true", help="put in texts of a few prompts, where the run kept them")
    parser.set_defaults(run=report_command)


def report_command(arguments: argparse.Namespace) -> int:
    """Write the report."""
    from detox.bench.report import write_report

    # Of paths only the last part: a page that is passed on does not say where it lay.
    words = ["detox", "report", Path(arguments.results).resolve().name]
    words += ["--protocol", arguments.protocol] if arguments.protocol else []
    words += ["--format", arguments.format] if arguments.format != "html" else []
    words += ["--texts"] if arguments.texts else []
    written = write_report(
        arguments.results,
        protocol=arguments.protocol,
        output=arguments.output,
        formats=[name.strip() for name in arguments.format.split(",") if name.strip()],
        texts=arguments.texts,
        command=shlex.join(words),
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )
    for path in written:
        print(path)
    return 0
