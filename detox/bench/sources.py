"""The data that a grid names: records of the catalogue, of the miniature, or of a file of the user's."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_type_hints

from detox.data import catalogue, read_contrasts, read_jsonl
from detox.data.contrasts import Contrast
from detox.data.records import Document, LabelledText, MinimalPair, MultipleChoice, Prompt, Span, span_from_json
from detox.data.tables import SUFFIXES, read_table
from detox.errors import DataError, InputError, UnknownName, require_known

Record = TypeVar("Record")

_NUMBERS = ("limit", "seed", "half", "longest", "characters")
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

# What `group` means there: which threads wait for a reply, and whether documents are of the toxic kind.
_MINIATURE_GROUPS: dict[type, dict[str, dict[str, Any]]] = {
    Prompt: {group: {"groups": (group,)} for group in ("neutral", "provoking", "heated")},
    Document: {kind: {"kind": kind} for kind in ("clean", "toxic")},
}

# Records of another task than the usual one, also by `group`.
_MINIATURE_TASKS: dict[type, dict[str, str]] = {
    Contrast: {"paraphrases": "paraphrases", "rewrites": "rewrites"},
    LabelledText: {"sayings": "sayings"},
}


def read_records(record: type[Record], spec: Any, *, where: str) -> tuple[Record, ...]:
    """The records that a grid entry names.

    Args:
        record: the type wanted.
        spec: {set: NAME, split: ..., limit: ..., seed: ...} of the catalogue; {set: miniature, limit: ..., seed: ..., split: ...};
            or {file: PATH}, JSONL, or CSV or TSV with a head. `half: 0` or `1` keeps one of two halves by a hash of the id; `longest`
            leaves out texts of more characters; `group` keeps one group; `limit` counts what is left after these; `characters` cuts
            documents.
        where: the entry's place, for messages.

    Raises:
        UnknownName: an unknown key or set.
        MissingData: the data is not there.
        DataError: a line of a file is wrong; names it.
        InputError: a value of the wrong type; an entry that names nothing.
    """
    if not isinstance(spec, Mapping):
        raise InputError(f"{where} is {spec!r}; expected {{set: NAME, ...}} or {{file: PATH}}")
    for key in spec:
        require_known(f"key of {where}", key, _KEYS)
    if ("set" in spec) == ("file" in spec):
        raise InputError(f"{where} must name either a set or a file; it names {'both' if 'set' in spec else 'neither'}")
    for key in ("set", "file", "split"):
        if not isinstance(spec.get(key, ""), str):
            raise InputError(f"{where}: {key} is {spec[key]!r}; expected text")
    numbers = {key: _whole(spec[key], f"{where}: {key}") for key in _NUMBERS if spec.get(key) is not None}
    limit, seed = numbers.get("limit"), numbers.get("seed", 0)
    filtered = bool({"file", "half", "longest", "group"} & spec.keys())
    if "file" in spec:
        if "split" in spec:
            raise InputError(f"{where}: a file has no split {spec['split']!r}; leave it out, or give another file")
        records = _from_file(record, Path(spec["file"]))
    elif spec["set"] == "miniature":
        options = {key: spec[key] for key in ("seed", "split", "group") if key in spec}
        records = _from_miniature(record, limit, options, where)
    else:
        records = catalogue.load_as(
            record,  # type: ignore[type-var]
            spec["set"],
            split=spec.get("split"),
            limit=None if filtered else limit,
            seed=seed,
        )
    if "half" in numbers:
        records = [r for r in records if half_of(r.id) == numbers["half"]]  # type: ignore[attr-defined]
    if "longest" in numbers:
        records = [r for r in records if len(_text(r, where)) <= numbers["longest"]]
    if "group" in spec and spec.get("set") != "miniature":
        records = [r for r in records if getattr(r, "group", None) == spec["group"]]
    if filtered and limit is not None:
        from detox.data.subsets import draw

        records = draw(records, limit, seed=seed)  # type: ignore[type-var]
    if "characters" in numbers:
        records = [_cut(r, numbers["characters"]) for r in records]
    if not records:
        raise InputError(f"{where} holds no records; expected at least one")
    return tuple(records)


def _whole(value: Any, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InputError(f"{what} is {value!r}; expected a whole number of 0 or more")
    return value


def _text(record: Any, where: str) -> str:
    if isinstance(record, MultipleChoice):  # the longest that is read of a question
        contexts = record.contexts or (record.context,) * len(record.choices)
        return max((a + b for a, b in zip(contexts, record.choices, strict=True)), key=len)
    if not hasattr(record, "text"):
        raise InputError(f"{where}: `longest` is about records with a text, which {type(record).__name__} has not")
    return str(record.text)


def half_of(key: str) -> int:
    """Which of two halves an id is in, 0 or 1, by its hash: the same on every machine."""
    return hashlib.sha256(key.encode()).digest()[0] % 2


def _cut(record: Record, characters: int) -> Record:
    if not isinstance(record, Document):
        raise InputError("`characters` cuts documents; this entry holds other records")
    return Document(id=record.id, text=record.text[:characters], source=record.source)  # type: ignore[return-value]


def _from_miniature(record: type[Record], limit: int | None, options: Mapping[str, Any], where: str) -> list[Record]:
    import detox.miniature as miniature
    from detox.miniature.sentences import Split

    if limit is None:
        raise InputError(f"{where}: the miniature makes as many as are asked for; give a limit")
    if "split" in options and record is Document:
        raise InputError(f"{where}: the miniature's documents have no split {options['split']!r}; leave it out")
    if options.get("split", "test") not in get_args(Split):
        raise UnknownName(f"split of {where}", options["split"], get_args(Split))
    chosen = dict(options)
    group = chosen.pop("group", None)
    name, groups, tasks = _MINIATURE[record], _MINIATURE_GROUPS.get(record, {}), _MINIATURE_TASKS.get(record, {})
    if group is not None:
        if not groups and not tasks:
            raise InputError(f"{where}: the miniature has no groups of {record.__name__} records; leave `group` out")
        require_known(f"group of {where}", group, (*groups, *tasks))
        name, chosen = tasks.get(group, name), {**chosen, **groups.get(group, {})}
    make: Callable[..., list[Record]] = getattr(miniature, name)
    return list(make(limit, **chosen))


def _from_file(record: type[Record], path: Path) -> list[Record]:
    if record is Contrast:
        return list(read_contrasts(path))  # type: ignore[arg-type]
    columns = {f.name: f for f in fields(record)}  # type: ignore[arg-type]
    needed = [name for name, f in columns.items() if f.default is MISSING and f.default_factory is MISSING]
    types = get_type_hints(record)
    found = []
    tabular = path.suffix in SUFFIXES
    for line, row in read_table(path) if tabular else read_jsonl(path):
        place = f"{path}:{line}"
        for key in row:
            require_known(f"column at {place}", key, columns)
        absent = [name for name in needed if name not in row]
        if absent:
            raise DataError(f"{place}: no column {absent[0]!r}; expected {', '.join(needed)}")
        if type(row["id"]) is int:  # the number of a row, as tables number them
            row["id"] = str(row["id"])
        try:
            found.append(
                record(**{k: _field(types[k], _number(types[k], v) if tabular else v, k) for k, v in row.items()})
            )
        except InputError as error:
            raise DataError(f"{place}: {error}") from error
    return found


_EXPECTED = {
    str: "text",
    float: "a number",
    int: "a whole number",
    tuple[str, ...]: "a list of texts",
    tuple[Span, ...]: "a list of spans, each [start, end] or [start, end, kind]",
}


def _number(declared: Any, cell: str) -> Any:
    """A cell of a table as the number that the field wants; the text itself where it is none."""
    kinds = get_args(declared) if isinstance(declared, UnionType) else (declared,)
    for kind in (int, float):
        if kind in kinds:
            try:
                return kind(cell)
            except ValueError:
                return cell
    return cell


def _field(declared: Any, value: Any, name: str) -> Any:
    """A JSON value as a field of that type; null where the field may be None."""
    kind, *optional = get_args(declared) if isinstance(declared, UnionType) else (declared,)
    if value is None and optional:
        return None
    if kind == tuple[Span, ...] and isinstance(value, list):
        value = tuple(span_from_json(item) for item in value)
        good = None not in value
    elif kind == tuple[str, ...] and isinstance(value, list):
        value = tuple(value)
        good = all(isinstance(item, str) for item in value)
    else:
        numbers = {float: (int, float), int: (int,)}
        good = kind in (str, float, int) and isinstance(value, numbers.get(kind, kind)) and not isinstance(value, bool)
    if not good:
        raise InputError(f"{name} is {value!r}; expected {_EXPECTED[kind]}")
    return value
