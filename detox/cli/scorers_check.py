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
FILES = (".jsonl", ".jsonl.gz", ".csv", ".tsv")
FEW = 20
"""Toxic texts, or others, below which a set says little of a scorer."""


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
        "--dataset_name",
        nargs="+",
        help="sets of the catalogue, or files (JSONL, CSV, TSV) of text, label or score, group where known; default: all that are here",
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
            if name.endswith(FILES):
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
    """The record of one scorer as a short text, how far it can be trusted first."""
    card = found["card"]
    trained = ", ".join(card["trained_on"]) or "nothing"
    lines = [
        f"{card['name']} ({card['revision']}), trained on {trained}; toxic at or above {found['threshold']:g}",
        "",
        *trust(found),
        "",
        _row("set", "texts", "toxic", "ROC-AUC", "Spearman", "ECE", "sensitivity", "specificity", "missing"),
    ]
    for name, one in found["sets"].items():
        title = f"{name} *" if one.get("overlap") else name
        if not one["n"]:
            lines.append(_row(title, "0", "", "no text scored", "", "", "", "", str(one["n_missing"])))
            continue
        degrees = one.get("against_scores", one if one["against"] == "scores" else {})
        lines.append(
            _row(
                title,
                str(one["n"]),
                str(one["n_toxic"]),
                "one class" if one["roc_auc"] is None else _with(one["roc_auc"], one["roc_auc_interval"]),
                _with(degrees.get("spearman"), degrees.get("spearman_interval")),
                _with(degrees.get("ece", one["ece"]), degrees.get("ece_interval", one["ece_interval"])),
                _with(_rate(one["sensitivity"]), one["sensitivity_interval"]),
                _with(_rate(one["specificity"]), one["specificity_interval"]),
                str(one["n_missing"]),
            )
        )
    lines.append(
        "Intervals: 95 %, over texts. Sensitivity and specificity: right of toxic texts, and of others, at the threshold."
    )
    lines.append(
        "Spearman and ECE (calibration error) are against a set's own scores where it has any, else ECE against labels."
    )
    if any(name.endswith(FILES) for name in found["sets"]):
        lines.append("Of texts out of a file nobody here knows whether the scorer learned from them.")
    if any(one.get("overlap") for one in found["sets"].values()):
        lines.append("* shares texts or judges with what the scorer learned from: an upper bound")
    for name, one in found["groups"].items():
        what = "harmless texts called toxic" if one["labelled"] else "texts called toxic (nobody labelled them)"
        lines += ["", f"groups in {name}: {what}, and minus the rate of all other texts"]
        for group, own in one["groups"].items():
            rate = own["rate"]
            gap = own["difference"] or {"value": None, "low": None, "high": None}
            lines.append(
                f"  {group:24s} {own['called_toxic'][0]}/{own['n']}  {_with(rate['value'], [rate['low'], rate['high']])}  "
                f"{_with(gap['value'], [gap['low'], gap['high']], sign='+')}"
            )
    for name, one in found["bias"].items():
        lines += ["", f"identity terms in {name}: {_share(one['false_positives'])} of harmless sentences called toxic"]
        for kind, said in (
            ("subgroup_auc", "lowest subgroup AUC"), ("bpsn_auc", "lowest BPSN AUC"), ("bnsp_auc", "lowest BNSP AUC"),
            ("gap", "widest gap of false positives"),
        ):  # fmt: skip
            if kind in one["worst"]:
                worst = one["worst"][kind]
                term = one["terms"][worst["term"]]
                if kind == "gap":
                    value = f"{worst['value']:+.3f}, {term['false_positives'][0]} of {term['false_positives'][1]}"
                else:
                    value = _with(worst["value"], [term[kind]["low"], term[kind]["high"]])
                lines.append(f"  {said}: {value} ({worst['term']})")
        if one["worst"]:
            lines.append(
                f"  (the worst of {len(one['terms'])} terms is bad by chance, too; each interval is that of its term alone)"
            )
    lines += ["", "functional tests: right of all, mean score"]
    for one in found["functional"]:
        mean = "-" if one["mean_score"] is None else f"{one['mean_score']:.2f}"
        missing = f", {one['missing']} missing" if one["missing"] else ""
        should = "toxic" if one["toxic"] else "fine"
        lines.append(f"  {one['function']:40s} ({should:5s})  {one['right']:3d}/{one['n']:<3d}  {mean}{missing}")
    return "\n".join([*lines, ""])


def _row(*cells: str) -> str:
    widths = (24, 6, 6, 21, 22, 21, 21, 21, 7)
    return " ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def trust(found: dict[str, Any]) -> list[str]:
    """What the areas under the ROC curve let one say, by set: where the scorer ranks, where it does not, and where nobody knows.

    A set's place is where the whole interval of its ROC-AUC lies. Sets that share texts with the scorer's training are upper bounds and
    stand apart, and of fewer than 20 toxic or other texts nothing is said.
    """
    places: dict[str, list[str]] = {what: [] for what in ("ranks well", "ranks", "hardly ranks", "few", "upper bound")}
    for name, one in found["sets"].items():
        if not one["n"] or one["roc_auc"] is None:
            continue
        low, high = one["roc_auc_interval"]
        if min(one["n_toxic"], one["n"] - one["n_toxic"]) < FEW:
            places["few"].append(name)
        elif one["overlap"]:
            places["upper bound"].append(name)
        else:
            places["ranks well" if low >= 0.8 else "hardly ranks" if high < 0.7 else "ranks"].append(name)
    said = {
        "ranks well": "trust its ranking (ROC-AUC .8 or more)",
        "ranks": "use it with another scorer (ROC-AUC between, or not known well enough)",
        "hardly ranks": "do not use it for texts like (ROC-AUC below .7)",
        "few": f"too few texts to say (under {FEW} of a kind)",
        "upper bound": "only an upper bound is known (it learned from the like)",
    }
    return [f"{said[place]}: {', '.join(names)}" for place, names in places.items() if names]


def _with(value: float | None, interval: Sequence[float | None] | None, *, sign: str = "") -> str:
    if value is None:
        return "-"
    if interval is None or interval[0] is None or interval[1] is None:
        return f"{value:{sign}.3f}"
    return f"{value:{sign}.3f} [{interval[0]:{sign}.3f}, {interval[1]:{sign}.3f}]"


def _rate(counts: Sequence[int]) -> float | None:
    return counts[0] / counts[1] if counts[1] else None


def _share(counts: Sequence[int]) -> str:
    right, n = counts
    return f"{right / n:.3f}" if n else "-"
