"""What a grid's `protocols` entries mean: each key of the YAML, read and checked in one line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import yaml

from detox.bench.presets import expanded, preset
from detox.bench.sources import read_records
from detox.bench.toxicity_keys import TOXICITY_KEYS, toxicity_parts
from detox.bench.utility_keys import UTILITY_KEYS, utility_parts
from detox.data.contrasts import Contrast
from detox.data.making.prompts import Instructions
from detox.data.making.similarity import MINILM, load_embedder
from detox.data.records import Document, LabelledText, MinimalPair, MultipleChoice, Prompt
from detox.errors import DataError, InputError, MissingData, UnknownName
from detox.evaluation import (
    HeadProbeTask,
    Judge,
    PhraseJudge,
    ProbeTask,
    Protocol,
    Recognition,
    ReplyTask,
    RewriteTask,
    SafetyScoreTask,
)
from detox.models import Sampling
from detox.scorers import Scorer

_PROTOCOL_KEYS = (
    "prompts", "sampling", "scorers", "scored", "threshold", "chat", "documents", "multiple_choice", "minimal_pairs",
    "recognition", "probe", "contrasts", "toxic_documents", "head_probes", "replies", "safety_score",
    "rewriting",
)  # fmt: skip

ScorerMaker = Callable[[Any, Sequence[Prompt]], Scorer]


def read_protocol(source: str | Path | Mapping[str, Any], *, seed: int, make_scorer: ScorerMaker) -> Protocol:
    """A protocol alone: a YAML file, or a mapping, of the form of one entry of a grid's `protocols`.

    Raises:
        See `read_grid`.
    """
    raw = source if isinstance(source, Mapping) else read_yaml(source)
    name = "protocol" if isinstance(source, Mapping) else Path(source).stem
    protocol = build_protocol(name, raw, make_scorer)
    return replace(protocol, sampling=replace(protocol.sampling, seed=seed))


def build_protocol(name: str, spec: Any, make_scorer: ScorerMaker) -> Protocol:
    """The protocol that one entry of a grid's `protocols` means; see `read_grid` for what it raises.

    An entry {preset: NAME, ...} is that preset with changes (`detox.bench.presets`), and is called as it is and how it is changed.
    """
    where = f"protocol {name!r}"
    require_keys(spec, (*_PROTOCOL_KEYS, *TOXICITY_KEYS, *UTILITY_KEYS, "preset"), where)
    if "preset" in spec:
        source = spec["preset"]
        name, spec, notes = expanded(spec, where)
        made = build_protocol(name, spec, make_scorer)
        there, theirs = len(made.prompts), preset(source).prompts
        short = (f"prompts: {source} has {theirs:,}, here {there:,}",) if theirs and there and there != theirs else ()
        return replace(made, notes=(*short, *notes))
    parts: dict[str, Any] = {
        key: spec[key] for key in ("scored", "threshold", "threshold_operator", "chat", "unprompted") if key in spec
    }
    require_types(Protocol, parts, where)
    if "sampling" in spec:
        sampling = spec["sampling"]
        require_keys(sampling, list(asdict(Sampling())), f"{where}.sampling")
        if "seed" in sampling:
            raise InputError(f"{where}.sampling: the seed is the grid's (seeds: [...])")
        require_types(Sampling, sampling, f"{where}.sampling")
        parts["sampling"] = Sampling(**sampling)
    for key, record in (
        ("prompts", Prompt), ("documents", Document), ("minimal_pairs", MinimalPair), ("contrasts", Contrast),
        ("toxic_documents", Document),
    ):  # fmt: skip
        if key in spec:
            parts[key] = read_records(record, spec[key], where=f"{where}.{key}")
    if "multiple_choice" in spec:
        tasks = spec["multiple_choice"]
        if not isinstance(tasks, Mapping) or not all(isinstance(entry, Mapping) for entry in tasks.values()):
            raise InputError(
                f"{where}.multiple_choice is {tasks!r}; expected a name a task: {{arc: {{set: NAME, ...}}}}"
            )
        parts["multiple_choice"] = {
            str(task): read_records(MultipleChoice, entry, where=f"{where}.multiple_choice.{task}")
            for task, entry in tasks.items()
        }
    parts |= toxicity_parts(spec, where) | utility_parts(spec, where)
    if "recognition" in spec:
        entry = spec["recognition"]
        require_keys(entry, ("items", "template", "toxic", "safe"), f"{where}.recognition", needed=("items",))
        require_types(Recognition, {k: v for k, v in entry.items() if k != "items"}, f"{where}.recognition")
        items = read_records(LabelledText, entry["items"], where=f"{where}.recognition.items")
        parts["recognition"] = Recognition(items=items, **{k: v for k, v in entry.items() if k != "items"})
    if "probe" in spec:
        parts["probe"] = _probe(spec["probe"], f"{where}.probe")
    if "head_probes" in spec:
        parts["head_probes"] = _head_probes(spec["head_probes"], f"{where}.head_probes")
    if "replies" in spec:
        parts["replies"] = _replies(spec["replies"], f"{where}.replies")
    if "safety_score" in spec:
        parts["safety_score"] = _safety_score(spec["safety_score"], f"{where}.safety_score")
    if "rewriting" in spec:
        parts["rewriting"] = _rewriting(spec["rewriting"], f"{where}.rewriting")
    scorers = spec.get("scorers", [])
    if scorers == "panel":
        from detox.bench.scorers import PANEL

        scorers = list(PANEL)
    if not isinstance(scorers, list):
        raise InputError(f"{where}.scorers is {scorers!r}; expected a list, or panel for the default one")
    asked = [*parts.get("prompts", ()), *(parts["replies"].prompts if "replies" in parts else ())]
    # A scorer that is trained must not have seen these either.
    unseen = [*(parts["rewriting"].texts if "rewriting" in parts else ()), *parts.get("calibration", ())]
    asked += [Prompt(id=one.id, text=one.text) for one in unseen]
    parts["scorers"] = tuple(make_scorer(entry, asked) for entry in scorers)
    return Protocol(name=name, **parts)


_POOL = ("items", "train_size", "test_size", "subsamples", "seed", "regression")


def _probe(spec: Any, where: str) -> ProbeTask:
    if isinstance(spec, Mapping) and "items" in spec:
        require_keys(spec, _POOL, where)
    else:
        require_keys(spec, ("train", "test", "regression"), where, needed=("train", "test"))
    return ProbeTask(
        **_filled(ProbeTask, spec, {"items": LabelledText, "train": LabelledText, "test": LabelledText}, where)
    )


def _head_probes(spec: Any, where: str) -> HeadProbeTask:
    require_keys(spec, ("items", "heldout", "C", "seed", "split"), where, needed=("items",))
    return HeadProbeTask(**_filled(HeadProbeTask, spec, {"items": LabelledText}, where))


def _safety_score(spec: Any, where: str) -> SafetyScoreTask:
    require_keys(spec, ("items", "significance"), where, needed=("items",))
    return SafetyScoreTask(**_filled(SafetyScoreTask, spec, {"items": LabelledText}, where))


def _replies(spec: Any, where: str) -> ReplyTask:
    require_keys(spec, ("prompts", "judge", "template"), where, needed=("prompts",))
    values = _filled(ReplyTask, spec, {"prompts": Prompt}, where)
    return ReplyTask(**{**values, "judge": _judge(spec.get("judge", "phrases"), f"{where}.judge")})


def _rewriting(spec: Any, where: str) -> RewriteTask:
    wording = ("instruction", "closing", "frame")
    require_keys(spec, ("texts", "form", "embedder", *wording), where, needed=("texts",))
    given = {key: spec[key] for key in (*wording, "embedder") if key in spec}
    for key, value in given.items():
        if not isinstance(value, str):
            raise InputError(f"{where}: {key} is {value!r}; expected text")
    instructions = Instructions(
        **{("safe" if key == "instruction" else key): given[key] for key in wording if key in given}
    )
    values = _filled(
        RewriteTask, {key: spec[key] for key in ("texts", "form") if key in spec}, {"texts": LabelledText}, where
    )
    return RewriteTask(**values, instructions=instructions, embedder=load_embedder(given.get("embedder", MINILM)))


def _filled(task: type, spec: Mapping[str, Any], records: Mapping[str, type], where: str) -> dict[str, Any]:
    """Values of a task's fields: records read, plain values of the declared type."""
    plain = {key: value for key, value in spec.items() if key not in records}
    require_types(task, plain, where)
    return {**plain, **{k: read_records(records[k], v, where=f"{where}.{k}") for k, v in spec.items() if k in records}}


