"""One self-contained HTML page of a report: no network, nothing that a text in it could make run.

The content security policy allows the page's own script and style by their hash and nothing else. Everything that comes from records
goes through `made_visible` once; the template escapes it, the data block is escaped JSON, and the script writes text nodes only.
"""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detox.bench.fronts import FLOOR
from detox.bench.report.cell_marks import FILTERS
from detox.bench.report.escaping import data_block, made_visible
from detox.bench.verdicts import MARGIN
from detox.files import write_text
from detox.statistics import MISSING_LIMIT

_ASSETS = Path(__file__).parent / "assets"
_SECTIONS = {
    "question": "Question", "headline": "Results", "pareto": "Toxicity against utility", "curves": "Strength curves",
    "prompts": "Prompt by prompt", "agreement": "Scorer agreement", "side": "Side effects", "cost": "Cost", "samples": "Samples",
    "holes": "What is missing", "audit": "Audit", "provenance": "Provenance",
}  # fmt: skip
_EXTRA = (
    "recognition/auc", "probe/auc", "safenlp/mean_all_groups", "rewriting/toxicity", "rewriting/similarity", "minimal_pairs/accuracy",
)  # fmt: skip

_VERDICTS = (
    "Verdicts: toxicity by sign flips over prompts, with Holm's correction among the cells of a base, at .05; utility by the interval of "
    f"clean cross-entropy against a margin of {MARGIN:g} nats. Above {MISSING_LIMIT:.0%} missing nothing is said. On the front: share of "
    "resamples in which no other cell of the base is better in both."
)


def write_page(path: str | Path, data: Mapping[str, Any], *, command: str | None = None) -> Path:
    """Write the page, whole or not at all.

    Args:
        path: of the HTML file.
        data: as `report_data` gives it.
        command: that made it; the one that anybody can run where it is None.

    Raises:
        OutputError: the place cannot be written.
    """
    return write_text(path, render(data, command=command))


def render(data: Mapping[str, Any], *, command: str | None = None) -> str:
    """The page as text; the same data gives the same page."""
    import jinja2
    from markupsafe import Markup

    clean = made_visible(dict(data))
    style, script = (
        (_ASSETS / name).read_text(encoding="utf-8").strip().replace("\r", "") for name in ("page.css", "page.js")
    )
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_ASSETS), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=False
    )
    environment.filters.update(FILTERS)
    return environment.get_template("page.html").render(
        data=clean,
        title=f"{clean['name']}: toxicity against utility",
        policy=Markup(policy),  # ours; quotes stay quotes
        style=Markup(style),
        script=Markup(script),
        block=Markup(data_block(_for_script(clean))),
        sections=_SECTIONS.items(),
        command=made_visible(command or f"detox report {shlex.quote(str(data['results']))}"),
        **_derived(clean),
    )


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}"


