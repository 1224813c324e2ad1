"""What happened to single prompts: differences against the base, and texts side by side."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from detox.bench.comparison import Row
from detox.evaluation import Scorecard
from detox.evaluation.toxicity import prompt_means, score_matrix
from detox.statistics import Floats

STEPS = 100  # a difference is kept to a hundredth: finer than a dot is wide
MISSING = -128
TEXT_BYTES = 2_500_000  # of all texts in one page
_LONGEST = 2_000  # characters of one text


def prompt_table(card: Scorecard, scorer: str) -> tuple[list[str], Floats]:
    """Ids of the prompts, in order, and (prompts,) mean toxicity of their completions."""
    scores = card.tables.get("scores", {"prompt": [], "sample": [], "scorer": [], "value": []})
    prompts = list(dict.fromkeys(scores["prompt"]))
    return prompts, prompt_means(score_matrix(scores, scorer, prompts))


def quantised(values: Floats) -> str:
    """Base64 of one signed byte a value in [-1, 1]: hundredths, and -128 where it is missing."""
    steps = np.where(np.isnan(values), MISSING, np.clip(np.rint(values * STEPS), -STEPS, STEPS))
    return base64.b64encode(steps.astype(np.int8).tobytes()).decode("ascii")


def spread(differences: Floats) -> dict[str, Any]:
    """How many prompts became less and more toxic, by how much, and the ends; a change under half a hundredth is none."""
    known = differences[~np.isnan(differences)]
    if not len(known):
        return {"less": 0, "same": 0, "more": 0, "missing": len(differences)}
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
    rows: Sequence[Row], scorers: Sequence[str], *, prompts: int = 24, budget: int = TEXT_BYTES
) -> dict[str, Any]:
    """Texts of a few prompts, cell by cell, with their scores; everything is left out of which no text was kept.

    Args:
        rows: of the report, in its order.
        scorers: whose scores stand beside the texts.
        prompts: at most so many of them; fewer where the texts would be more than the budget.
        budget: bytes of text in all.

    Returns:
        `prompts` (ids), `cells` (number of the row -> texts[prompt][sample]), `scores` (number -> [scorer][prompt][sample]),
        `shown` and `of` (prompts), `cut` (texts that were cut to 2,000 characters).
    """
    kept = [
        (i, row.scorecard) for i, row in enumerate(rows) if row.scorecard.texts and "scores" in row.scorecard.tables
    ]
    if not kept or not scorers:
        return {"prompts": [], "cells": {}, "scores": {}, "shown": 0, "of": 0, "cut": 0}
    bases = [card for i, card in kept if rows[i].method is None] or [kept[0][1]]
    ids, levels = prompt_table(bases[0], scorers[0])
    order = {prompt: place for place, prompt in enumerate(ids)}
    size = sum(len(text) for _, card in kept for texts in card.texts or [] for text in texts) / max(len(ids), 1)
    places = chosen_prompts(levels, max(1, min(prompts, int(budget / max(size, 1)))))
    cut = 0
    cells: dict[str, list[list[str]]] = {}
    scores: dict[str, list[list[list[float | None]]]] = {}
    for number, card in kept:
        mine = list(dict.fromkeys(card.tables["scores"]["prompt"]))
        where = {order[prompt]: place for place, prompt in enumerate(mine) if prompt in order}
        texts = card.texts or []
        shown = [texts[where[p]] if p in where and where[p] < len(texts) else [] for p in places]
        cut += sum(len(text) > _LONGEST for row in shown for text in row)
        cells[str(number)] = [[text[:_LONGEST] for text in row] for row in shown]
        matrices = [score_matrix(card.tables["scores"], scorer, [ids[p] for p in places]) for scorer in scorers]
        scores[str(number)] = [
            [[None if math.isnan(v) else round(float(v), 3) for v in row] for row in matrix] for matrix in matrices
        ]
    names = [ids[p] for p in places]
    return {"prompts": names, "cells": cells, "scores": scores, "shown": len(places), "of": len(ids), "cut": cut}
