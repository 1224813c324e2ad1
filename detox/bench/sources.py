"""The data that a grid names: records of the catalogue, of the miniature, or of a file of the user's."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from detox.data import catalogue, read_contrasts, read_jsonl
from detox.data.contrasts import Contrast
from detox.data.records import Document, LabelledText, MinimalPair, MultipleChoice, Prompt
from detox.errors import InputError, UnknownName

Record = TypeVar("Record")

_KEYS = ("set", "file", "split", "limit", "seed", "half", "longest", "characters", "group")

# What the miniature gives where a grid says `set: miniature`.
_MINIATURE: dict[type, str] = {
    Prompt: "prompts",
    Document: "heldout_documents",
    LabelledText: "verdicts",
    MultipleChoice: "facts",
    MinimalPair: "minimal_pairs",
    Contrast: "contrasts",
}


def read_records(record: type[Record], spec: Any, *, where: str) -> tuple[Record, ...]:
    """The records that a grid entry names.

    Args:
        record: the type wanted.
        spec: {set: NAME, split: ..., limit: ..., seed: ...} of the catalogue; {set: miniature, limit: ..., seed: ..., split: ...};
            or {file: PATH.jsonl}. `half: 0` or `1` keeps one of two halves by a hash of the id; `longest` leaves out texts of more
            characters (before the limit); `characters` cuts documents; `group` keeps one group of prompts.
        where: the entry's place, for messages.

    Raises:
        UnknownName: an unknown key or set.
        MissingData: the data is not there.
        InputError: an entry that names nothing.
    """
    if not isinstance(spec, Mapping):
        raise InputError(f"{where} is {spec!r}; expected {{set: NAME, ...}} or {{file: PATH}}")
    for key in spec:
        if key not in _KEYS:
            raise UnknownName(f"key of {where}", str(key), _KEYS)
    if ("set" in spec) == ("file" in spec):
        raise InputError(f"{where} must name either a set or a file; it names {'both' if 'set' in spec else 'neither'}")
    filtered = bool({"file", "half", "longest"} & spec.keys())
    if "file" in spec:
        if "split" in spec:
            raise InputError(f"{where}: a file has no split {spec['split']!r}; leave it out, or give another file")
        records = _from_file(record, Path(spec["file"]))
    elif spec["set"] == "miniature":
        records = _from_miniature(record, spec, where)
    else:
        records = catalogue.load_as(
            record,  # type: ignore[type-var]
            spec["set"],
            split=spec.get("split"),
            limit=None if filtered else spec.get("limit"),
            seed=int(spec.get("seed", 0)),
        )
    if "half" in spec:
        records = [r for r in records if _half(r.id) == int(spec["half"])]  # type: ignore[attr-defined]
    if "longest" in spec:
        records = [r for r in records if len(_text(r, where)) <= int(spec["longest"])]
    if filtered and spec.get("limit") is not None:
        from detox.data.subsets import draw

        records = draw(records, int(spec["limit"]), seed=int(spec.get("seed", 0)))  # type: ignore[type-var]
    if "group" in spec:
        records = [r for r in records if getattr(r, "group", None) == spec["group"]]
    if "characters" in spec:
        records = [_cut(r, int(spec["characters"])) for r in records]
    if not records:
        raise InputError(f"{where} holds no records; expected at least one")
    return tuple(records)


def _text(record: Any, where: str) -> str:
    if not hasattr(record, "text"):
        raise InputError(f"{where}: `longest` is about records with a text, which {type(record).__name__} has not")
    return str(record.text)


def _half(key: str) -> int:
    return hashlib.sha256(key.encode()).digest()[0] % 2


def _cut(record: Record, characters: int) -> Record:
    if not isinstance(record, Document):
        raise InputError("`characters` cuts documents; this entry holds other records")
    return Document(id=record.id, text=record.text[:characters], source=record.source)  # type: ignore[return-value]


def _from_miniature(record: type[Record], spec: Mapping[str, Any], where: str) -> list[Record]:
    import detox.miniature as miniature

    make: Callable[..., list[Record]] = getattr(miniature, _MINIATURE[record])
    if "limit" not in spec:
        raise InputError(f"{where}: the miniature makes as many as are asked for; give a limit")
    options = {key: spec[key] for key in ("seed", "split") if key in spec}
    return list(make(int(spec["limit"]), **options))


def _from_file(record: type[Record], path: Path) -> list[Record]:
    if record is Contrast:
        return list(read_contrasts(path))  # type: ignore[arg-type]
    from dataclasses import MISSING, fields

    known = [f.name for f in fields(record)]  # type: ignore[arg-type]
    needed = [f.name for f in fields(record) if f.default is MISSING and f.default_factory is MISSING]  # type: ignore[arg-type]
    found = []
    for line, row in read_jsonl(path):
        for key in row:
            if key not in known:
                raise UnknownName(f"column at {path}:{line}", key, known)
        absent = [name for name in needed if name not in row]
        if absent:
            raise InputError(f"{path}:{line}: no column {absent[0]!r}; expected {', '.join(needed)}")
        row = {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}
        found.append(record(**row))
    return found
