"""Rows from the Hugging Face hub; the only place that calls `datasets.load_dataset`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

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
