"""A report as one JSON value: everything that a page or a table shows, and nothing that it does not."""

from __future__ import annotations

import math
import platform
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from detox.bench.cell_list import NOISE_FLOOR
from detox.bench.comparison import Row
from detox.bench.equal_cost import against_controls
from detox.bench.fronts import fronts
from detox.bench.report.absent import PROMPTED, absent_rows, without_noise_floor
from detox.bench.report.costs import costs
from detox.bench.report.panels import (
    add_verdicts,
    agreement_panel,
    equal_utility_panel,
    front_panels,
    interaction_panel,
)
from detox.bench.report.prompts import quantised, samples, spread
from detox.bench.report.reading import Results
from detox.bench.report.side_effects import Change, Items, changes, direction
from detox.evaluation import Scorecard
from detox.evaluation.toxicity import prompt_means
from detox.statistics import MISSING_LIMIT, Estimate

FORMAT = 1
_CE = "clean/cross_entropy"


def report_data(results: Results, *, texts: bool = False) -> dict[str, Any]:
    """Everything that a report shows.

    Args:
        results: as `read_results` gives them.
        texts: whether what the models wrote goes in, where it was kept.
    """
    rows = list(results.rows())
    comparison = results.comparison
    known: dict[int, Items] = {}

    def items(card: Scorecard) -> Items:
        if id(card) not in known:
            known[id(card)] = Items(card)
        return known[id(card)]

    cells = _cells(results, rows, items)
    found = fronts(comparison)
    add_verdicts(results, rows, cells, found)
    identity = rows[0].scorecard.protocol.get("identity", {})
    data: dict[str, Any] = {
        "format": FORMAT,
        "name": str(results.grid.get("name") or results.directory.resolve().name),
        "results": results.directory.resolve().name,
        "protocol": {
            "name": rows[0].protocol,
            "digest": rows[0].scorecard.protocol.get("digest"),
            "identity": identity,
            "prompts": _prompt_count(rows),
            "samples": (identity.get("sampling") or {}).get("num_return_sequences"),
            "tokens": (identity.get("sampling") or {}).get("max_new_tokens"),
            "threshold": identity.get("threshold", 0.5),
        },
        "headline": comparison.headline,
        "scorers": list(comparison.scorers),
        "named": {name: comparison.independence.named(name) for name in comparison.scorers},
        "independence": {
            "independent": comparison.independence.independent,
            "notes": list(comparison.independence.notes),
        },
        "bases": list(dict.fromkeys(row.base for row in rows)),
        "methods": list(dict.fromkeys(row.method for row in rows if row.method is not None)),
        "metrics": _metrics(rows),
        "cells": cells,
        "absent": [*absent_rows(results, cells), *without_noise_floor(results, identity)],
        "interaction": interaction_panel(results),
        "fronts": front_panels(found),
        "equal_utility": equal_utility_panel(results),
        "agreement": agreement_panel(results, rows, [cell["changes"] for cell in cells]),
        "controls": [_against(one) for one in against_controls(comparison)] if comparison.control_rows else [],
        "prompts": _prompts(results, rows, items),
        "samples": samples(rows, comparison.scorers, items) if texts else None,
        "texts_kept": sum(row.scorecard.texts is not None for row in rows),
        "holes": [{"name": name, "reason": results.without_paths(reason)} for name, reason in comparison.holes.items()],
        "provenance": _provenance(results, rows),
        "pretrained": [
            _pretrained(name, card) for name, card in results.bases.items() if name in {r.base for r in rows}
        ],
    }
    return data


def estimate(value: Estimate | None) -> list[float | int | None] | None:
    """[value, low, high, n, missing] with null for NaN, not for infinity; null where there is none."""
    if value is None:
        return None
    return [*(number(part) for part in (value.value, value.low, value.high)), value.n, value.missing]


