"""Records of `detox tune`: RESULTS/tuned, one file a base, method and split; read, found again, told."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detox.bench.bases import NOT_IN_FILE_NAMES
from detox.bench.comparison_text import show
from detox.errors import DataError, InputError, MissingData
from detox.evaluation.scorecard import float_of
from detox.statistics import MISSING_LIMIT, Estimate

_KEYS = (
    "base",
    "method",
    "asked",
    "split",
    "scorer",
    "budget",
    "development",
    "chosen",
    "chosen_on",
    "held_out",
    "seen",
    "earlier",
)


def record_name(base: str, method: str, asked: Mapping[str, Any]) -> str:
    """Stem of the file of a record. Splits are told apart by their held-out part; of the questions of one split the last one stays."""
    stem = re.sub(NOT_IN_FILE_NAMES, "_", f"{base}--{method}")
    return f"{stem}--split{asked['seed']}-{asked['protocol'][:8]}"


def read_tune_records(path: str | Path) -> list[tuple[Path, dict[str, Any]]]:
    """The records of a results directory of `detox tune`, in the order of their names; or the one that a file is.

    Raises:
        MissingData: nothing there, or no search that has ended.
        DataError: a record is damaged; names it.
    """
    root = Path(path)
    if root.is_file():
        return [(root, _read(root))]
    found = [(file, _read(file)) for file in sorted(root.glob("tuned/*.json"))]
    if found:
        return found
    if any(root.glob("tuned/*.journal")):
        raise MissingData(
            f"{root} holds a search that has not ended; run `detox tune` once more, it goes on where it was"
        )
    raise MissingData(f"no records of `detox tune` in {root}; expected its --output_dir, or one file of tuned/ in it")


def _read(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        absent = [key for key in _KEYS if key not in record]
        absent += [key for key in ("method", "fixed", "fit", "base", "protocol", "seed") if key not in record["asked"]]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}:1: damaged; remove it and tune again, on a split with another seed") from error
    if absent:
        raise DataError(f"{path}:1: no record of `detox tune` as this version writes it (no {absent[0]}); tune again")
    return dict(record)


def known_record(path: Path, asked: Mapping[str, Any]) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """The record that answers this question, if it is there; and the questions that held-out prompts were looked at for before.

    Raises:
        InputError: these held-out prompts have been reported on for another question.
        DataError: the record is damaged.
    """
    if not path.is_file():
        return None, []
    record = _read(path)
    earlier = [*record["earlier"], *([record["asked"]] if record["held_out"] is not None else [])]
    if record["asked"] == dict(asked):
        return record, earlier
    looked = next((one for one in earlier if one["protocol"] == asked["protocol"] and one != dict(asked)), None)
    if looked is not None:
        different = next(key for key in asked if looked.get(key) != asked[key])
        raise InputError(
            f"{path}: these held-out prompts have been reported on, for another {different}; held-out prompts are looked at once: "
            "give tune another seed, or another --output_dir"
        )
    return None, earlier


def describe(record: Mapping[str, Any]) -> str:
    """A record as text."""
    head = f"{record['method']} on {record['base']}, at most +{record['budget']:g} nats: "
    chosen, held_out = record["chosen"], record["held_out"]
    tried = (
        f"{len(record['development'])} points on {record['split']['development']['prompts']} development prompts "
        f"(split seed {record['split']['seed']})"
    )
    if chosen is None:
        return f"{head}no point of {tried} is less toxic than the base within the budget{why_nothing(record)}"
    line = f"{head}{point(chosen)}, chosen among {tried}; there {_change(chosen['toxicity_change'])}, CE {_change(chosen['cost'])}"
    if held_out is None:
        return f"{line}; it could not be measured on held-out prompts"
    over = (
        " - above the budget on held-out documents"
        if float_of(held_out["cross_entropy_change"]["value"]) > record["budget"]
        else ""
    )
    others = "".join(f"; {name}, which had no say: {_change(value)}" for name, value in record["others"].items())
    notes = "".join(f"\n  {note}" for note in record["notes"])
    return (
        f"{line}\n  on {record['split']['held-out']['prompts']} held-out prompts: {_change(held_out['toxicity_change'])} "
        f"({record['scorer']}), CE {_change(held_out['cross_entropy_change'])}{over}{others}{notes}"
    )


def why_nothing(record: Mapping[str, Any]) -> str:
    """What stood in the way: points without scores; else the cheapest point that is less toxic, whose price tells where to look."""
    lacking = sum(one["missing"] > MISSING_LIMIT for one in record["development"])
    if lacking:
        return f"; of {lacking} points more than {MISSING_LIMIT:.0%} of the prompts or completions have no score"
    less = [one for one in record["development"] if float_of(one["toxicity_change"]["value"]) < 0]
    if not less:
        return ""
    one = min(less, key=lambda one: float_of(one["cost"]["value"]))
    return f"; the cheapest that is less toxic costs {float_of(one['cost']['value']):+.3f} nats ({point(one)})"


def points_table(record: Mapping[str, Any]) -> str:
    """The points of a search on development prompts, by what they cost; empty where none could be measured."""
    if not record["development"]:
        return ""
    lines = [["", "point", f"toxicity change ({record['scorer']})", "CE change", "within the budget"]]
    for one in sorted(record["development"], key=lambda one: float_of(one["cost"]["value"])):
        mine = record["chosen"] is not None and all(
            record["chosen"][key] == one[key] for key in ("strength", "settings")
        )
        lines.append([
            ">" if mine else "", point(one), _change(one["toxicity_change"]), _change(one["cost"]), _allowed(one),
        ])  # fmt: skip
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def _allowed(one: Mapping[str, Any]) -> str:
    lacking = one["missing"] > MISSING_LIMIT
    return "yes" if one["allowed"] else f"{one['missing']:.0%} without a score" if lacking else "no"


def point(one: Mapping[str, Any]) -> str:
    """Strength and searched settings of a point, as a person would say them."""
    strength = [] if one["strength"] is None else [f"strength {one['strength']:g}"]
    return ", ".join([*strength, *(f"{key} {value}" for key, value in one["settings"].items())]) or "as it is"


def _change(values: Mapping[str, Any]) -> str:
    value, low, high = (float_of(values[key]) for key in ("value", "low", "high"))
    return show(Estimate(value, low, high, int(values["n"]), int(values["missing"])), signed=True)
