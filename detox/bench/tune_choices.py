"""What `detox tune` chose, for a grid: `tuned: RESULTS` of a detoxifier, and `held_out_of: RESULTS` of a protocol.

A choice is taken over only for the method, the fit and the base that it was made for, and is measured on nothing that it was made on.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from detox.bench.base_work import fit_identity
from detox.bench.cells import digest
from detox.bench.grid import Grid, Method, suits
from detox.bench.prompt_splits import DEVELOPMENT, ids_hash, text_hash
from detox.bench.tune_records import read_tune_records, why_nothing
from detox.errors import InputError
from detox.evaluation import Protocol


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A strength and settings that were chosen on development prompts for one method on one base.

    Attributes:
        base: its name, there and in the grid.
        identity: of that base; see `detox.bench.cells.base_identity`.
        strength, settings: the second with those that were not searched.
        chosen_on: for the record of a cell: the part, hash of its prompts, the scorer that led, and the digest of the tune record.
        told: how it was chosen, for people.
        prompts, documents: hashes of the texts that had a say.
    """

    base: str
    identity: Mapping[str, Any]
    strength: float | None
    settings: Mapping[str, Any]
    chosen_on: Mapping[str, Any]
    told: str
    prompts: frozenset[str]
    documents: frozenset[str]

    def require_base(self, identity: Mapping[str, Any]) -> None:
        """Refuse a base that is another than the one of the choice, whatever its name.

        Raises:
            InputError: says what differs.
        """
        if dict(self.identity) == dict(identity):
            return
        files = [dict(one.get("files", {})) for one in (self.identity, identity)]
        different = sorted(name for name in {**files[0], **files[1]} if files[0].get(name) != files[1].get(name))
        keys = [key for key in {**self.identity, **identity} if self.identity.get(key) != identity.get(key)]
        raise InputError(
            f"tuned: the base {self.base!r} is not the one that the strength was chosen on; they differ in "
            f"{', '.join(different or keys)}; tune on this base"
        )


def with_choices(grid: Grid) -> Grid:
    """The grid with the choices of its tuned methods, by base.

    Raises:
        MissingData, DataError: no record of `detox tune`, or a damaged one; see `read_tune_records`.
        InputError: no choice for a base; one for another method or fit; one that was made on prompts or documents of the grid.
    """
    methods = tuple(replace(one, choices=_choices(grid, one)) if one.tuned else one for one in grid.methods)
    found = replace(grid, methods=methods)
    for base in grid.bases:
        for method in methods:
            if method.suits(base) and base.name in method.choices:
                for name, protocol in grid.protocols.items():
                    if suits(base, grid.asked_of.get(name, {})):
                        _require_unseen(method, method.choices[base.name], protocol)
    return found


def held_out(protocol: Protocol, paths: Sequence[str]) -> Protocol:
    """The protocol without the prompts and documents that strengths were chosen on.

    Args:
        protocol: of a grid.
        paths: results of `detox tune`.

    Raises:
        InputError: nothing is left. MissingData, DataError: see `read_tune_records`.
    """
    records = [record for path in paths for _, record in read_tune_records(path)]
    seen = {part: {text for record in records for text in record["seen"][part]} for part in ("prompts", "documents")}
    parts: dict[str, Any] = {
        part: tuple(one for one in getattr(protocol, part) if text_hash(one.text) not in seen[part]) for part in seen
    }
    out = {part: len(getattr(protocol, part)) - len(kept) for part, kept in parts.items()}
    for part, kept in parts.items():
        if out[part] and len(kept) < 2:
            raise InputError(
                f"protocol {protocol.name!r}: of its {len(getattr(protocol, part))} {part}, {len(kept)} had no say in a choice of "
                f"{', '.join(paths)}; give it more, or other ones"
            )
    note = f"held out: {out['prompts']} prompts and {out['documents']} documents that strengths were chosen on are left out"
    return replace(protocol, **parts, notes=(note, *protocol.notes)) if any(out.values()) else protocol


def chosen_lines(grid: Grid) -> list[str]:
    """What was chosen, a line a base and method of the grid; for its plan."""
    return [
        f"tuned: {method.name} on {base.name}: {method.choices[base.name].told}"
        for base in grid.bases
        for method in grid.methods
        if method.control_of is None and method.suits(base) and base.name in method.choices
    ]