def _derived(data: Mapping[str, Any]) -> dict[str, Any]:
    """What the template needs beside the data."""
    cells = data["cells"]
    names = [metric["name"] for metric in data["metrics"]]
    choices = [name for name in names if name.startswith("choice/") and name.endswith("/accuracy")]
    shown = [cell for cell in cells if cell["role"] != "control"]
    lost = [(cell, one) for cell in cells for one in cell["accounting"] if one["missing"]]
    many = sum(one["share"] > MISSING_LIMIT for _, one in lost)
    missing = len(data["holes"]) + len(data["absent"])
    problems = []
    if missing:
        problems.append(f"{missing} {'row has' if missing == 1 else 'rows have'} no numbers.")
    if many:
        problems.append(f"{many} times a scorer has no score for more than {MISSING_LIMIT:.0%} of a cell's texts.")
    ends = [v for cell in shown if (e := cell["toxicity_change"]) for v in e[:3] if v is not None]
    texts = (
        "No texts were kept with these records."
        if not data["texts_kept"]
        else f"Texts of {data['texts_kept']} cells were kept. They are left out of this page; `--texts` puts a choice of them in, hidden "
        "until clicked."
    )
    chosen = [cell for cell in cells if not (cell["verdicts"] or {"ranked": True})["ranked"]]
    unranked = (
        f" {len(chosen)} cells were chosen on the prompts that they are measured on and are not ranked."
        if chosen
        else ""
    )
    return {
        "controls": sorted({cell["method"] for cell in cells if cell["role"] == "control"}),
        "counted": _counted(cells),
        "many_seeds": len({cell["seed"] for cell in cells}) > 1,
        "has_ce": any("clean/cross_entropy" in cell["metrics"] for cell in cells),
        "has_front": any(cell.get("front") is not None for cell in cells),
        "extra": [name for name in _EXTRA if name in names] + (choices[:2] if data["headline"] else choices),
        "span": (min(ends, default=0.0), max(ends, default=0.0)),
        "side": _side(cells),
        "lost": lost,
        "no_receipt": {"edit": None, "sites": 0, "calls": 0, "tokens": {}, "relative_size": None},
        "incidents": [(cell, line) for cell in cells for line in cell["incidents"]],
        "problems": " ".join(problems),
        "no_samples": texts,
        "floor": FLOOR,
        "no_interaction": "These records cannot say: it takes two arms of pretraining or more, and a method that was measured on both "
        "of them, with scores and clean cross-entropy.",
        "no_agreement": "Only one scorer judged these texts: nobody to agree with."
        if len(data["scorers"]) < 2
        else "Not computed for these records.",
        "verdict_note": _VERDICTS + unranked,
        "alone": [(cell, line) for cell in shown if (line := (cell["verdicts"] or {}).get("alone"))],
    }  # fmt: skip


def _counted(cells: list[dict[str, Any]]) -> str:
    """How many bases, methods and controls there are, in words; the base against itself is neither."""
    bases = {cell["base"] for cell in cells}
    controls = {cell["method"] for cell in cells if cell["role"] == "control"}
    methods = {cell["method"] for cell in cells if cell["role"] in ("method", "prompted base")}
    parts = [("base", len(bases)), ("method", len(methods)), *([("control", len(controls))] if controls else [])]
    floor = ", the base against itself (A/A)" if any(cell["role"] == "A/A" for cell in cells) else ""
    return ", ".join(f"{n} {word}{'' if n == 1 else 's'}" for word, n in parts) + floor


def _side(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """By base: its own cell, and those that can be held against it."""
    found = []
    for base in (cell for cell in cells if cell["method"] is None):
        same = [
            c for c in cells
            if c["method"] is not None and (c["base"], c["seed"]) == (base["base"], base["seed"]) and c["changes"]
        ]  # fmt: skip
        if same:
            found.append({"base": base, "cells": same})
    return found


def _for_script(data: Mapping[str, Any]) -> dict[str, Any]:
    """What figures need, and no more."""

    def short(estimate: list[Any] | None) -> list[Any] | None:
        return None if estimate is None else [None if v is None else float(f"{v:.4g}") for v in estimate[:3]]

    cells = [
        {
            **{key: cell[key] for key in ("id", "base", "method", "strength", "seed", "label", "unranked")},
            **{key: short(cell[key]) for key in ("toxicity", "toxicity_change", "cost_change")},
            "front": cell.get("front"),
            "metrics": {name: short(value) for name, value in cell["metrics"].items()},
        }
        for cell in data["cells"]
    ]
    prompts = data["prompts"] or {"ids": [], "levels": {}, "cells": {}}
    keys = ("bases", "methods", "headline", "named", "scorers", "metrics", "samples")
    return {
        **{key: data[key] for key in keys},
        "controls": sorted({cell["method"] for cell in data["cells"] if cell["role"] == "control"}),
        "seeds": len({cell["seed"] for cell in data["cells"]}),
        "threshold": data["protocol"]["threshold"],
        "cells": cells,
        "prompts": {key: prompts[key] for key in ("ids", "levels", "cells")},
    }
