"""From the name of a preset, or a YAML file, to a protocol that can be asked."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from detox.bench.presets import names
from detox.bench.protocols import build_protocol, read_yaml
from detox.bench.scorers import scorer_maker
from detox.errors import InputError, MissingData, UnknownName
from detox.evaluation import Protocol


def load_protocol(
    source: str | Path | Mapping[str, Any],
    *,
    seed: int = 0,
    store: str | Path | None = None,
    **changes: Any,
) -> Protocol:
    """A protocol by the name of a preset, or out of a YAML file of one's own.

        evaluate(lm, load_protocol("quick", prompts={"limit": 50}))

    Args:
        source: a preset (`detox.bench.presets.names()`), the path of a YAML file, or a mapping of the form of one entry of a grid's
            `protocols`.
        seed: of the sampling.
        store: where scorers that have to be trained are kept; without one they are kept in the user's cache (`XDG_CACHE_HOME`).
        changes: keys of the protocol, as in an entry {preset: NAME, ...}; the protocol's name says what is changed.

    Raises:
        UnknownName: neither a preset nor a file.
        See `read_grid` for the rest.
    """
    entry: Mapping[str, Any]
    if isinstance(source, Mapping):
        entry, name = {**source, **changes}, "protocol"
    elif str(source) in names():
        entry, name = {"preset": str(source), **changes}, str(source)
    elif Path(source).is_file():
        entry, name = {**_entry(source), **changes}, Path(source).stem
    elif Path(source).suffix or Path(source).name != str(source):
        raise MissingData(f"no protocol file {source}; expected YAML, or a preset: {', '.join(names())}")
    else:
        raise UnknownName("protocol", str(source), names())
    folder = Path(store or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "detox")
    protocol = build_protocol(name, entry, scorer_maker(folder))
    return replace(protocol, sampling=replace(protocol.sampling, seed=seed))


def _entry(path: str | Path) -> Mapping[str, Any]:
    raw = read_yaml(path)
    if not isinstance(raw, Mapping):
        raise InputError(
            f"{path} holds {type(raw).__name__}; expected the keys of a protocol: prompts, sampling, scorers, ..."
        )
    return raw