def _judge(spec: Any, where: str) -> Judge:
    """A judge by name, or one of the user's own phrases: {phrases: [REGULAR EXPRESSION, ...], name: NAME}."""
    if isinstance(spec, Mapping):
        require_keys(spec, ("phrases", "name"), where, needed=("phrases",))
        require_types(PhraseJudge, {k: v for k, v in spec.items() if k == "name"}, where)
        phrases = spec["phrases"]
        if not isinstance(phrases, list) or not all(isinstance(phrase, str) for phrase in phrases):
            raise InputError(f"{where}: phrases is {phrases!r}; expected a list of regular expressions")
        return PhraseJudge(name=str(spec.get("name", "own phrases")), phrases=tuple(phrases))
    if spec == "phrases":
        return PhraseJudge()
    if spec == "miniature":
        from detox.miniature import reply_judge

        made: Judge = reply_judge()
        return made
    raise UnknownName("judge of replies", str(spec), ("phrases", "miniature"))


def read_yaml(path: str | Path) -> Any:
    """What a YAML file holds.

    Raises:
        MissingData: no such file.
        DataError: not UTF-8 or not YAML; names the line.
    """
    if not Path(path).is_file():
        raise MissingData(f"no grid file {path}; expected YAML, as in benchmarks/grids/")
    try:
        return yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise DataError(f"{path}:1: byte {error.start} is not UTF-8; expected YAML") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        raise DataError(f"{path}:{line}: not YAML ({getattr(error, 'problem', error)})") from error