def number(value: float | None) -> float | None:
    """Six significant digits, null for NaN. Infinity stays what it is: it is a result, and `data_block` can write it."""
    return None if value is None or math.isnan(value) else float(f"{value:.6g}")


def _cells(results: Results, rows: Sequence[Row], items: Callable[[Scorecard], Items]) -> list[dict[str, Any]]:
    bases = [results.base_of(row) for row in rows]
    places = [i for i, base in enumerate(bases) if base is not None]
    pairs = [(rows[i].scorecard, base.scorecard) for i in places if (base := bases[i]) is not None]
    found = dict(zip(places, changes(pairs, items), strict=True))
    return [
        _cell(results, row, number_, found.get(number_, {}), cost.__dict__, bases[number_])
        for number_, (row, cost) in enumerate(zip(rows, costs(results), strict=True))
    ]


def _cell(
    results: Results, row: Row, place: int, found: Mapping[str, Change], cost: dict[str, Any], against: Row | None
) -> dict[str, Any]:
    card, cell = row.scorecard, results.cell(row)
    base = None if against is None else against.scorecard
    # Two of the changes are the comparison's own: one number is never shown with two intervals.
    said = {f"toxicity/{results.comparison.headline}/mean": row.toxicity_change, _CE: row.cross_entropy_change}
    found = {name: Change(own, True) if (own := said.get(name)) else one for name, one in found.items()}
    identity = cell.get("identity", {})
    return {
        "id": place,
        "base": row.base,
        "method": row.method,
        "strength": row.strength,
        "seed": row.seed,
        "label": row.method_label,
        "role": role(row, results),
        "chosen_on": row.chosen_on,
        "verdicts": None,
        "tests": {},
        "front": None,
        "unranked": _unranked(row, results, against),
        "toxicity": estimate(row.toxicity),
        "toxicity_change": estimate(row.toxicity_change),
        "cost_change": estimate(row.cross_entropy_change),
        "metrics": {name: estimate(value) for name, value in card.metrics.items()},
        "changes": {
            name: {
                "estimate": estimate(one.estimate),
                "paired": one.paired,
                "withheld": one.estimate.share_missing > MISSING_LIMIT
                or any(side is not None and side.withheld(name) is not None for side in (card, base)),
            }
            for name, one in found.items()
        },
        "cost": {name: number(value) for name, value in cost.items()},
        "accounting": _accounting(card),
        "counts": {name: value for name, value in card.counts.items() if not isinstance(value, dict)},
        "receipts": [_receipt(receipt) for receipt in card.receipts],
        "incidents": list(card.incidents),
        "audit": cell.get("audit"),
        "settings": (identity.get("method") or {}).get("settings"),
        "fingerprint": card.fingerprint,
        "folder": results.folders.get((row.base, row.method, row.strength, row.protocol, row.seed)),
    }


def role(row: Row, results: Results) -> str:
    """One of "base", "prompted base", "A/A", "control" or "method"."""
    if row.method is None:
        return "base"
    if row.method in results.comparison.controls:
        return "control"
    if row.method == NOISE_FLOOR:
        return "A/A"
    named = (results.cell(row).get("identity", {}).get("method") or {}).get("name", row.method)
    return "prompted base" if named == PROMPTED else "method"


def _unranked(row: Row, results: Results, base: Row | None) -> str | None:
    """Why nothing is said of a cell's toxicity against its base, and it is on no front; None where it may be."""
    if row.method == NOISE_FLOOR:
        return "the base against itself"
    if row.chosen_on == "test":
        return "chosen on these prompts"
    scorer = results.comparison.headline
    cards = [one.scorecard for one in (row, base) if one is not None]
    share = 0.0 if scorer is None else max(card.share_without_score(scorer) for card in cards)
    return f"withheld: {share:.1%} missing" if share > MISSING_LIMIT else None


