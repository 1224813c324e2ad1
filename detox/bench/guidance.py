"""What guided a fit, as a grid or a command line names its data: for the record, and for who may rank it."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from detox.data import catalogue
from detox.data.contrasts import Contrast, digest
from detox.data.fit_sources import ROLES, FitSources, Guide
from detox.data.lineage import PARENTS
from detox.detoxifiers import Detoxifier
from detox.errors import InputError, require_known
from detox.evaluation import Scorecard

_SUFFIXES = (".jsonl.gz", ".jsonl")


def read_sources(spec: Mapping[str, Any], contrasts: Sequence[Contrast], declared: Any = None) -> FitSources:
    """The sources of a fit.

    Args:
        spec: how the contrasts are named, {set: NAME, ...} or {file: PATH, ...}; see `detox.bench.sources.read_records`. Beside a
            file that `detox contrasts make` wrote lies its record, which names seeds and scorers.
        contrasts: those that the spec gave.
        declared: {datasets: [...], scorers: [...]} where the user says it: names of sets, and of scorers that labelled or filtered.
            It is added to what the spec tells, and takes the place of what nobody would know.

    Raises:
        InputError: declared is something else.
        UnknownName: another key in it.
    """
    found = _of_spec(spec, contrasts)
    if declared is None:
        return found
    if not isinstance(declared, Mapping):
        raise InputError(f"fit.sources is {declared!r}; expected {{datasets: [...], scorers: [...]}}")
    for key in declared:
        require_known("key of fit.sources", key, ("datasets", "scorers"))
    datasets, scorers = (_names(declared.get(key, []), f"fit.sources.{key}") for key in ("datasets", "scorers"))
    guides = tuple(Guide(name=name, role="labelled or filtered", trained_on=_trained_on(name)) for name in scorers)
    return replace(found, datasets=(*found.datasets, *datasets), guides=(*found.guides, *guides), unknown=())


def note_sources(detoxifier: Detoxifier, sources: FitSources) -> None:
    """Write into a fit what it learned from: it is saved with it, and its card names it. Nothing where a method does not learn."""
    fitted = getattr(detoxifier, "fitted_on_", None)
    if fitted is not None:
        fitted["sources"] = sources.to_dict()


def fits_of(cells: Iterable[Mapping[str, Any]], *, besides: Collection[str] = ()) -> dict[str, FitSources | None]:
    """By method, what its fits learned from, as the cells' records say it; None where they do not. Methods that do not learn are left out.

    Args:
        cells: `cell.json` of each, or names alone, of which nothing is known.
        besides: methods that are left out: controls, which learn from what their method does.
    """
    found: dict[str, FitSources | None] = {}
    for cell in cells:
        method, fit = cell["method"], (cell.get("identity") or {}).get("method")
        chose = (cell.get("chosen_on") or {}).get("scorer")
        # No method but a name: the base against itself.
        learns = fit is not None and fit.get("contrasts") is not None
        if method is None or method in besides or not (learns or chose):
            continue
        raw = cell.get("fit", {}).get("sources")
        sources = FitSources() if not learns else None if raw is None else FitSources.from_dict(raw)
        if sources is not None and chose:
            guide = Guide(
                name=chose["name"], role=ROLES[2], revision=chose["revision"], trained_on=tuple(chose["trained_on"])
            )
            sources = replace(sources, guides=(*sources.guides, guide))
        before = found.get(method, sources)
        found[method] = None if sources is None or before is None else _joined(before, sources)
    return found


def cards_of(scorecard: Scorecard) -> dict[str, Mapping[str, Any]]:
    """The cards of a record's scorers by name; empty in records made before they were kept."""
    return {card["name"]: card for card in scorecard.protocol.get("scorer_cards", ())}


def _joined(first: FitSources, second: FitSources) -> FitSources:
    return FitSources(
        **{
            name: tuple(dict.fromkeys((*getattr(first, name), *getattr(second, name))))
            for name in ("datasets", "guides", "unknown")
        }
    )


def _of_spec(spec: Mapping[str, Any], contrasts: Sequence[Contrast]) -> FitSources:
    if "set" in spec:
        name = str(spec["set"])
        known = name == "miniature" or name in catalogue.CATALOGUE
        return FitSources(datasets=(name,), unknown=() if known else (name,))
    path = Path(spec["file"])
    record = _record(path, contrasts)
    if record is None:
        return FitSources(datasets=(path.name,), unknown=(path.name,))
    seeds = str(record["seeds"].get("from", path.name))
    known = seeds in catalogue.CATALOGUE or seeds in PARENTS
    guides = tuple(
        Guide(
            name=card["name"],
            role="filtered",
            revision=card.get("revision"),
            trained_on=tuple(card.get("trained_on", ())),
        )
        for card in record["filters"]["toxicity"]["scorers"]
    )
    return FitSources(datasets=(seeds,), guides=guides, unknown=() if known else (seeds,))


def _record(path: Path, contrasts: Sequence[Contrast]) -> dict[str, Any] | None:
    """The record beside a file of made contrasts; None where there is none, or it is of other contrasts than these."""
    stem = next((path.name[: -len(end)] for end in _SUFFIXES if path.name.endswith(end)), path.stem)
    beside = path.with_name(f"{stem}.record.json")
    if not beside.is_file():
        return None
    try:
        record = json.loads(beside.read_text(encoding="utf-8"))
        written, same = record["contrasts"]["written"], record["contrasts"]["sha256"] == digest(contrasts)
        _ = [card["name"] for card in record["filters"]["toxicity"]["scorers"]], record["seeds"].get("from")
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    # Of a part of the file (a limit, a half) the digest is another; the record still says who filtered it.
    return record if same or len(contrasts) < written else None


def _trained_on(name: str) -> tuple[str, ...]:
    from detox.scorers import PRESETS

    return PRESETS[name].trained_on if name in PRESETS else ()


def _names(values: Any, where: str) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise InputError(f"{where} is {values!r}; expected a list of names")
    return tuple(values)