def _choices(grid: Grid, method: Method) -> dict[str, Choice]:
    records = read_tune_records(method.tuned)
    where = f"detoxifier {method.name!r}: tuned"
    own = [(path, record) for path, record in records if record["asked"]["method"] == method.method]
    if not own:
        methods = ", ".join(dict.fromkeys(record["asked"]["method"] for _, record in records))
        raise InputError(
            f"{where}: {method.tuned} is of {methods}, not of {method.method}; tune it, or name its results"
        )
    name = method.control_of or method.name
    if any(record["method"] == name for _, record in own):  # of several entries of one method, the one of this name
        own = [(path, record) for path, record in own if record["method"] == name]
    found = {}
    for base in (base.name for base in grid.bases if method.suits(base)):
        of_base = [(path, record) for path, record in own if record["base"] == base]
        if not of_base:
            bases = ", ".join(dict.fromkeys(record["base"] for _, record in own))
            raise InputError(f"{where}: {method.tuned} has {method.method} on {bases}, not on {base}; tune it there, or leave the base "
                             f"out by bases: {{...}}")  # fmt: skip
        if len(of_base) > 1:
            paths = " or ".join(str(path) for path, _ in of_base)
            raise InputError(f"{where}: {method.tuned} has {len(of_base)} choices for {base}; name one: tuned: {paths}")
        found[base] = _choice(grid, method, *of_base[0])
    return found


def _choice(grid: Grid, method: Method, path: Path, record: Mapping[str, Any]) -> Choice:
    where, asked, chosen = f"detoxifier {method.name!r}: tuned", record["asked"], record["chosen"]
    if chosen is None:
        raise InputError(
            f"{where}: {path} chose nothing: no point within +{record['budget']:g} nats is less toxic than the base"
            f"{why_nothing(record)}; tune over another range or with another budget, or leave it out"
        )
    settings = {**asked["fixed"], **chosen["settings"]}
    if method.control_of is None:
        for key, value in method.settings.items():
            if key not in settings or settings[key] != json.loads(json.dumps(value)):
                there = repr(settings[key]) if key in settings else "left as it is"
                raise InputError(f"{where}: {key} is {value!r} in the grid, but was {there} in {path}; leave the settings out, the "
                                 "choice has them")  # fmt: skip
    fixed = replace(method, settings=asked["fixed"])
    fit = json.loads(json.dumps(fit_identity(grid, fixed, fixed.make())))
    if fit != asked["fit"]:
        keys = sorted(key for key in {**fit, **asked["fit"]} if fit.get(key) != asked["fit"].get(key))
        what = {"contrasts": "contrasts (fit:)", "sha256": "text of the method's file"}
        raise InputError(
            f"{where}: {path} is of another fit; {' and '.join(what.get(key, key) for key in keys)} differ; tune with those of the grid"
        )
    parts = [
        *([] if chosen["strength"] is None else [f"strength {chosen['strength']:g}"]),
        *(f"{key} {value}" for key, value in chosen["settings"].items()),
    ]
    sha, points, size = digest(record), len(record["development"]), record["split"]["development"]["prompts"]
    told = (
        f"{', '.join(parts) or 'as it is'}, the best of {points} points on {size} development prompts by {record['scorer']}, within "
        f"+{record['budget']:g} nats (record {sha})"
    )
    chosen_on = {
        "part": DEVELOPMENT,
        "prompt_ids_sha256": ids_hash(record["chosen_on"]["prompt_ids"]),
        "scorer": record["chosen_on"]["scorer"],
        "budget": record["budget"],
        "points": points,
        "record": sha,
    }
    seen = {part: frozenset(record["seen"][part]) for part in ("prompts", "documents")}
    return Choice(base=record["base"], identity=asked["base"], strength=chosen["strength"], settings=settings,
                  chosen_on=chosen_on, told=told, **seen)  # fmt: skip


def _require_unseen(method: Method, choice: Choice, protocol: Protocol) -> None:
    for part, seen in (("prompts", choice.prompts), ("documents", choice.documents)):
        texts: Iterable[str] = (one.text for one in getattr(protocol, part))
        shared = sum(text_hash(text) in seen for text in texts)
        if shared:
            raise InputError(
                f"{shared} of the {len(getattr(protocol, part))} {part} of protocol {protocol.name!r} are among those that the strength of "
                f"{method.name!r} was chosen on; leave them out by held_out_of: {method.tuned} in the protocol, or give it others"
            )
