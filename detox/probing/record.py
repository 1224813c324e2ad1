"""Measurements of bases as files: JSON for what is read, safetensors for arrays. No text goes in."""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from detox.errors import DataError, MissingData
from detox.files import atomic_directory, write_json
from detox.probing.entanglement import Entanglement
from detox.probing.measurement import SITES, BaseProbes
from detox.probing.sites import ProbeSettings, SiteProbes
from detox.statistics import Estimate

VERSION = 1
CARD, ARRAYS = "probing.json", "probing.safetensors"
_ARRAYS = ("accuracy", "low", "high", "auc", "p", "null", "margins", "directions", "middle", "sigma")
_OF_ENTANGLEMENT = ("largest", "mean", "partner", "draws", "shuffled", "p")


def save_probes(base: BaseProbes, directory: str | os.PathLike[str]) -> Path:
    """Write a measurement as a folder, whole or not at all; `load_probes` gives it back.

    Raises:
        OutputError: the place cannot be written, or holds something else.
    """
    arrays = {"heldout": base.heldout, "labels": base.labels, "groups": base.groups}
    for kind in SITES:
        site = getattr(base, kind)
        arrays |= {f"{kind}/{name}": getattr(site, name) for name in _ARRAYS}
        arrays |= {f"{kind}/explained/{key}": value for key, value in site.explained.items()}
        for key, one in site.entanglement.items():
            arrays |= {f"{kind}/entanglement/{key}/{name}": getattr(one, name) for name in _OF_ENTANGLEMENT}
    with atomic_directory(directory, marker=CARD) as folder:
        save_file({key: np.ascontiguousarray(value) for key, value in arrays.items()}, folder / ARRAYS)
        write_json(folder / CARD, probes_card(base))
    return Path(directory)


def load_probes(directory: str | os.PathLike[str]) -> BaseProbes:
    """Read a measurement.

    Raises:
        MissingData: there is none.
        DataError: the files are damaged, or of another version.
    """
    folder = Path(directory)
    if not (folder / CARD).is_file():
        raise MissingData(f"no {CARD} in {folder}; expected a folder that save_probes wrote")
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        if card["version"] != VERSION:
            raise DataError(f"{folder / CARD}: version {card['version']}; expected {VERSION}, measure again")
        arrays = load_file(folder / ARRAYS)
        sites = {kind: _site(card[kind], arrays, kind) for kind in SITES}
        return BaseProbes(
            name=card["name"],
            fingerprint=card["fingerprint"],
            settings=ProbeSettings(**card["settings"]),
            data=card["data"],
            **sites,
            heldout=arrays["heldout"],
            labels=arrays["labels"],
            groups=arrays["groups"],
            covariates_auc={key: _estimate(value) for key, value in card["covariates_auc"].items()},
        )
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{folder}: cannot be read as a measurement ({error}); measure again") from error


def probes_card(base: BaseProbes) -> dict[str, Any]:
    """What a measurement says, as JSON: numbers of every head and layer, and nothing of the texts but their digest and counts."""
    card: dict[str, Any] = plain(
        {
            "version": VERSION,
            "name": base.name,
            "fingerprint": base.fingerprint,
            "settings": base.settings,
            "data": base.data,
            "held-out texts": len(base.labels),
            "covariates_auc": base.covariates_auc,
            **{kind: _site_card(getattr(base, kind)) for kind in SITES},
        }
    )
    return card


def plain(value: Any) -> Any:
    """Estimates, settings and arrays as JSON: NaN is null, measured numbers have six digits after the point."""
    if isinstance(value, ProbeSettings):
        return asdict(value)
    if isinstance(value, Estimate):
        return plain(asdict(value))
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, float | np.floating):
        return None if math.isnan(value) else round(float(value), 6)
    return value.item() if isinstance(value, np.generic) else value


def _site_card(site: SiteProbes) -> dict[str, Any]:
    layer, head = site.best
    accuracy, low, high = (float(end[layer, head]) for end in (site.accuracy, site.low, site.high))
    return {
        "best": {
            "layer": layer,
            "head": head,
            "accuracy": Estimate(accuracy, low, high, len(site.margins)),
            "p": site.p[layer, head],
            "auc": site.best_auc,
            "explained": {
                key: dict(zip(("value", "low", "high"), one[:, layer, head], strict=True))
                for key, one in site.explained.items()
            },
        },
        "chance": site.chance,
        "better than chance": int((site.p <= 0.05).sum()),
        "selected_accuracy": site.selected_accuracy,
        "selected_auc": site.selected_auc,
        **{name: getattr(site, name) for name in ("accuracy", "low", "high", "auc", "p")},
        "explained": {key: one[0] for key, one in site.explained.items()},
        "entanglement": {key: _entanglement_card(one) for key, one in site.entanglement.items()},
    }


def _entanglement_card(one: Entanglement) -> dict[str, Any]:
    return {
        "features": one.names,
        "dimensions": one.dimensions,
        "welch": one.welch,
        "random": one.random,
        "toxicity": {
            "largest": one.largest[:, 0],
            "low": one.interval[0],
            "high": one.interval[1],
            "mean": one.mean[:, 0],
            "partner": [one.names[i] for i in one.partner[:, 0]],
            "shuffled": one.shuffled,
            "p": one.p,
        },
        "largest by feature, mean over sites": dict(zip(one.names, one.largest.mean(0), strict=True)),
    }


def _site(card: dict[str, Any], arrays: dict[str, Any], kind: str) -> SiteProbes:
    entangled = {
        key: Entanglement(
            tuple(one["features"]),
            one["dimensions"],
            **{name: arrays[f"{kind}/entanglement/{key}/{name}"] for name in _OF_ENTANGLEMENT},
        )
        for key, one in card["entanglement"].items()
    }
    return SiteProbes(
        **{name: arrays[f"{kind}/{name}"] for name in _ARRAYS},
        explained={key: arrays[f"{kind}/explained/{key}"] for key in card["explained"]},
        entanglement=entangled,
        selected_accuracy=_estimate(card["selected_accuracy"]),
        selected_auc=_estimate(card["selected_auc"]),
        best_auc={key: _estimate(one) for key, one in card["best"]["auc"].items()},
    )


def _estimate(value: dict[str, Any]) -> Estimate:
    known: dict[str, Any] = {f.name: math.nan if value[f.name] is None else value[f.name] for f in fields(Estimate)}
    return Estimate(**known)
