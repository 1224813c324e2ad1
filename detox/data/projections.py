"""Contrasts as the dataset types of TRL, in TRL's own column names, and back.

Only TRL's columns are written, so that its trainers take the result as it is. With an empty prompt and a tokenizer
without a start token there is nothing to predict the first token from, and the trainers leave it out of their loss.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from detox.data.contrasts import Contrast
from detox.errors import DataError, InputError, require_known

if TYPE_CHECKING:
    from datasets import Dataset

PAIRINGS = ("all", "zip")
ONE_SIDED = ("skip", "error")


def sft_dataset(contrasts: Iterable[Contrast], *, side: str = "safe") -> Dataset:
    """Prompt-completion rows (`prompt`, `completion`) for SFTTrainer: one a continuation of `side`.

    Contrasts without a continuation on that side give no row.

    Args:
        contrasts: what to project.
        side: "safe", or "toxic" for an anti-expert.

    Raises:
        UnknownName: another side.
        InputError: not one row comes out.
    """
    require_known("side", side, ("safe", "toxic"))
    contrasts = list(contrasts)
    rows = [{"prompt": one.prompt, "completion": text} for one in contrasts for text in getattr(one, side)]
    return _dataset(rows, {"prompt": "string", "completion": "string"}, contrasts, f"a {side} continuation")


def preference_dataset(contrasts: Iterable[Contrast], *, pairing: str = "all", one_sided: str = "skip") -> Dataset:
    """Preference rows with an explicit prompt (`prompt`, `chosen`, `rejected`) for DPOTrainer; safe is chosen.

    Args:
        contrasts: what to project.
        pairing: "all": each safe with each toxic continuation of a contrast, safe by safe; "zip": the first safe with
            the first toxic, the second with the second, until one side ends; what is left over is not used.
        one_sided: what to do with a contrast that has only one side: "skip" it or raise an "error".

    Raises:
        UnknownName: another pairing or rule.
        InputError: a one-sided contrast under "error", or not one row comes out.
    """
    require_known("pairing", pairing, PAIRINGS)
    require_known("rule for one-sided contrasts", one_sided, ONE_SIDED)
    contrasts = list(contrasts)
    rows: list[dict[str, Any]] = []
    for one in contrasts:
        if one_sided == "error" and not (one.safe and one.toxic):
            lacking = "safe" if not one.safe else "toxic"
            raise InputError(f"contrast {one.id!r} has no {lacking} continuation; give both sides or one_sided='skip'")
        if pairing == "zip":
            pairs = list(zip(one.safe, one.toxic, strict=False))
        else:
            pairs = [(safe, toxic) for safe in one.safe for toxic in one.toxic]
        rows += [{"prompt": one.prompt, "chosen": safe, "rejected": toxic} for safe, toxic in pairs]
    columns = {"prompt": "string", "chosen": "string", "rejected": "string"}
    return _dataset(rows, columns, contrasts, "a safe and a toxic continuation")


def kto_dataset(contrasts: Iterable[Contrast]) -> Dataset:
    """Unpaired preference rows (`prompt`, `completion`, `label`) for KTOTrainer: one a continuation, True for safe.

    Raises:
        InputError: there are no contrasts.
    """
    contrasts = list(contrasts)
    rows = [
        {"prompt": one.prompt, "completion": text, "label": label}
        for one in contrasts
        for label, texts in ((True, one.safe), (False, one.toxic))
        for text in texts
    ]
    return _dataset(rows, {"prompt": "string", "completion": "string", "label": "bool"}, contrasts, "a continuation")


def group_dataset(contrasts: Iterable[Contrast]) -> Dataset:
    """Group rows (`id`, `prompt`, `safe`, `toxic`, `group`): all continuations of a contrast together, in lists.

    TRL has no such type; it is what a loss over groups of paraphrases needs. `group` is filled with the id where unset.

    Raises:
        InputError: there are no contrasts.
    """
    contrasts = list(contrasts)
    rows = [
        {"id": one.id, "prompt": one.prompt, "safe": list(one.safe), "toxic": list(one.toxic), "group": one.group_key}
        for one in contrasts
    ]
    columns = {"id": "string", "prompt": "string", "safe": "list", "toxic": "list", "group": "string"}
    return _dataset(rows, columns, contrasts, "a continuation")


def contrasts_from_preferences(rows: Iterable[Mapping[str, Any]], *, name: str = "preference") -> list[Contrast]:
    """Contrasts from preference rows: a `datasets.Dataset` or mappings with `chosen`, `rejected` and perhaps `prompt`.

    One contrast a row, safe = chosen; rows with the same prompt share a group. Without a prompt column it is "".

    Args:
        rows: text, not messages: render conversations through the model's chat template first.
        name: what the ids begin with: `<name>-0`, `<name>-1`, ...

    Raises:
        DataError: a row lacks a column, holds something else than text or prefers a text to itself; names the row.
    """
    contrasts = []
    for number, prompt, row in _trl_rows(rows, ("chosen", "rejected"), name):
        safe, toxic = (row["chosen"],), (row["rejected"],)
        contrasts.append(_contrast(name, number, prompt=prompt, safe=safe, toxic=toxic, group=_prompt_group(prompt)))
    return contrasts


def contrasts_from_kto(rows: Iterable[Mapping[str, Any]], *, name: str = "kto") -> list[Contrast]:
    """Contrasts from unpaired preference rows: `completion`, `label` (bool, True = safe) and perhaps `prompt`.

    All completions of one prompt make one contrast, in the order of their first row. Rows without a prompt (or with an
    empty one) have nothing in common, so each makes a contrast with one side.

    Args:
        rows: a `datasets.Dataset` or mappings; text, not messages.
        name: what the ids begin with; the number after it is that of the first row.

    Raises:
        DataError: a row lacks a column, holds the wrong type, or a completion is labelled both ways; names the row.
    """
    first: dict[str, int] = {}
    sides: dict[int, tuple[str, list[str], list[str]]] = {}
    for number, prompt, row in _trl_rows(rows, ("completion", "label"), name):
        if not isinstance(row["label"], bool):
            raise DataError(f"{name} row {number}: label is a {type(row['label']).__name__}; expected true or false")
        home = first.setdefault(prompt, number) if prompt else number
        _, safe, toxic = sides.setdefault(home, (prompt, [], []))
        (safe if row["label"] else toxic).append(row["completion"])
    return [
        _contrast(name, number, prompt=prompt, safe=tuple(safe), toxic=tuple(toxic))
        for number, (prompt, safe, toxic) in sides.items()
    ]


def _trl_rows(
    rows: Iterable[Mapping[str, Any]], columns: tuple[str, ...], name: str
) -> Iterator[tuple[int, str, Mapping[str, Any]]]:
    for number, row in enumerate(rows):
        for column in columns:
            if column not in row:
                raise DataError(
                    f"{name} row {number}: no column {column!r}; expected {', '.join(columns)}; saw {list(row)}"
                )
        prompt = row.get("prompt", "")
        for value in (prompt, *(row[column] for column in columns)):
            if not isinstance(value, str | bool):
                raise DataError(
                    f"{name} row {number}: a {type(value).__name__} where text is expected; "
                    "render conversations through the chat template first"
                )
        yield number, prompt, row


def _contrast(name: str, number: int, **fields: Any) -> Contrast:
    try:
        return Contrast(id=f"{name}-{number}", **fields)
    except InputError as error:
        raise DataError(f"{name} row {number}: {error}") from error


def _prompt_group(prompt: str) -> str | None:
    return hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()[:16] if prompt else None


def _dataset(rows: list[dict[str, Any]], columns: Mapping[str, str], seen: Sequence[Contrast], needed: str) -> Dataset:
    if not rows:
        raise InputError(f"none of {len(seen)} contrasts has {needed}; expected at least one")
    from datasets import Dataset, Features, List, Value

    types = {name: List(Value("string")) if kind == "list" else Value(kind) for name, kind in columns.items()}
    return Dataset.from_list(rows, features=Features(types))
