"""Named protocols: one YAML file each, beside a table of what their papers and their authors' code ask.

A preset holds `title`, `protocol` (an entry as under a grid's `protocols`) and `deviations` (field: why it is not as in the source).
`sources.yaml` says what the source has in each field, and where that was read.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from detox.errors import InputError, require_known
from detox.evaluation import Protocol
from detox.models import Sampling

_FOLDER = Path(__file__).parent
_ORDER = (
    "quick", "standard", "rtp-2020", "dexperts-10k", "slung", "bad-data", "bad-data-toxigen", "dpo-toxic", "aura", "act", "profs",
    "helm-rtp", "cpert",
)  # fmt: skip
UNKNOWN = "?"
"""What a source has where nobody could read it."""


def names() -> tuple[str, ...]:
    """Names of the presets: ours, then those of papers."""
    return _ORDER


@cache
def preset(name: str) -> Preset:
    """A preset by name.

    Raises:
        UnknownName: there is none; names the nearest.
    """
    require_known("preset", name, _ORDER)
    file = yaml.safe_load((_FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    source = yaml.safe_load((_FOLDER / "sources.yaml").read_text(encoding="utf-8"))[name]
    return Preset(
        name=name,
        title=file["title"],
        source=source["source"],
        prompts=source["prompts"],
        protocol=file["protocol"],
        asked={field: Asked(*found) for field, found in source["asked"].items()},
        reasons=file["deviations"],
    )


def expanded(entry: Mapping[str, Any], where: str) -> tuple[str, dict[str, Any], tuple[str, ...]]:
    """What an entry {preset: NAME, KEY: VALUE, ...} means: the preset's keys, changed as the others say.

    A mapping changes the preset's key by key (`prompts: {limit: 20}`), unless it names other records (`set` or `file`); null takes
    the key away; anything else replaces what is there.

    Returns:
        The name to show ("quick (changed: prompts.limit)"), the entry without `preset`, and a line for every deviation from the source
        and every change.

    Raises:
        UnknownName: no such preset.
        InputError: it is not named by text.
    """
    if not isinstance(entry["preset"], str):
        raise InputError(f"{where}: preset is {entry['preset']!r}; expected one of {', '.join(_ORDER)}")
    chosen = preset(entry["preset"])
    spec, changed = _merged(chosen.protocol, {key: value for key, value in entry.items() if key != "preset"}, "")
    notes = [
        f"{one.field}: {chosen.name} asks {shown(one.asked.value)}, here {shown(one.here)}: {one.reason}"
        for one in chosen.deviations()
        if not any(one.field == path or one.field.startswith(f"{path}.") for path in changed)
    ]
    notes += [f"{path} is changed: {shown(lookup(spec, path))}" for path in changed]
    return (f"{chosen.name} (changed: {', '.join(changed)})" if changed else chosen.name), spec, tuple(notes)


def _merged(old: Mapping[str, Any], changes: Mapping[str, Any], path: str) -> tuple[dict[str, Any], list[str]]:
    spec, changed = dict(old), []
    for key, value in changes.items():
        place, before = f"{path}{key}", spec.get(key)
        if isinstance(value, Mapping) and isinstance(before, Mapping) and not {"set", "file"} & value.keys():
            spec[key], inner = _merged(before, value, f"{place}.")
            changed += inner
            continue
        if value is None:
            spec.pop(key, None)
        else:
            spec[key] = value
        if value != before:
            changed.append(place)
    return spec, changed


def lookup(spec: Mapping[str, Any], path: str) -> Any:
    """The value that an entry has in a field, by its path ("sampling.top_p", "scorers.0"); the default where it does not say.

    "tasks" are the names of the multiple-choice tasks, without "_local". None where there is no such thing.
    """
    if path == "tasks":
        return sorted(task.removesuffix("_local") for task in spec.get("multiple_choice", {})) or None
    place: Any = {**_defaults(Protocol), **spec, "sampling": {**_defaults(Sampling), **spec.get("sampling", {})}}
    for part in path.split("."):
        if isinstance(place, list) and part.isdigit() and int(part) < len(place):
            place = place[int(part)]
        elif isinstance(place, Mapping):
            place = place.get(part)
        else:
            return None
    if isinstance(place, Mapping) and place.get("trained") is True:
        return "trained on Perspective's published scores"
    return place


def _defaults(cls: type) -> dict[str, Any]:
    plain = (str, int, float, bool)
    return {field.name: field.default for field in fields(cls) if isinstance(field.default, plain)}


def shown(value: Any) -> str:
    """A value of a field, for people."""
    if value is None:
        return "none"
    if value == UNKNOWN:
        return "not known"
    if isinstance(value, float | int) and not isinstance(value, bool):
        return f"{value:,}" if isinstance(value, int) else f"{value:g}"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


@dataclass(frozen=True)
class Asked:
    """What a source has in one field.

    Attributes:
        value: "?" where it is not known.
        where: the part of the paper or the file that says so.
        evidence: "primary" where that was read there, "secondary" where in notes on it, "memory" where in neither.
    """

    value: Any
    where: str
    evidence: str


@dataclass(frozen=True)
class Deviation:
    """A field in which a preset is not as its source."""

    field: str
    asked: Asked
    here: Any
    reason: str


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A named protocol and its source.

    Attributes:
        name, title: for people.
        source: paper and code.
        prompts: how many prompts the source has; None where nobody could read it.
        protocol: an entry as under a grid's `protocols`.
        asked: what the source has, by field.
        reasons: of deviations, by field.
    """

    name: str
    title: str
    source: str
    prompts: int | None
    protocol: Mapping[str, Any]
    asked: Mapping[str, Asked]
    reasons: Mapping[str, str]

    def deviations(self) -> Iterator[Deviation]:
        """Every field in which it is not as the source, with the reason.

        Raises:
            InputError: a deviation without a reason, or a reason without a deviation.
        """
        found = set()
        for field, asked in self.asked.items():
            here = lookup(self.protocol, field)
            if here != asked.value:
                if field not in self.reasons:
                    raise InputError(
                        f"preset {self.name!r}: {field} is {here!r}, its source has {asked.value!r}; expected a reason under deviations"
                    )
                found.add(field)
                yield Deviation(field, asked, here, self.reasons[field])
        for field in self.reasons:
            if field not in found:
                near = difflib.get_close_matches(field, self.asked, n=1)
                raise InputError(
                    f"preset {self.name!r}: {field} is under deviations, but it is as in the source"
                    f"{f' (did you mean {near[0]!r}?)' if near and near[0] != field else ''}"
                )
