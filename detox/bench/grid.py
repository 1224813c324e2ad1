"""Grid: what is to be compared, read from one YAML file and checked before anything is computed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detox.bench.base_entries import read_bases
from detox.bench.bases import Base
from detox.bench.guidance import read_sources
from detox.bench.protocols import ScorerMaker, build_protocol, read_yaml, require_keys, require_types
from detox.bench.sources import read_records
from detox.data.contrasts import Contrast
from detox.data.fit_sources import FitSources
from detox.detoxifiers import Detoxifier, find, make
from detox.errors import InputError, UnknownName
from detox.evaluation import Protocol

if TYPE_CHECKING:
    from detox.bench.tune_choices import Choice

GRID_KEYS = ("name", "bases", "fit", "detoxifiers", "protocols", "seeds", "curves", "aa")
CURVES = ("slung", "toxic-mix", "rewriting")


@dataclass(frozen=True, kw_only=True)
class Method:
    """A detoxifier of a grid, with the strengths at which it is measured.

    Attributes:
        name: as the grid calls it.
        method: as `detox.detoxifiers.find` knows it.
        settings: its hyperparameters.
        strengths: at least one; None is the method's default.
        bases: factors of the bases that it is measured on: a value, a list of them, or None for bases without; empty for all.
        control_of: name of the method that this one is a control of, which it has to beat; None for a method of its own.
        tuned: results of `detox tune`, which give strength and settings; empty where the grid gives them.
        choices: what these say, by the base's name.
    """

    name: str
    method: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    strengths: tuple[float | None, ...] = (None,)
    bases: Mapping[str, Any] = field(default_factory=dict)
    control_of: str | None = None
    tuned: str = ""
    choices: Mapping[str, Choice] = field(default_factory=dict)

    def suits(self, base: Base) -> bool:
        """Whether it is measured on this base."""
        return suits(base, self.bases)

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
        asked_of: factors of the bases that a protocol is asked of, by the protocol's name; all bases where there are none.
        seeds: of the sampling; each is a cell of its own.
        curves: which curves over bases are drawn of it, "slung", "toxic-mix" or "rewriting"; None for none.
        sources: where the contrasts come from, and which scorers had a say in them.
        aa: whether each base is measured once more with another seed of the sampling, as the noise floor of its comparison.
    """

    name: str
    bases: tuple[Base, ...]
    methods: tuple[Method, ...] = ()
    contrasts: tuple[Contrast, ...] = ()
    protocols: Mapping[str, Protocol] = field(default_factory=dict)
    asked_of: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0,)
    curves: str | None = None
    sources: FitSources = field(default_factory=FitSources)
    aa: bool = True

    def asked(self, protocol: str, seed: int) -> Protocol:
        """The protocol with one of the grid's seeds."""
        chosen = self.protocols[protocol]
        return replace(chosen, sampling=replace(chosen.sampling, seed=seed))


def suits(base: Base, wanted: Mapping[str, Any]) -> bool:
    """Whether a base has these factors: a list stands for any value in it, None for a base that has no such factor."""
    return all(
        base.factors.get(name) in (value if isinstance(value, list) else [value]) for name, value in wanted.items()
    )


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
    return build_grid(read_yaml(path), make_scorer=make_scorer)


def build_grid(raw: Any, *, make_scorer: ScorerMaker) -> Grid:
    """The grid that a parsed YAML file means; see `read_grid`."""
    require_keys(raw, GRID_KEYS, "grid")
    for key in ("name", "bases", "protocols"):
        if not raw.get(key):
            raise InputError(f"the grid has no {key}; expected it at the top level")
    if raw.get("curves") not in (None, *CURVES):
        raise UnknownName("kind of curves", str(raw["curves"]), CURVES)
    if not isinstance(raw.get("aa", True), bool):
        raise InputError(f"aa is {raw['aa']!r}; expected true (each base once more with another seed) or false")
    detoxifiers, protocols = (_named(raw, key) for key in ("detoxifiers", "protocols"))
    bases = read_bases(_named(raw, "bases"))
    methods = tuple(one for name, spec in detoxifiers.items() for one in _method(name, spec or {}, bases))
    fit = raw.get("fit") or {}
    require_keys(fit, ("contrasts", "sources"), "fit")
    learns = [method.name for method in methods if method.make().capabilities.needs_fit]
    if learns and "contrasts" not in fit:
        raise InputError(f"{learns[0]} learns from contrasts, but the grid has no fit: {{contrasts: ...}}")
    seeds = raw.get("seeds", [0])
    if not isinstance(seeds, list) or not seeds or not all(isinstance(seed, int) for seed in seeds):
        raise InputError(f"seeds is {seeds!r}; expected a list of whole numbers")
    contrasts = read_records(Contrast, fit["contrasts"], where="fit.contrasts") if "contrasts" in fit else ()
    built = {name: _protocol(name, spec, make_scorer) for name, spec in protocols.items()}
    for name, protocol in built.items():
        if len(seeds) > 1 and protocol.scorers and protocol.sampling.greedy:
            raise InputError(
                f"protocol {name!r} is greedy (temperature 0): the seeds {', '.join(map(str, seeds))} would give one text "
                f"{len(seeds)} times over; give one seed, or a temperature"
            )
    grid = Grid(
        name=str(raw["name"]),
        bases=bases,
        methods=methods,
        contrasts=contrasts,
        sources=read_sources(fit["contrasts"], contrasts, fit.get("sources")) if contrasts else FitSources(),
        protocols=built,
        asked_of={
            name: _wanted(spec["bases"], f"protocol {name!r}", bases)
            for name, spec in protocols.items()
            if "bases" in spec
        },
        seeds=tuple(seeds),
        curves=raw.get("curves"),
        aa=raw.get("aa", True),
    )
    if not any(method.tuned for method in methods):
        return grid
    from detox.bench.tune_choices import with_choices

    return with_choices(grid)


