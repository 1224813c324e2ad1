"""Toxicity of what a model writes: generate, score, and count what could not be scored."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from detox.data.records import Prompt
from detox.evaluation.protocol import Protocol
from detox.evaluation.scorecard import Table
from detox.models import Completion, LanguageModel, generate
from detox.scorers import score_texts
from detox.statistics import Estimate, Floats, any_above, expected_maximum, mean_estimate


def write_completions(lm: LanguageModel, protocol: Protocol) -> list[list[Completion]]:
    """Continue every prompt of the protocol."""
    if protocol.chat:
        turns = [[{"role": "user", "content": prompt.text}] for prompt in protocol.prompts]
        return generate(lm, turns, protocol.sampling)
    return generate(lm, [prompt.text for prompt in protocol.prompts], protocol.sampling)


def completion_table(protocol: Protocol, completions: Sequence[Sequence[Completion]]) -> Table:
    """One row a completion, without its text."""
    pairs = [(p, s, c) for p, row in zip(protocol.prompts, completions, strict=True) for s, c in enumerate(row)]
    return {
        "prompt": [p.id for p, _, _ in pairs],
        "sample": [s for _, s, _ in pairs],
        "tokens": [len(c.token_ids) for _, _, c in pairs],
        "finish_reason": [c.finish_reason for _, _, c in pairs],
        "empty": [not c.text.strip() for _, _, c in pairs],
    }


def score_table(protocol: Protocol, texts: Sequence[Sequence[str]], *, with_prompt: bool | None = None) -> Table:
    """One row a (prompt, sample, scorer): the value, or NaN and the reason.

    An empty completion is not scored, with its prompt or without: silence is missing, not harmless.

    Args:
        protocol: its prompts and scorers.
        texts: completions, prompt by prompt.
        with_prompt: whether the prompt is scored together with the completion; None as the protocol says, which for "both" is
            the completion alone.
    """
    joined = protocol.scored == "prompt+completion" if with_prompt is None else with_prompt
    cells = [(p, s, text) for p, row in zip(protocol.prompts, texts, strict=True) for s, text in enumerate(row)]
    table: Table = {"prompt": [], "sample": [], "scorer": [], "value": [], "reason": []}
    for scorer in protocol.scorers:
        there = [index for index, (_, _, text) in enumerate(cells) if text.strip()]
        asked = [(cells[i][0].text if joined else "") + cells[i][2] for i in there]
        scores = dict(zip(there, score_texts(scorer, asked), strict=True))
        for index, (prompt, sample, _) in enumerate(cells):
            score = scores.get(index)
            table["prompt"].append(prompt.id)
            table["sample"].append(sample)
            table["scorer"].append(scorer.card.name)
            table["value"].append(math.nan if score is None else score.value)
            table["reason"].append("empty" if score is None else score.reason)
    return table


def score_matrix(table: Table, scorer: str, prompts: Sequence[str]) -> Floats:
    """(prompts, samples) values of one scorer, NaN where missing, in the order of `prompts`."""
    order = {prompt: index for index, prompt in enumerate(prompts)}
    samples = max(table["sample"], default=-1) + 1
    matrix = np.full((len(order), samples), np.nan)
    for prompt, sample, name, value in zip(
        table["prompt"], table["sample"], table["scorer"], table["value"], strict=True
    ):
        if name == scorer and prompt in order:
            matrix[order[prompt], sample] = value
    return matrix


def prompt_means(matrix: Floats) -> Floats:
    """(prompts,) mean over the samples that were scored; NaN where none was."""
    known = ~np.isnan(matrix)
    totals = np.where(known, matrix, 0.0).sum(1)
    means: Floats = np.divide(totals, known.sum(1), out=np.full(len(matrix), np.nan), where=known.any(1))
    return means


def toxic_fractions(matrix: Floats, threshold: float) -> Floats:
    """(prompts,) share of the scored samples at or above the threshold; NaN where none was scored."""
    return prompt_means(np.where(np.isnan(matrix), np.nan, (matrix >= threshold).astype(float)))


def toxicity_metrics(protocol: Protocol, table: Table, *, family: str = "toxicity") -> dict[str, Estimate]:
    """Under `family`: mean, toxic fraction, expected maximum and toxicity probability of each scorer; the mean by prompt strata too."""
    metrics: dict[str, Estimate] = {}
    ids = [prompt.id for prompt in protocol.prompts]
    samples = protocol.sampling.num_return_sequences
    for scorer in protocol.scorers:
        name = scorer.card.name
        matrix = score_matrix(table, name, ids)
        per_prompt = {
            "mean": prompt_means(matrix),
            "fraction": toxic_fractions(matrix, protocol.threshold),
            f"expected_maximum@{samples}": expected_maximum(matrix, samples),
            f"probability@{samples}": any_above(matrix, protocol.threshold, samples),
        }
        for metric, values in per_prompt.items():
            metrics[f"{family}/{name}/{metric}"] = mean_estimate(values, bounds=(0.0, 1.0))
        for stratum, members in _strata(protocol.prompts).items():
            metrics[f"{family}/{name}/mean/{stratum}"] = mean_estimate(per_prompt["mean"][members], bounds=(0.0, 1.0))
    return metrics


def _strata(prompts: Sequence[Prompt]) -> dict[str, list[int]]:
    """Prompts by their own toxicity (below .5, at or above) where all have one, else by group where all have one."""
    strata: dict[str, list[int]] = {}
    if all(prompt.toxicity is not None for prompt in prompts):
        for index, prompt in enumerate(prompts):
            strata.setdefault("toxic prompts" if (prompt.toxicity or 0.0) >= 0.5 else "non-toxic prompts", []).append(
                index
            )
    elif all(prompt.group is not None for prompt in prompts):
        for index, prompt in enumerate(prompts):
            strata.setdefault(f"{prompt.group} prompts", []).append(index)
    return strata if len(strata) > 1 else {}


def accounting(protocol: Protocol, completions: Table, scores: Table) -> dict[str, Any]:
    """Requested = scored + missing by reason, for each scorer; how long the texts were and why they ended."""
    total = len(completions["prompt"])
    counts: dict[str, Any] = {
        "requested": total,
        "empty": sum(completions["empty"]),
        "ended by the model": sum(reason == "eos" for reason in completions["finish_reason"]),
        "mean tokens": round(sum(completions["tokens"]) / total, 2) if total else None,
        "scorers": scored_counts(protocol, scores),
    }
    return counts


def scored_counts(protocol: Protocol, scores: Table) -> dict[str, Any]:
    """By scorer: how many texts were scored, and how many were not, by reason."""
    counts = {}
    for scorer in protocol.scorers:
        name = scorer.card.name
        asked = [r for s, r in zip(scores["scorer"], scores["reason"], strict=True) if s == name]
        missing = Counter(reason for reason in asked if reason is not None)
        counts[name] = {"scored": len(asked) - missing.total(), "missing": dict(sorted(missing.items()))}
    return counts
