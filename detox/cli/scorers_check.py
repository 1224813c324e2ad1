"""`detox scorers check`: ranking, calibration, error rates and bias of any scorer, on sets whose toxicity is known."""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

PANEL = "panel"


def add_to(commands: Any) -> None:
    """Add the command of this file."""
    check = commands.add_parser(
        "check",
        help="how far to trust a scorer: AUC, calibration, error rates, identity bias",
        description="Scores texts whose toxicity is known, and prints how the scorer did. Sets that are not here are named.",
    )
    check.add_argument(
        "scorers", nargs="+", metavar="SCORER",
        help="as in a grid (profanity, wordlist, a preset, hf:ID, a folder, FILE.py:CLASS), the same as a JSON object with options, "
        f"or {PANEL} for the default panel",
    )  # fmt: skip
    check.add_argument(
        "--dataset_name", nargs="+", help="sets of the catalogue, or JSONL files; default: all that are here"
    )
    check.add_argument(
        "--limit", type=int, default=2000, help="texts of a set, a seeded sample (default: 2000; 0 for all)"
    )
    check.add_argument("--threshold", type=float, default=0.5, help="a score at or above it says toxic")
    check.add_argument("--output_dir", help="where NAME.json of each scorer goes, and the trained scorer of the panel")
    check.add_argument("--seed", type=int, default=0)
    check.set_defaults(run=command)


def command(arguments: argparse.Namespace) -> int:
    """Load, score, print, write."""
    from detox.bench.cells import provenance
    from detox.bench.scorers import PERSPECTIVE_SETS, scorer_maker
    from detox.data.records import Prompt
    from detox.errors import InputError
    from detox.evaluation.scorecard import jsonable
    from detox.files import require_writable, write_json
    from detox.scorers import check_scorer

    if not 0 < arguments.threshold <= 1:
        raise InputError(f"--threshold is {arguments.threshold}; expected a score in (0, 1]")
    if arguments.limit < 0:
        raise InputError(f"--limit is {arguments.limit}; expected a number of texts, or 0 for all")
    specs = [one for spec in arguments.scorers for one in read_spec(spec)]
    with ExitStack() as stack:
        output = arguments.output_dir
        store = require_writable(output) if output else Path(stack.enter_context(tempfile.TemporaryDirectory()))
        make = scorer_maker(store)
        ready = {index: make(spec, ()) for index, spec in enumerate(specs) if not _trains(spec)}
        learned = {name for scorer in ready.values() for name in scorer.card.trained_on} | set(PERSPECTIVE_SETS)
        sets, absent = read_sets(arguments.dataset_name, learned, limit=arguments.limit or None, seed=arguments.seed)
        asked = [Prompt(id=one.id, text=one.text) for records in sets.values() for one in records]
        for index, spec in enumerate(specs):
            scorer = ready.get(index) or make(spec, asked)
            print(f"{scorer.card.name}: scoring {sum(map(len, sets.values()))} texts", file=sys.stderr, flush=True)
            found = check_scorer(scorer, sets, threshold=arguments.threshold, seed=arguments.seed)
            print(render(found))
            if output:
                about = {"command": "detox scorers check", "limit": arguments.limit, "seed": arguments.seed}
                name = re.sub(r"[^A-Za-z0-9._-]", "_", scorer.card.name)
                write_json(store / f"{name}.json", {**about, "provenance": provenance(), **jsonable(found)})
        for name, reason in absent.items():
            print(f"not here: {name}: {reason}")
    return 0


def read_spec(text: str) -> list[Any]:
    """The scorers that one word of the command line means.

    Raises:
        InputError: it begins like JSON and is none.
    """
    from detox.bench.scorers import PANEL as DEFAULT
    from detox.errors import InputError

    if text == PANEL:
        return list(DEFAULT)
    if not text.lstrip().startswith("{"):
        return [text]
    try:
        return [json.loads(text)]
    except json.JSONDecodeError as error:
        raise InputError(f'scorer {text!r} is not JSON ({error}); expected {{"name": NAME, OPTION: VALUE}}') from error


def _trains(spec: Any) -> bool:
    return isinstance(spec, dict) and "trained" in spec