def _named(raw: Mapping[str, Any], key: str) -> dict[str, Any]:
    entries = raw.get(key) or {}
    if not isinstance(entries, Mapping):
        raise InputError(f"{key} is {entries!r}; expected a name for each: {key}: {{NAME: {{...}}}}")
    return {str(name): spec for name, spec in entries.items()}  # 2024 is a number to YAML


def _protocol(name: str, spec: Any, make_scorer: ScorerMaker) -> Protocol:
    """The protocol of one entry, without what strengths were chosen on where it is `held_out_of` a tuning."""
    if not isinstance(spec, Mapping):
        return build_protocol(name, spec, make_scorer)
    asked = {key: value for key, value in spec.items() if key not in ("bases", "held_out_of")}
    protocol = build_protocol(name, asked, make_scorer)
    if "held_out_of" not in spec:
        return protocol
    from detox.bench.tune_choices import held_out

    named = spec["held_out_of"]
    paths = named if isinstance(named, list) and named else [named]
    if not all(isinstance(path, str) and path for path in paths):
        raise InputError(
            f"protocol {name!r}: held_out_of is {named!r}; expected results of detox tune, or a list of them"
        )
    return held_out(protocol, paths)


def _wanted(factors: Any, where: str, bases: Sequence[Base]) -> Mapping[str, Any]:
    """The factors of the bases that something is for, some base of the grid among them."""
    if not isinstance(factors, Mapping):
        raise InputError(f"{where}: bases is {factors!r}; expected factors of bases: {{NAME: VALUE, ...}}")
    if not any(suits(base, factors) for base in bases):
        raise InputError(f"{where}: no base of the grid has the factors {dict(factors)!r}; expected some that do")
    return factors


def _strengths(strengths: Any, where: str) -> tuple[float | None, ...]:
    if not isinstance(strengths, list) or not strengths:
        raise InputError(f"{where}: strengths is {strengths!r}; expected a list of numbers")
    for strength in strengths:
        good = isinstance(strength, (int, float)) and not isinstance(strength, bool) and math.isfinite(strength)
        if strength is not None and not good:
            raise InputError(f"{where}: strengths holds {strength!r}; expected numbers")
    if None in strengths and len(strengths) > 1:
        raise InputError(f"{where}: strengths holds null beside numbers; write the default strength as a number")
    return tuple(None if s is None else float(s) for s in strengths)


def _method(name: str, spec: Mapping[str, Any], bases: Sequence[Base]) -> list[Method]:
    """The method of one entry, and the controls that it has to beat."""
    require_keys(spec, ("method", "settings", "strengths", "tuned", "bases", "controls"), f"detoxifier {name!r}")
    tuned = spec.get("tuned", "")
    if "tuned" in spec and (not isinstance(tuned, str) or not tuned):
        raise InputError(
            f"detoxifier {name!r}: tuned is {tuned!r}; expected results of detox tune: a folder, or a file of its tuned/"
        )
    if tuned and "strengths" in spec:
        raise InputError(
            f"detoxifier {name!r} has both strengths and tuned; a tuned one has the strength that was chosen"
        )
    chosen = _strengths(spec.get("strengths", [None]), f"detoxifier {name!r}")
    settings = spec.get("settings") or {}
    if not isinstance(settings, Mapping):
        raise InputError(f"detoxifier {name!r}: settings is {settings!r}; expected {{SETTING: VALUE, ...}}")
    suited = _wanted(spec.get("bases") or {}, f"detoxifier {name!r}", bases)
    method = Method(
        name=name,
        method=str(spec.get("method", name)),
        settings=settings,
        strengths=chosen,
        bases=suited,
        tuned=tuned,
    )
    require_types(find(method.method), settings, f"detoxifier {name!r}")
    method.make()  # an unknown method or setting is found now
    return [method, *_controls(method, spec.get("controls", {}), bases)]


def _controls(method: Method, spec: Any, bases: Sequence[Base]) -> list[Method]:
    """All controls that the method knows, at its own strengths and on its own bases, unless the grid says otherwise."""
    where = f"controls of {method.name!r}"
    known = find(method.method).controls
    if spec is False:
        return []
    if not isinstance(spec, Mapping):
        raise InputError(
            f"{where} is {spec!r}; expected false for none, or {{names: [...], strengths: [...], bases: {{...}}}}"
        )
    if spec and not known:
        raise InputError(f"{where}: {method.method} has none; leave the key out")
    require_keys(spec, ("names", "strengths", "bases"), where)
    names = spec.get("names", list(known))
    if not isinstance(names, list) or (not names and known):
        raise InputError(f"{where}: names is {names!r}; expected a list of {', '.join(known)}")
    for name in names:
        if name not in known:
            raise UnknownName("control", str(name), known)
    changes: dict[str, Any] = {"control_of": method.name}
    if "strengths" in spec and method.tuned:
        raise InputError(
            f"{where} have strengths, but {method.name!r} is tuned, and they stand at its strength; leave them out"
        )
    if "strengths" in spec:
        changes["strengths"] = _strengths(spec["strengths"], where)
    if "bases" in spec:
        changes["bases"] = {**method.bases, **_wanted(spec["bases"], where, bases)}
    return [
        replace(method, name=f"{method.name} ({name})", settings={**method.settings, **known[name]}, **changes)
        for name in names
    ]
