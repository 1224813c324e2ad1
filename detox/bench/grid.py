"""Grid: what is to be compared, read from one YAML file and checked before anything is computed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml

from detox.bench.bases import Base, RealCorpus
from detox.bench.sources import read_records
from detox.data.contrasts import Contrast
from detox.data.records import Document, LabelledText, MinimalPair, MultipleChoice, Prompt
from detox.detoxifiers import Detoxifier, find, make
from detox.errors import DataError, InputError, MissingData, UnknownName
from detox.evaluation import ProbeTask, Protocol, Recognition
from detox.models import Sampling
from detox.scorers import Scorer

GRID_KEYS = ("name", "bases", "fit", "detoxifiers", "protocols", "seeds")
_PROTOCOL_KEYS = (
    "prompts", "sampling", "scorers", "scored", "threshold", "chat", "documents", "multiple_choice", "minimal_pairs",
    "recognition", "probe", "contrasts",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Method:
    """A detoxifier of a grid, with the strengths at which it is measured.

    Attributes:
        name: as the grid calls it.
        method: as `detox.detoxifiers.find` knows it.
        settings: its hyperparameters.
        strengths: at least one; None is the method's default.
    """

    name: str
    method: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    strengths: tuple[float | None, ...] = (None,)

    def make(self) -> Detoxifier:
        """A fresh detoxifier."""
        return make(self.method, dict(self.settings))


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Everything that will be compared: bases x (nothing and every method at every strength) x protocols x seeds.

    Attributes:
        name: for people.
        bases: models.
        methods: detoxifiers.
        contrasts: what methods that learn are fitted on.
        protocols: what is asked, by name.
        seeds: of the sampling; each is a cell of its own.
    """

    name: str
    bases: tuple[Base, ...]
    methods: tuple[Method, ...] = ()
    contrasts: tuple[Contrast, ...] = ()
    protocols: Mapping[str, Protocol] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0,)

    def asked(self, protocol: str, seed: int) -> Protocol:
        """The protocol with one of the grid's seeds."""
        chosen = self.protocols[protocol]
        return replace(chosen, sampling=replace(chosen.sampling, seed=seed))


ScorerMaker = Callable[[Any, Sequence[Prompt]], Scorer]


def read_grid(path: str | Path, *, make_scorer: ScorerMaker) -> Grid:
    """Read and check a grid file.

    Args:
        path: YAML.
        make_scorer: gives the scorer of a spec, knowing the protocol's prompts (which a trained scorer must not have seen).

    Raises:
        MissingData: no such file, or data that is not there.
        DataError: not YAML; names the line.
        UnknownName: a key, method, setting, scorer or data set that is not known, with the nearest name.
        InputError: anything else that is wrong, in one line.
    """
    return build_grid(_read_yaml(path), make_scorer=make_scorer)


def read_protocol(source: str | Path | Mapping[str, Any], *, seed: int, make_scorer: ScorerMaker) -> Protocol:
    """A protocol alone: a YAML file, or a mapping, of the form of one entry of a grid's `protocols`.

    Raises:
        See `read_grid`.
    """
    raw = source if isinstance(source, Mapping) else _read_yaml(source)
    name = "protocol" if isinstance(source, Mapping) else Path(source).stem
    protocol = _protocol(name, raw, make_scorer)
    return replace(protocol, sampling=replace(protocol.sampling, seed=seed))


def build_grid(raw: Any, *, make_scorer: ScorerMaker) -> Grid:
    """The grid that a parsed YAML file means; see `read_grid`."""
    _require_keys(raw, GRID_KEYS, "grid")
    for key in ("name", "bases", "protocols"):
        if not raw.get(key):
            raise InputError(f"the grid has no {key}; expected it at the top level")
    bases, detoxifiers, protocols = (_named(raw, key) for key in ("bases", "detoxifiers", "protocols"))
    methods = tuple(_method(name, spec or {}) for name, spec in detoxifiers.items())
    fit = raw.get("fit") or {}
    _require_keys(fit, ("contrasts",), "fit")
    learns = [method.name for method in methods if method.make().capabilities.needs_fit]
    if learns and "contrasts" not in fit:
        raise InputError(f"{learns[0]} learns from contrasts, but the grid has no fit: {{contrasts: ...}}")
    seeds = raw.get("seeds", [0])
    if not isinstance(seeds, list) or not seeds or not all(isinstance(seed, int) for seed in seeds):
        raise InputError(f"seeds is {seeds!r}; expected a list of whole numbers")
    return Grid(
        name=str(raw["name"]),
        bases=tuple(_base(name, spec) for name, spec in bases.items()),
        methods=methods,
        contrasts=read_records(Contrast, fit["contrasts"], where="fit.contrasts") if "contrasts" in fit else (),
        protocols={name: _protocol(name, spec, make_scorer) for name, spec in protocols.items()},
        seeds=tuple(seeds),
    )


def _read_yaml(path: str | Path) -> Any:
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


def _require_keys(spec: Any, known: Sequence[str], where: str, *, needed: Sequence[str] = ()) -> None:
    if not isinstance(spec, Mapping):
        raise InputError(f"{where} is {spec!r}; expected keys out of {', '.join(known)}")
    for key in spec:
        if key not in known:
            raise UnknownName(f"{where} key", str(key), known)
    absent = [key for key in needed if key not in spec]
    if absent:
        raise InputError(f"{where} has no {absent[0]}; expected {', '.join(needed)}")


