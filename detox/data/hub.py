"""Rows from the Hugging Face hub; the only place that calls `datasets.load_dataset`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from detox.data.data_set import HubSource, Row
from detox.errors import MissingData


def hub_rows(
    source: HubSource, split: str | None, *, hub_id: str | os.PathLike[str] | None = None
) -> Iterator[tuple[str, Row]]:
    """Yield (place, row) of one split of a hub data set; rows also carry `_config` and `_split`.

    Args:
        source: the pinned description.
        split: hub split; None for all of them.
        hub_id: another id with the same columns (a mirror), or a local folder that `load_dataset` can read; the pinned
            revision belongs to the original and is not used then.

    Raises:
        MissingData: the hub cannot be reached, asks for a login, or has no such data set, configuration or split.
    """
    from datasets import DatasetDict, load_dataset
    from datasets.exceptions import DatasetsError

    name = str(hub_id) if hub_id is not None else source.id
    revision = source.revision if hub_id is None else None
    label = Path(name).name if hub_id is not None and Path(name).exists() else name
    for config in source.configs:
        try:
            loaded = load_dataset(name, config, split=split, revision=revision)
        except (OSError, ValueError, DatasetsError) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            wanted = " ".join(part for part in (config, split) if part)
            gate = "; it is gated: accept its terms on the hub and log in" if source.gated else ""
            raise MissingData(
                f"cannot load {name}{f' ({wanted})' if wanted else ''} from the hub: {reason}{gate}"
            ) from error
        parts = loaded.items() if isinstance(loaded, DatasetDict) else [(split or "", loaded)]
        for part, table in parts:
            for number, row in enumerate(table):
                place = ":".join(piece for piece in (label, config, part, str(number)) if piece)
                yield place, {**row, "_config": config, "_split": part}


def open_stream(name: str, *, config: str | None, split: str, revision: str | None) -> Any:
    """One split of a data set, row by row and never whole in memory.

    Args:
        name: id on the hub, which is streamed; or a folder: what `save_to_disk` wrote (memory-mapped), or files that
            `load_dataset` reads (streamed).
        config: of the data set.
        split: of the data set.
        revision: commit on the hub.

    Returns:
        A `datasets.Dataset` or `datasets.IterableDataset`.

    Raises:
        MissingData: it cannot be reached, or there is no such data set, configuration or split.
    """
    from datasets import DatasetDict, load_dataset, load_from_disk

    folder = Path(name)
    try:
        if any((folder / marker).is_file() for marker in ("state.json", "dataset_dict.json")):
            loaded = load_from_disk(name)
            return loaded[split] if isinstance(loaded, DatasetDict) else loaded
        return load_dataset(name, config, split=split, revision=revision, streaming=True)
    except reading_errors(ValueError, KeyError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise MissingData(
            f"cannot read {folder.name if folder.is_dir() else name} ({config or 'no config'}, split {split}): {reason}; "
            "expected files, a folder, or the id of a data set on the hub"
        ) from error


def pinned_revision(name: str, revision: str | None) -> str:
    """The commit of a data set on the hub that `revision` (None: the newest) names now.

    Raises:
        MissingData: the hub cannot be reached, or has no such data set or revision.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError

    try:
        return str(HfApi().dataset_info(name, revision=revision).sha)
    except reading_errors(HFValidationError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise MissingData(
            f"no file or folder {name}, and the hub has no such data set that can be reached ({reason})"
        ) from error


def reading_errors(*others: type[Exception]) -> tuple[type[Exception], ...]:
    """What is raised where the hub stops answering: errors of the system, of `datasets`, of the HTTP library; and `others`."""
    from datasets.exceptions import DatasetsError
    from huggingface_hub.errors import HfHubHTTPError

    return (
        OSError,
        DatasetsError,
        *HfHubHTTPError.__bases__,
        *others,
    )  # which HTTP library it is changes with the hub's client
