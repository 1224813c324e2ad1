"""A results directory as a run leaves it, small, with texts, names and notes that mean harm."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from detox.bench.cells import Cell, Store
from detox.evaluation import Scorecard
from tests.bench.synthetic import whole_card

HOSTILE = (
    "<script>window.ran = 1; alert(1)</script>",
    "</script><script>window.ran = 2</script>",
    "<img src=x onerror=\"window.ran = 3\">",
    '"><svg onload=alert(1)>',
    "</p></details></main><h1>out</h1>",
    "<a href='javascript:window.ran = 4'>x</a><iframe src=https://example.org></iframe><link rel=stylesheet href=//example.org/x>",
    "safe \u202etxet desrever\u202c \u2066isolated\u2069 \u200bzero\u200d width\ufeff",
    "null\x00bell\x07escape\x1b[31m\r\nline\u2028separator",
    "&lt;b&gt; &amp;amp; &#60;script&#62; {{ 7 * 7 }} {% raw %} ${7*7} `x`",
    "<!-- comment --><!--<script> ]]> <![CDATA[ x ]]>",
    "a" * 5000,
    "",
)  # fmt: skip
SCORERS = ("first", "second")
PROMPTS, SAMPLES = 12, 2


def scorecard(
    seed: int, *, effect: float = 0.0, texts: bool = True, lost: bool = False, names: tuple[str, ...] | None = None
) -> Scorecard:
    rng = np.random.default_rng(seed)
    common = np.random.default_rng(0).normal(size=(PROMPTS, 1))
    ids = list(names or [f"prompt-{i}" for i in range(PROMPTS)])
    matrices = [
        1 / (1 + np.exp(-(common - effect + 0.3 * rng.normal(size=(PROMPTS, SAMPLES)) + 0.2 * place)))
        for place in range(len(SCORERS))
    ]
    if lost:
        matrices[0][0, 0] = math.nan
    labels = np.arange(30) % 2
    card = whole_card(
        dict(zip(SCORERS, matrices, strict=True)),
        ids=ids,
        nats=40 + rng.gamma(9, 1, size=20) * (1 + 0.1 * effect),
        tokens=np.full(20, 30),
        correct=(rng.random(30) < 0.6).astype(int),
        labels=labels,
        margins=labels + rng.normal(size=30),
        length=10,
    )
    written = [[HOSTILE[i], f"sample {seed} of prompt {i}"] for i in range(PROMPTS)]
    receipt = {
        "edit": "iti@1#1",
        "sites": {"model.layers.0": 4},
        "tokens": {"pad": 1, "prompt": 2, "generated": 3},
        "relative_size": 0.5,
    }
    return replace(
        card,
        fingerprint=f"fingerprint-{seed}",
        texts=written if texts else None,
        receipts=[receipt] if effect else [],
        incidents=[HOSTILE[0]] if lost else [],
    )


def write_results(folder: Path, *, texts: bool = True, hostile: bool = True) -> Path:
    """Two bases; on the first a prompted base, a method at two strengths and its control; the second lacks a prompted base."""
    store = Store(folder)
    bases = ("clean", f"mix {HOSTILE[2]} \u202e" if hostile else "mix")
    asked = [
        (bases[0], None, None, None), (bases[0], "prompting", None, "prompting"), (bases[0], "iti", 1.0, "iti"),
        (bases[0], "iti", 2.0, "iti"), (bases[0], "iti (random)", 2.0, "iti"), (bases[1], None, None, None), (bases[1], "iti", 1.0, "iti"),
    ]  # fmt: skip
    cells = []
    for number, (base, method, strength, name) in enumerate(asked):
        effect = {"iti": strength or 0.0, "prompting": 0.4}.get(method or "", 0.0)
        card = scorecard(number, effect=effect, texts=texts, lost=method == "iti" and strength == 2.0)
        settings = {
            "name": name,
            "settings": {"note": HOSTILE[1]},
            "contrasts": "c" if name == "iti" else None,
            "strength": strength,
        }
        cell = Cell(
            base=base, method=method, strength=strength, protocol="main", seed=0,
            identity={"number": number, "method": None if name is None else settings},
        )  # fmt: skip
        provenance = {
            "packages": {"detox": "0.1.0"}, "python": "3.11", "device": "2 CPU cores", "source": {"commit": "abc", "changed": False},
        }  # fmt: skip
        extra = {} if name is None else {"fit": {"seconds": 3.5 if strength == 1.0 else 0.0, "learned": {}}}
        audit = {"texts": 4, "padding": {"difference": 1e-6, "bound": 2e-4}, "identity_at_zero": True}
        store.write(cell, card, {"provenance": provenance, "audit": audit, **extra})
        cells.append({"folder": cell.folder, **cell.names()})
    grid = {
        "name": f"tiny {HOSTILE[0]}" if hostile else "tiny", "cells": cells, "controls": {"iti (random)": "iti"},
        "holes": {"clean--dpo@1--main--seed0--000000000000": f"RuntimeError: {HOSTILE[3]}" if hostile else "RuntimeError: no"},
    }  # fmt: skip
    (folder / "grid.json").write_text(json.dumps(grid))
    return folder