def read_sets(
    names: Sequence[str] | None, learned: set[str], *, limit: int | None, seed: int
) -> tuple[dict[str, Any], dict[str, str]]:
    """The sets that are here, and why each of the others is not.

    Args:
        names: sets of the catalogue or JSONL files; None for the usual ones.
        learned: sets that a scorer learned from; of these, and of others in the same file, the held-out split is taken.
        limit: texts of a set at most, a seeded sample.
        seed: of the sample.

    Raises:
        InputError: a set or file with neither labels nor scores.
        MissingData: not one set is here.
    """
    from detox.bench.scorers import scored_records
    from detox.bench.sources import read_records
    from detox.data import catalogue
    from detox.data.records import LabelledText
    from detox.data.subsets import draw
    from detox.errors import MissingData
    from detox.scorers.checking import CHECK_SETS

    files = {getattr(catalogue.CATALOGUE[name].file, "name", name) for name in learned & catalogue.CATALOGUE.keys()}
    sets: dict[str, Any] = {}
    absent: dict[str, str] = {}
    for name in names or CHECK_SETS:
        try:
            if name.endswith((".jsonl", ".jsonl.gz")):
                found: list[Any] = list(read_records(LabelledText, {"file": name}, where=name))
            else:
                own = getattr(catalogue.entry(name).file, "name", name)
                found = scored_records(name, split="heldout" if own in files else None)
        except MissingData as error:
            absent[name] = str(error)
            continue
        sets[name] = found if limit is None or len(found) <= limit else draw(found, limit, seed=seed)
    if not sets:
        raise MissingData(f"no set to check on: {'; '.join(absent.values())}")
    return sets, absent


def render(found: dict[str, Any]) -> str:
    """The record of one scorer as a short text."""
    card = found["card"]
    trained = ", ".join(card["trained_on"]) or "nothing"
    lines = [
        f"{card['name']} ({card['revision']}), trained on {trained}; toxic at or above {found['threshold']:g}",
        "",
        _row("set", "texts", "toxic", "ROC-AUC", "Spearman", "ECE", "sensitivity", "specificity", "missing"),
    ]
    for name, one in found["sets"].items():
        title = f"{name} *" if one.get("overlap") else name
        if not one["n"]:
            lines.append(_row(title, "0", "", "no text scored", "", "", "", "", str(one["n_missing"])))
            continue
        interval = one["roc_auc_interval"]
        auc = "one class" if one["roc_auc"] is None else f"{one['roc_auc']:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]"
        degrees = one.get("against_scores", one if one["against"] == "scores" else {})
        rank = degrees.get("spearman")
        lines.append(
            _row(
                title,
                str(one["n"]),
                str(one["n_toxic"]),
                auc,
                "-" if rank is None else f"{rank:.3f}",
                f"{degrees.get('ece', one['ece']):.3f}",
                _share(one["sensitivity"]),
                _share(one["specificity"]),
                str(one["n_missing"]),
            )
        )
    lines.append(
        "Spearman and ECE (calibration error) are against a set's own scores where it has any, else ECE against labels."
    )
    if any(one.get("overlap") for one in found["sets"].values()):
        lines.append("* shares texts or judges with what the scorer learned from: an upper bound")
    for name, one in found["bias"].items():
        lines += ["", f"identity terms in {name}: {_share(one['false_positives'])} of harmless sentences called toxic"]
        for kind, said in (
            ("subgroup_auc", "lowest subgroup AUC"), ("bpsn_auc", "lowest BPSN AUC"), ("bnsp_auc", "lowest BNSP AUC"),
            ("gap", "widest gap of false positives"),
        ):  # fmt: skip
            if kind in one["worst"]:
                worst = one["worst"][kind]
                value = f"{worst['value']:+.3f}" if kind == "gap" else f"{worst['value']:.3f}"
                lines.append(f"  {said}: {value} ({worst['term']})")
    lines += ["", "functional tests: right of all, mean score"]
    for one in found["functional"]:
        mean = "-" if one["mean_score"] is None else f"{one['mean_score']:.2f}"
        missing = f", {one['missing']} missing" if one["missing"] else ""
        should = "toxic" if one["toxic"] else "fine"
        lines.append(f"  {one['function']:40s} ({should:5s})  {one['right']:3d}/{one['n']:<3d}  {mean}{missing}")
    return "\n".join([*lines, ""])


def _row(*cells: str) -> str:
    widths = (24, 6, 6, 21, 9, 6, 12, 12, 7)
    return " ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _share(counts: Sequence[int]) -> str:
    right, n = counts
    return f"{right / n:.3f}" if n else "-"
