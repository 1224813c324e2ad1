"""What a weight method trains on: contrasts, or the dataset types of TRL as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from detox.errors import InputError
from detox.models import LanguageModel
from detox.models.architectures import context_length
from detox.models.tokenization import start_token

if TYPE_CHECKING:
    from datasets import Dataset


def max_length(method: Any, lm: LanguageModel) -> int:
    """Tokens that a sequence may have: the `max_length` field, or 1024, and never more than the model was built for."""
    return min(method.max_length or 1024, context_length(lm.model) or method.max_length or 1024)


def require_plain(lm: LanguageModel, name: str) -> None:
    """Refuse a handle with a system turn: contrasts are plain text, and what is trained would be another text."""
    if lm.system:
        raise InputError(
            f"{name}: the model has a system turn, and contrasts are plain text; give a conversational TRL dataset with the system "
            "turn in it, or fit on the model without it"
        )


def rows_of(contrasts: Any, columns: tuple[str, ...]) -> Dataset | None:
    """`contrasts` if it is a dataset of TRL with these columns; None if it is contrasts.

    Raises:
        InputError: a dataset that lacks a column, or is empty.
    """
    import datasets

    if isinstance(contrasts, datasets.IterableDataset | datasets.DatasetDict | datasets.IterableDatasetDict):
        raise InputError(
            f"got a {type(contrasts).__name__}; expected contrasts or a datasets.Dataset (one split, in memory or on disk)"
        )
    if not isinstance(contrasts, datasets.Dataset):
        return None
    names = contrasts.column_names
    missing = [column for column in columns if column not in names]
    if missing:
        raise InputError(
            f"the dataset has no column {missing[0]!r}; expected {', '.join(columns)}, saw {', '.join(names)}"
        )
    if not len(contrasts):
        raise InputError("the dataset has no rows; expected at least one")
    found: Dataset = contrasts
    return found


def prefixed(rows: Dataset, prefix: str) -> Dataset:
    """Rows of plain prompts with the handle's own prefix before them, as the rulers put it."""
    if not prefix:
        return rows
    from datasets import Dataset

    return Dataset.from_list([{**row, "prompt": prefix + row["prompt"]} for row in rows], features=rows.features)


def fitting(rows: Dataset, tokenizer: Any, length: int) -> Dataset:
    """Rows of plain prompts that leave room for a token of the continuation, each begun with the start token where it is empty.

    An empty prompt gives the first token nothing to be predicted from; TRL's trainers would leave it out where the tokenizer adds
    no start token of its own, and the rulers do not.

    Raises:
        InputError: no row is left.
    """
    from datasets import Dataset

    start = start_token(tokenizer)
    begun = "" if start is None else str(tokenizer.decode([start]))
    alone = bool(begun) and tokenizer(begun, add_special_tokens=False)["input_ids"] == [start]
    adds_its_own = bool(tokenizer("")["input_ids"])
    kept = []
    for row in rows:
        prompt = row["prompt"] or (begun if alone and not adds_its_own else "")
        if len(tokenizer(prompt)["input_ids"]) < length:
            kept.append({**row, "prompt": prompt})
    if not kept:
        raise InputError(
            f"every prompt has {length} tokens or more, which leaves no room for a continuation; raise max_length"
        )
    return Dataset.from_list(kept, features=rows.features)


def longer(rows: Dataset, tokenizer: Any, length: int, kinds: Sequence[tuple[str, ...]]) -> int | None:
    """How many examples have more than `length` tokens and are cut at the end; None for what is not plain text.

    Args:
        rows: the training data.
        tokenizer: the model's.
        length: tokens that are kept.
        kinds: columns that make up one text; the first that are all there count. An example counts once.
    """
    count, seen = 0, False
    for row in rows:
        for columns in kinds:
            if all(isinstance(row.get(column), str) for column in columns):
                seen = True
                if (
                    len(tokenizer("".join(row[column] for column in columns))["input_ids"]) + 1 > length
                ):  # and the end token
                    count += 1
                    break
    return count if seen else None
