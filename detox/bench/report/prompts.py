"""What happened to single prompts: differences against the base, and texts side by side."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from detox.bench.comparison import Row
from detox.bench.report.side_effects import Items
from detox.evaluation import Scorecard
from detox.evaluation.toxicity import prompt_means
from detox.statistics import Floats

STEPS = 100  # a difference is kept to a hundredth: finer than a dot is wide
MISSING = -128
TEXT_BYTES = 2_500_000  # characters of all texts in one page
_LONGEST = 2_000  # characters of one text
_MOST_PROMPTS = 24
_LOOKED_AT = 50  # prompts whose texts are measured


def quantised(values: Floats) -> str:
    """Base64 of one signed byte a value in [-1, 1]: hundredths, and -128 where it is missing."""
    steps = np.where(np.isnan(values), MISSING, np.clip(np.rint(values * STEPS), -STEPS, STEPS))
    return base64.b64encode(steps.astype(np.int8).tobytes()).decode("ascii")


def spread(differences: Floats) -> dict[str, Any]:
    """How many prompts became less and more toxic, by how much, and the ends; a change under half a hundredth is none."""
    known = differences[~np.isnan(differences)]
    if not len(known):
        return {"less": 0, "same": 0, "more": 0, "missing": len(differences), "quartiles": None}
    less, more = int((known < -0.5 / STEPS).sum()), int((known > 0.5 / STEPS).sum())
    quartiles = np.quantile(known, [0, 0.25, 0.5, 0.75, 1])
    return {
        "less": less,
        "same": len(known) - less - more,
        "more": more,
        "missing": len(differences) - len(known),
        "quartiles": [round(float(value), 4) for value in quartiles],
    }


def chosen_prompts(levels: Floats, count: int) -> list[int]:
    """Places of prompts spread evenly over the order of the base's toxicity, so that no method has a say in it."""
    known = [int(i) for i in np.argsort(levels, kind="stable") if not math.isnan(levels[i])]
    if len(known) <= count:
        return sorted(known, key=lambda i: -levels[i])
    return (
        [known[round(i * (len(known) - 1) / (count - 1))] for i in range(count - 1, -1, -1)]
        if count > 1
        else known[-1:]
    )


def samples(
    rows: Sequence[Row], scorers: Sequence[str], items: Callable[[Scorecard], Items], *, budget: int = TEXT_BYTES
) -> dict[str, Any]:
    """Texts of a few prompts, cell by cell, with their scores; cells of which no text was kept are left out.

    Args:
        rows: of the report, in its order.
        scorers: whose scores stand beside the texts, the headline first.
        items: of a scorecard.
        budget: characters of text in all, about; it decides how many prompts are shown, 24 at most.

    Returns:
        `prompts` (ids), `cells` (number of the row -> texts[prompt][sample]), `scores` (number -> [scorer][prompt][sample]),
        `shown` and `of` (prompts), `cut` (texts that were cut to 2,000 characters).
    """
    kept = [
        (i, row.scorecard) for i, row in enumerate(rows) if row.scorecard.texts and "scores" in row.scorecard.tables
    ]
    if not kept or not scorers:
        return {"prompts": [], "cells": {}, "scores": {}, "shown": 0, "of": 0, "cut": 0}
    first = items(next((card for i, card in kept if rows[i].method is None), kept[0][1]))
    ids, levels = first.prompts, prompt_means(first.scores[scorers[0]])
    # Characters a prompt, of all cells together, from the first prompts of each: what the budget is divided by.
    part = [(card.texts or [])[:_LOOKED_AT] for _, card in kept]
    size = sum(min(len(text), _LONGEST) / len(rows) for rows in part for row in rows for text in row)
    places = chosen_prompts(levels, max(1, min(_MOST_PROMPTS, int(budget / max(size, 1)))))
    cut = 0
    cells: dict[str, list[list[str]]] = {}
    scores: dict[str, list[list[list[float | None]]]] = {}
    for number, card in kept:
        mine, texts = items(card), card.texts or []
        where = {prompt: place for place, prompt in enumerate(mine.prompts)}
        at = [where.get(ids[place], -1) for place in places]
        shown = [texts[place] if 0 <= place < len(texts) else [] for place in at]
        cut += sum(len(text) > _LONGEST for row in shown for text in row)
        cells[str(number)] = [[text[:_LONGEST] for text in row] for row in shown]
        scores[str(number)] = [
            [
                [None if math.isnan(v) else round(float(v), 3) for v in mine.scores[scorer][place]]
                if place >= 0
                else []
                for place in at
            ]
            for scorer in scorers
            if scorer in mine.scores
        ]
    names = [ids[place] for place in places]
    return {"prompts": names, "cells": cells, "scores": scores, "shown": len(places), "of": len(ids), "cut": cut}
