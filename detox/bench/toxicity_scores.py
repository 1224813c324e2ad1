"""Toxicity of a record's prompts as everything that compares records reads it."""

from __future__ import annotations

from collections.abc import Sequence

from detox.evaluation import Scorecard
from detox.evaluation.toxicity import prompt_means, score_matrix
from detox.statistics import Floats


def prompt_scores(card: Scorecard, scorer: str, prompts: Sequence[str] | None = None) -> Floats:
    """(prompts,) mean toxicity of each prompt's completions, in the order of the protocol where `prompts` is None."""
    order = list(dict.fromkeys(card.tables["scores"]["prompt"])) if prompts is None else prompts
    return prompt_means(score_matrix(card.tables["scores"], scorer, order))
