"""Probing of several bases from models to page: what is measured stays, and is not measured again."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from detox.errors import DataError, MissingData
from detox.files import require_writable, write_json
from detox.models import LanguageModel
from detox.probing.comparison import BaseComparison, compare_bases, comparison_card
from detox.probing.figures import draw_figures
from detox.probing.measurement import BaseProbes, Say, measure_base
from detox.probing.page import write_page
from detox.probing.record import load_probes, plain, probes_card, save_probes
from detox.probing.sites import ProbeSettings
from detox.probing.texts import ProbeTexts
from detox.probing.tokens import TokenReading, read_projections, shown_texts

PAGE, RECORD, TOKENS = "probing.html", "probing.json", "tokens.json"
Load = Callable[[str], LanguageModel]


def probe_once(
    lm: LanguageModel,
    texts: ProbeTexts,
    output_dir: str | os.PathLike[str],
    settings: ProbeSettings | None = None,
    *,
    name: str,
    show: int = 12,
    say: Say | None = None,
) -> tuple[BaseProbes, list[TokenReading]]:
    """Measure a base, or read what was measured of it: the same model, texts and settings are not measured again.

    Args:
        lm: the model.
        texts: labelled texts.
        output_dir: the measurement goes into a folder of its own there, and the texts that are shown beside it.
        settings: how probes are fitted and judged.
        name: of the base.
        show: held-out texts to read token by token, half of them toxic.
        say: told what is being done.

    Raises:
        InputError: a class is missing on one side of the split, or activations are not finite.
        UnsupportedModel: a family without known attention.
        OutputError: the place cannot be written.
    """
    settings, tell = settings or ProbeSettings(), say or (lambda line: None)
    fingerprint = lm.fingerprint()
    short = re.sub(r"[^A-Za-z0-9@.+-]+", "_", name)[:60]
    folder = Path(output_dir) / "bases" / f"{short}-{fingerprint.replace(':', '')[:12]}"
    base = _kept(folder)
    if base is None or (base.fingerprint, base.data["digest"], base.settings) != (fingerprint, texts.digest, settings):
        base = measure_base(lm, texts, settings, name=name, say=say)
        save_probes(base, folder)
    else:
        tell(f"{name}: measured before, kept")
    chosen = shown_texts(texts, base.heldout.tolist(), show, seed=settings.seed)
    ids = [texts.ids[i] for i in chosen]
    readings = _kept_tokens(folder / TOKENS, ids)
    if readings is None:
        tell(f"{name}: reading {len(ids)} texts token by token")
        readings = [
            read_projections(lm, base, texts.texts[i], id=texts.ids[i], label=int(texts.labels[i])) for i in chosen
        ]
        write_json(folder / TOKENS, [asdict(reading) for reading in readings])
    return base, readings


def probe_bases(
    models: Mapping[str, Sequence[str]],
    texts: ProbeTexts,
    output_dir: str | os.PathLike[str],
    settings: ProbeSettings | None = None,
    *,
    show: int = 12,
    load: Load = LanguageModel.from_pretrained,
    say: Say | None = None,
) -> tuple[dict[str, list[BaseProbes]], list[BaseComparison]]:
    """Measure bases one after the other, compare all with the first, and write figures, page and record.

    Args:
        models: label -> hub ids or folders; several are seeds of one way of training.
        texts: labelled texts.
        output_dir: where everything goes; what is measured there is not measured again.
        settings: how probes are fitted and judged.
        show: held-out texts that the page shows token by token, half of them toxic; 0 for a page without texts.
        load: gives the model of an id or folder.
        say: told what is being done.

    Raises:
        InputError: a class is missing on one side of the split, activations are not finite, or models do not fit together.
        UnsupportedModel: a family without known attention.
        MissingData: no such folder.
        OutputError: the place cannot be written.
    """
    output = require_writable(output_dir)
    sides: dict[str, list[BaseProbes]] = {}
    readings: dict[str, list[TokenReading]] = {}
    for label, places in models.items():
        for number, place in enumerate(places):
            name = label if len(places) == 1 else f"{label}, {number + 1} of {len(places)}"
            # Of one way of training one base is shown: texts are read by people.
            shown = show if number == 0 else 0
            base, read = probe_once(load(place), texts, output, settings, name=name, show=shown, say=say)
            sides.setdefault(label, []).append(base)
            readings[name] = read
    return sides, report_probes(sides, output, readings=readings, say=say)


def report_probes(
    sides: Mapping[str, Sequence[BaseProbes]],
    output_dir: str | os.PathLike[str],
    *,
    readings: Mapping[str, Sequence[TokenReading]] | None = None,
    say: Say | None = None,
) -> list[BaseComparison]:
    """Compare, draw, write: `figures/`, `probing.html` and `probing.json`, which holds no text.

    Raises:
        InputError: the bases do not fit together.
        OutputError: the place cannot be written.
    """
    output, tell = Path(output_dir), say or (lambda line: None)
    tell("comparing and drawing")
    comparisons = compare_bases(sides)
    figures = draw_figures(sides, output / "figures")
    shown = {name: rows for name, rows in (readings or {}).items() if rows}
    write_page(output / PAGE, sides, comparisons, figures=figures, readings=shown)
    record: dict[str, Any] = {
        "bases": {label: [probes_card(base) for base in side] for label, side in sides.items()},
        "comparisons": plain([comparison_card(one) for one in comparisons]),
    }
    write_json(output / RECORD, record)
    return comparisons


def _kept(folder: Path) -> BaseProbes | None:
    try:
        return load_probes(folder)
    except (MissingData, DataError):
        return None  # nothing there, damaged, or of another version: measured again


def _kept_tokens(path: Path, ids: Sequence[str]) -> list[TokenReading] | None:
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        found = [
            TokenReading(
                row["id"],
                row["label"],
                tuple(row["pieces"]),
                {site: tuple(values) for site, values in row["values"].items()},
            )
            for row in rows
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if [reading.id for reading in found] == list(ids) else None