def _named(raw: Mapping[str, Any], key: str) -> dict[str, Any]:
    entries = raw.get(key) or {}
    if not isinstance(entries, Mapping):
        raise InputError(f"{key} is {entries!r}; expected a name for each: {key}: {{NAME: {{...}}}}")
    return {str(name): spec for name, spec in entries.items()}  # 2024 is a number to YAML


_PLAIN = {"int": (int,), "float": (int, float), "str": (str,), "bool": (bool,), "None": (type(None),)}


def _require_types(cls: type, values: Mapping[str, Any], where: str) -> None:
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


def _base(name: str, spec: Any) -> Base:
    _require_keys(spec, ("model", "revision", "dtype", "pretrain"), f"base {name!r}")
    if ("model" in spec) == ("pretrain" in spec):
        raise InputError(f"base {name!r} must have either a model (hub id or path) or a pretrain recipe")
    if "model" in spec:
        revision = None if spec.get("revision") is None else str(spec["revision"])
        return Base(name=name, model=str(spec["model"]), revision=revision, dtype=spec.get("dtype"))
    recipe = spec["pretrain"]
    if isinstance(recipe, Mapping) and recipe.get("data") == "miniature":
        from detox.bench.miniature import MiniatureCorpus

        _require_types(MiniatureCorpus, recipe, f"pretrain of {name!r}")
        return Base(name=name, dtype=spec.get("dtype"), corpus=MiniatureCorpus.from_dict(recipe))
    _require_keys(recipe, [*RealCorpus.__dataclass_fields__, "data"], f"pretrain of {name!r}")
    _require_types(RealCorpus, recipe, f"pretrain of {name!r}")
    return Base(name=name, dtype=spec.get("dtype"), corpus=RealCorpus.from_dict(recipe))


def _method(name: str, spec: Mapping[str, Any]) -> Method:
    _require_keys(spec, ("method", "settings", "strengths"), f"detoxifier {name!r}")
    strengths = spec.get("strengths", [None])
    if not isinstance(strengths, list) or not strengths:
        raise InputError(f"detoxifier {name!r}: strengths is {strengths!r}; expected a list of numbers")
    for strength in strengths:
        good = isinstance(strength, (int, float)) and not isinstance(strength, bool) and math.isfinite(strength)
        if strength is not None and not good:
            raise InputError(f"detoxifier {name!r}: strengths holds {strength!r}; expected numbers")
    chosen = tuple(None if s is None else float(s) for s in strengths)
    settings = spec.get("settings") or {}
    if not isinstance(settings, Mapping):
        raise InputError(f"detoxifier {name!r}: settings is {settings!r}; expected {{SETTING: VALUE, ...}}")
    method = Method(name=name, method=str(spec.get("method", name)), settings=settings, strengths=chosen)
    _require_types(find(method.method), settings, f"detoxifier {name!r}")
    method.make()  # an unknown method or setting is found now
    return method


def _protocol(name: str, spec: Any, make_scorer: ScorerMaker) -> Protocol:
    where = f"protocol {name!r}"
    _require_keys(spec, _PROTOCOL_KEYS, where)
    parts: dict[str, Any] = {key: spec[key] for key in ("scored", "threshold", "chat") if key in spec}
    _require_types(Protocol, parts, where)
    for key, record in (
        ("prompts", Prompt), ("documents", Document), ("minimal_pairs", MinimalPair), ("contrasts", Contrast),
    ):  # fmt: skip
        if key in spec:
            parts[key] = read_records(record, spec[key], where=f"{where}.{key}")
    if "sampling" in spec:
        sampling = spec["sampling"]
        _require_keys(sampling, list(asdict(Sampling())), f"{where}.sampling")
        if "seed" in sampling:
            raise InputError(f"{where}.sampling: the seed is the grid's (seeds: [...])")
        _require_types(Sampling, sampling, f"{where}.sampling")
        parts["sampling"] = Sampling(**sampling)
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
    if "recognition" in spec:
        entry = spec["recognition"]
        _require_keys(entry, ("items", "template", "toxic", "safe"), f"{where}.recognition", needed=("items",))
        _require_types(Recognition, {k: v for k, v in entry.items() if k != "items"}, f"{where}.recognition")
        items = read_records(LabelledText, entry["items"], where=f"{where}.recognition.items")
        parts["recognition"] = Recognition(items=items, **{k: v for k, v in entry.items() if k != "items"})
    if "probe" in spec:
        _require_keys(spec["probe"], ("train", "test"), f"{where}.probe", needed=("train", "test"))
        parts["probe"] = ProbeTask(
            **{k: read_records(LabelledText, v, where=f"{where}.probe.{k}") for k, v in spec["probe"].items()}
        )
    scorers = spec.get("scorers", [])
    if not isinstance(scorers, list):
        raise InputError(f"{where}.scorers is {scorers!r}; expected a list")
    parts["scorers"] = tuple(make_scorer(entry, parts.get("prompts", ())) for entry in scorers)
    return Protocol(name=name, **parts)
