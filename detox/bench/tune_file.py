"""`detox tune FILE`: a grid with one protocol, where detoxifiers have a range of strengths and settings; and its result record."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from detox.bench.base_work import BaseWork, Say, fit_identity
from detox.bench.bases import NOT_IN_FILE_NAMES
from detox.bench.cells import Store, base_identity, digest, provenance
from detox.bench.comparison_text import show
from detox.bench.grid import Grid, Method, build_grid
from detox.bench.prompt_splits import Split, split_protocol
from detox.bench.protocols import ScorerMaker, read_yaml, require_keys
from detox.bench.tuning import BUDGET, SHARE, TRIALS, Search, Trial, Tuned, Tuner, tuning_grid
from detox.errors import DataError, InputError
from detox.evaluation.scorecard import float_of, jsonable
from detox.files import write_json
from detox.statistics import Estimate

_TUNE_KEYS = ("budget", "trials", "share", "seed")


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """What is tuned.

    Attributes:
        grid: bases, contrasts and one protocol.
        searches: one a method.
        split: of the protocol.
        budget: nats per token that a method may cost.
        trials: points a base and method.
        seed: of the search and the split.
    """

    grid: Grid
    searches: tuple[Search, ...]
    split: Split
    budget: float = BUDGET
    trials: int = TRIALS
    seed: int = 0


def read_tuning(path: str | Path, *, make_scorer: ScorerMaker) -> Tuning:
    """Read and check a tuning file: a grid's keys, `tune: {budget, trials, share, seed}`, and of each detoxifier `strength` and `search`.

    `strength: [0, 8]` is a list of values, `strength: {low: 0, high: 8}` a range; `search: {num_heads: [4, 8]}` is the same for
    hyperparameters, each of whose points is a fit of its own.

    Raises:
        InputError: not one protocol, nothing to search, or a value of another form; else see `read_grid`.
    """
    raw = read_yaml(path)
    if not isinstance(raw, Mapping):
        raise InputError(f"{path} is no mapping; expected a grid's keys and tune: {{budget: ..., trials: ...}}")
    settings = raw.get("tune") or {}
    require_keys(settings, _TUNE_KEYS, "tune")
    _require_numbers(settings)
    detoxifiers = raw.get("detoxifiers") or {}
    if not isinstance(detoxifiers, Mapping) or not all(isinstance(one or {}, Mapping) for one in detoxifiers.values()):
        raise InputError(f"detoxifiers is {detoxifiers!r}; expected {{NAME: {{settings: ..., strength: ...}}, ...}}")
    asked: dict[str, dict[str, Any]] = {str(name): dict(spec or {}) for name, spec in detoxifiers.items()}
    ranges = {name: {key: spec.pop(key, None) for key in ("strength", "search")} for name, spec in asked.items()}
    for spec in asked.values():
        spec["controls"] = False
    grid = build_grid(
        {
            **{key: value for key, value in raw.items() if key not in ("tune", "curves", "aa")},
            "detoxifiers": asked,
            "aa": False,
        },
        make_scorer=make_scorer,
    )
    if len(grid.protocols) != 1:
        raise InputError(f"{path} has {len(grid.protocols)} protocols; expected the one that is tuned for")
    if not grid.methods:
        raise InputError(f"{path} has no detoxifiers; expected one to tune at least")
    seed = int(settings.get("seed", 0))
    [protocol] = grid.protocols
    split = split_protocol(grid.asked(protocol, grid.seeds[0]), share=float(settings.get("share", SHARE)), seed=seed)
    return Tuning(
        grid=tuning_grid(grid, split),
        searches=tuple(_search(method, ranges[method.name]) for method in grid.methods),
        split=split,
        budget=float(settings.get("budget", BUDGET)),
        trials=int(settings.get("trials", TRIALS)),
        seed=seed,
    )


def _require_numbers(settings: Mapping[str, Any]) -> None:
    """Of the key `tune`; asked before anything is read or made.

    Raises:
        InputError: says which key and what was expected.
    """
    for key, value in settings.items():
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
            raise InputError(f"tune: {key} is {value!r}; expected a number")
        if key in ("trials", "seed") and not isinstance(value, int):
            raise InputError(f"tune: {key} is {value!r}; expected a whole number")
    if not settings.get("budget", BUDGET) > 0:
        raise InputError(f"the budget is {float(settings['budget'])!r}; expected nats per token above 0")
    if settings.get("trials", TRIALS) < 1:
        raise InputError(f"trials is {settings['trials']!r}; expected at least 1")


def _search(method: Method, ranges: Mapping[str, Any]) -> Search:
    where = f"detoxifier {method.name!r}"
    strength = None if ranges["strength"] is None else _range(ranges["strength"], f"{where}: strength")
    if isinstance(strength, list) and not all(type(one) in (int, float) and math.isfinite(one) for one in strength):
        raise InputError(f"{where}: strength is {strength!r}; expected numbers")
    searched = ranges["search"] or {}
    if not isinstance(searched, Mapping):
        raise InputError(
            f"{where}: search is {searched!r}; expected {{SETTING: [VALUE, ...] or {{low: ..., high: ...}}, ...}}"
        )
    settings = {str(name): _range(value, f"{where}: search.{name}") for name, value in searched.items()}
    for name, asked in settings.items():
        # The first value is tried on a fresh detoxifier, so that an unknown setting is found now.
        Method(name=method.name, method=method.method, settings={**method.settings, name: asked[0]}).make()
    if strength is None:
        known = [one for one in method.strengths if one is not None]
        strength = known or None
    if strength is None and not settings:
        raise InputError(f"{where} has nothing to tune; give it strength: {{low: ..., high: ...}} or search: {{...}}")
    return Search(method=method, strength=strength, settings=settings)


def _range(value: Any, where: str) -> Any:
    if isinstance(value, Mapping):
        require_keys(value, ("low", "high"), where, needed=("low", "high"))
        ends = (value["low"], value["high"])
        if not all(isinstance(end, (int, float)) and math.isfinite(end) for end in ends) or not ends[0] < ends[1]:
            raise InputError(f"{where} is {dict(value)!r}; expected numbers with low below high")
        return ends
    if isinstance(value, list) and value:
        return value
    raise InputError(f"{where} is {value!r}; expected a list of values or {{low: ..., high: ...}}")


def run_tuning(tuning: Tuning, store: Store, *, say: Say, keep_texts: bool = True) -> list[dict[str, Any]]:
    """Tune every method on every base that it suits; whoever calls keeps other runners out.

    Returns:
        The records, as written to `tuned/`; one that is there already is read, not computed.

    Raises:
        InputError: the held-out prompts have been reported on before, for another question.
    """
    records = []
    for base in tuning.grid.bases:
        searches = [search for search in tuning.searches if search.method.suits(base)]
        if not searches:
            continue
        place = base.path(store.directory)
        work = BaseWork(tuning.grid, base, base_identity(base, place), place, store, say=say)
        tuner = Tuner(
            work,
            tuning.split,
            budget=tuning.budget,
            trials=tuning.trials,
            seed=tuning.seed,
            say=say,
            keep_texts=keep_texts,
        )
        for search in searches:
            asked = _asked(tuning, search, work.identity)
            name = re.sub(NOT_IN_FILE_NAMES, "_", f"{base.name}--{search.method.name}")
            path = store.directory / "tuned" / f"{name}.json"
            known, earlier = _known(path, asked)
            if known is None:
                # A journal belongs to one question: what another one has tried was led by other prompts, or lies elsewhere.
                tuned = tuner.tune(search, path.with_name(f"{name}--{digest(asked)}.journal"))
                known = {**_record(tuned, tuning, asked), "earlier": earlier}
                write_json(path, known)
            else:
                say(f"{search.method.name} on {base.name}: already there")
            records.append(known)
    return records


def _asked(tuning: Tuning, search: Search, base: Mapping[str, Any]) -> dict[str, Any]:
    """The question, as JSON: what else would be another answer."""
    own = {key: value for key, value in asdict(search).items() if key != "method"}
    values: dict[str, Any] = json.loads(json.dumps({
        "method": search.method.method, "fixed": dict(search.method.settings), **own, "budget": tuning.budget,
        "trials": tuning.trials, "seed": tuning.seed, "protocol": tuning.split.held_out.digest(), "base": base,
        "fit": fit_identity(tuning.grid, search.method, search.method.make()),
    }))  # fmt: skip
    return values


def _known(path: Path, asked: Mapping[str, Any]) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """The record that answers this question, if it is there; and the questions that held-out prompts were looked at for before."""
    if not path.is_file():
        return None, []
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        earlier = [*record["earlier"], *([record["asked"]] if record["held_out"] is not None else [])]
        same = record["asked"] == dict(asked)
        looked = next((one for one in earlier if one["protocol"] == asked["protocol"] and one != dict(asked)), None)
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}:1: damaged; remove it and tune again, on a split with another seed") from error
    if same:
        return record, earlier
    if looked is not None:
        different = next(key for key in asked if looked.get(key) != asked[key])
        raise InputError(
            f"{path}: these held-out prompts have been reported on, for another {different}; held-out prompts are looked at once: "
            "give tune another seed, or another --output_dir"
        )
    return None, earlier


def _record(tuned: Tuned, tuning: Tuning, asked: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = jsonable({
        "base": tuned.base,
        "method": tuned.method,
        "asked": dict(asked),
        "split": tuning.split.to_dict(),
        "scorer": tuned.headline.scorer,
        "notes": list(tuned.headline.notes),
        "others": {name: asdict(value) for name, value in tuned.others.items()},
        "budget": tuning.budget,
        "development": [_trial(one) for one in tuned.trials],
        "failed": tuned.failed,
        "chosen": None if tuned.chosen is None else {**_trial(tuned.chosen), "chosen_on": "development"},
        "held_out": None if tuned.held_out is None else {key: asdict(value) for key, value in tuned.held_out.items()},
        "provenance": provenance(),
    })  # fmt: skip
    return values


def _trial(one: Trial) -> dict[str, Any]:
    return {**asdict(one), "settings": dict(one.settings)}


def describe(record: Mapping[str, Any]) -> str:
    """A record as text."""
    head = f"{record['method']} on {record['base']}, at most +{record['budget']:g} nats: "
    chosen, held_out = record["chosen"], record["held_out"]
    tried = f"{len(record['development'])} points on {record['split']['development']['prompts']} development prompts"
    if chosen is None:
        return f"{head}no point of {tried} is less toxic than the base within the budget"
    what = ", ".join(
        [
            *([] if chosen["strength"] is None else [f"strength {chosen['strength']:g}"]),
            *(f"{k} {v}" for k, v in chosen["settings"].items()),
        ]
    )
    line = f"{head}{what or 'as it is'}, chosen among {tried} (there: {_change(chosen['toxicity_change'])}, CE {_change(chosen['cost'])})"
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


def _change(values: Mapping[str, Any]) -> str:
    value, low, high = (float(float_of(values[key])) for key in ("value", "low", "high"))
    return show(Estimate(value, low, high, int(values["n"]), int(values["missing"])), signed=True)