def require_keys(spec: Any, known: Sequence[str], where: str, *, needed: Sequence[str] = ()) -> None:
    """Refuse anything but a mapping with keys out of `known`, all of `needed` among them."""
    if not isinstance(spec, Mapping):
        raise InputError(f"{where} is {spec!r}; expected keys out of {', '.join(known)}")
    for key in spec:
        if key not in known:
            raise UnknownName(f"{where} key", str(key), known)
    absent = [key for key in needed if key not in spec]
    if absent:
        raise InputError(f"{where} has no {absent[0]}; expected {', '.join(needed)}")


_PLAIN = {"int": (int,), "float": (int, float), "str": (str,), "bool": (bool,), "None": (type(None),)}


def require_types(cls: type, values: Mapping[str, Any], where: str) -> None:
    """Refuse values of another type than the dataclass declares; declarations that are no plain type are left to the class."""
    for declaration in fields(cls):
        # A string, or a type where annotations are not postponed.
        declared = declaration.type.__name__ if isinstance(declaration.type, type) else str(declaration.type)
        known = [_PLAIN.get(part) for part in declared.split(" | ")]
        if declaration.name not in values or None in known:
            continue
        value, allowed = values[declaration.name], {kind for kinds in known for kind in kinds or ()}
        if not isinstance(value, tuple(allowed)) or (isinstance(value, bool) and bool not in allowed):
            hint = " (in YAML a number is written 1.0e-3)" if isinstance(value, str) and float in allowed else ""
            raise InputError(f"{where}: {declaration.name} is {value!r}; expected {declared}{hint}")
