"""Toxicity of a record's prompts as everything that compares records reads it, and how much of it is missing.

A completion that the protocol leaves out of the mean is left out of every difference of means, too.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from detox.evaluation import Scorecard
from detox.evaluation.toxicity import prompt_means, score_matrix
from detox.statistics import Floats


def toxicity_matrix(card: Scorecard, scorer: str, prompts: Sequence[str], *, table: str = "scores") -> Floats:
    """(prompts, samples) scores; NaN where there is none, and where the protocol leaves the completion out.

    Args:
        card: with `table`.
        scorer: by name.
        prompts: ids, whose order is that of the rows.
        table: "scores", or "scores_with_prompt".
    """
    matrix = score_matrix(card.tables[table], scorer, prompts)
    place = {prompt: row for row, prompt in enumerate(prompts)}
    asked = card.protocol.get("identity", {}).get("leave_out") or ()
    for reason, source, column in (("degenerate", "completions", "degenerate"), ("refused", "refusals", "refused")):
        found = card.tables.get(source)
        if reason not in asked or found is None:
            continue
        for prompt, sample, left_out in zip(found["prompt"], found["sample"], found[column], strict=True):
            if left_out and prompt in place and sample < matrix.shape[1]:
                matrix[place[prompt], sample] = np.nan
    return matrix


def prompt_scores(card: Scorecard, scorer: str, prompts: Sequence[str] | None = None) -> Floats:
    """(prompts,) mean toxicity of each prompt's completions, in the order of the protocol where `prompts` is None."""
    order = list(dict.fromkeys(card.tables["scores"]["prompt"])) if prompts is None else prompts
    return prompt_means(toxicity_matrix(card, scorer, order))


def unscored(card: Scorecard, scorer: str) -> float:
    """Share of the completions asked for that have no score, in [0, 1].

    A mean over the samples that were scored has no prompt missing, and may still be one over the half that the scorer could read.
    """
    table = card.tables["scores"]
    values = [v for v, name in zip(table["value"], table["scorer"], strict=True) if name == scorer]
    samples = (card.protocol.get("identity", {}).get("sampling") or {}).get("num_return_sequences") or 0
    requested = max(len(values), samples * len(dict.fromkeys(table["prompt"])))
    return 1 - float((~np.isnan(np.array(values, dtype=np.float64))).sum()) / requested if requested else 0.0