def _accounting(card: Scorecard) -> list[dict[str, Any]]:
    """By scorer: how many texts were scored, and why others were not."""
    entries = []
    for scorer, counts in (card.counts.get("scorers") or {}).items():
        lost = sum(counts["missing"].values())
        total = counts["scored"] + lost
        entries.append(
            {
                "scorer": scorer,
                "scored": counts["scored"],
                "missing": counts["missing"],
                "share": lost / total if total else None,
            }
        )
    return entries


def _receipt(receipt: Mapping[str, Any]) -> dict[str, Any]:
    sites = receipt.get("sites") or {}
    return {
        "edit": receipt.get("edit"),
        "sites": len(sites),
        "calls": sum(sites.values()) if sites else 0,
        "tokens": receipt.get("tokens") or {},
        "relative_size": number(receipt.get("relative_size")),
    }


def _metrics(rows: Sequence[Row]) -> list[dict[str, Any]]:
    names = dict.fromkeys(name for row in rows for name in row.scorecard.metrics)
    return [{"name": name, "direction": direction(name)} for name in names]


def _prompt_count(rows: Sequence[Row]) -> int | None:
    estimates = [row.toxicity for row in rows if row.toxicity is not None]
    return max((one.n + one.missing for one in estimates), default=None)


def _prompts(results: Results, rows: Sequence[Row], items: Callable[[Scorecard], Items]) -> dict[str, Any] | None:
    """Per-prompt toxicity of bases and its change in cells, to hundredths; null where nothing was generated."""
    scorer = results.comparison.headline
    scored = [(i, row, items(row.scorecard)) for i, row in enumerate(rows) if scorer in items(row.scorecard).scores]
    if scorer is None or not scored:
        return None
    ids, levels, found = scored[0][2].prompts, {}, {}
    means = {i: prompt_means(one.scores[scorer]) for i, _, one in scored if one.prompts == ids}
    numbers = {id(row): i for i, row in enumerate(rows)}
    for i, row, _ in scored:
        base = results.base_of(row)
        if row.method is None and i in means:
            levels[str(i)] = quantised(means[i])
        elif base is not None and i in means and numbers[id(base)] in means:
            differences = means[i] - means[numbers[id(base)]]
            found[str(i)] = {"base": numbers[id(base)], "steps": quantised(differences), **spread(differences)}
    return {"scorer": scorer, "ids": ids, "levels": levels, "cells": found}


def _against(one: Any) -> dict[str, Any]:
    return {
        "base": one.base, "seed": one.seed, "method": one.method, "control": one.control, "strength": one.strength,
        "price": number(one.result.price), "first": number(one.result.first), "second": number(one.result.second),
        "difference": estimate(one.result.difference), "reached": one.result.reached, "verdict": one.verdict,
    }  # fmt: skip


def _provenance(results: Results, rows: Sequence[Row]) -> dict[str, Any]:
    """Where records were made, and where this report was. No paths, no names of machines."""
    import json
    from importlib.metadata import PackageNotFoundError, version

    made = Counter(json.dumps(results.cell(row).get("provenance", {}), sort_keys=True) for row in rows)
    from detox import __version__

    try:
        packages = {name: version(name) for name in ("numpy", "scipy", "jinja2")}
    except PackageNotFoundError:  # a checkout that nobody installed
        packages = {}
    return {
        "records": [
            {"cells": count, "packages": {}, "python": None, "device": None, "source": None, **json.loads(text)}
            for text, count in made.most_common()
        ],
        "report": {"detox": __version__, "python": platform.python_version(), **packages},
    }


def _pretrained(name: str, card: Mapping[str, Any]) -> dict[str, Any]:
    identity = card.get("identity", {})
    flat = {key: value for key, value in identity.items() if not isinstance(value, (dict, list))}
    recipe = identity.get("recipe") or {}
    keys = (
        "objective",
        "steps",
        "batch_size",
        "sequence_length",
        "learning_rate",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
    )
    return {"name": name, "identity": flat, "recipe": {key: recipe[key] for key in keys if key in recipe}}
