"""What became of every completion that was asked for: nothing is lost, and nothing that is missing counts as harmless."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detox.errors import InputError
from detox.evaluation.diversity import is_degenerate
from detox.evaluation.protocol import Protocol
from detox.evaluation.refusal_judge import REFUSES, checked_verdicts
from detox.evaluation.scorecard import Table
from detox.models import Completion
from detox.scorers.protocol import EMPTY, is_empty
from detox.statistics import Estimate, mean_estimate

SCORED, REFUSED, DEGENERATE, SCORER_ERROR, FAILED = "scored", "refused", "degenerate", "scorer error", "failed"
OUTCOMES = (SCORED, EMPTY, REFUSED, DEGENERATE, SCORER_ERROR, FAILED)
"""Exactly one for every completion asked for and every scorer.

failed: no completion came. empty: no visible character. scorer error: the scorer could not say. refused: the protocol's judge says
that it refuses. degenerate: a loop (`is_degenerate`). scored: none of these. The first in this order that holds is counted.
Refused and degenerate texts have a score, and it is in the means unless the protocol leaves them out: a model that refuses everything
is not toxic, and that it refuses everything stands beside it (`refusals/rate`).
"""


def completion_table(protocol: Protocol, completions: Sequence[Sequence[Completion]]) -> Table:
    """One row a completion, without its text."""
    pairs = [(p, s, c) for p, row in zip(protocol.prompts, completions, strict=True) for s, c in enumerate(row)]
    return {
        "prompt": [p.id for p, _, _ in pairs],
        "sample": [s for _, s, _ in pairs],
        "tokens": [len(c.token_ids) for _, _, c in pairs],
        "finish_reason": [c.finish_reason for _, _, c in pairs],
        "empty": [is_empty(c.text) for _, _, c in pairs],
        "degenerate": [is_degenerate(c.text) for _, _, c in pairs],
    }


def refusal_table(protocol: Protocol, texts: Sequence[Sequence[str]]) -> Table:
    """One row a completion: whether the protocol's judge says that it refuses as a whole. An empty one is empty.

    Raises:
        InputError: the judge did not give one known verdict a completion.
    """
    judge = protocol.refusals
    if judge is None:
        return {"prompt": [], "sample": [], "refused": []}
    rows = [(p, s, text) for p, row in zip(protocol.prompts, texts, strict=True) for s, text in enumerate(row)]
    verdicts = checked_verdicts(judge, [p.text for p, _, _ in rows], [text for _, _, text in rows], what="completions")
    return {
        "prompt": [p.id for p, _, _ in rows],
        "sample": [s for _, s, _ in rows],
        "refused": [said == REFUSES and not is_empty(text) for said, (_, _, text) in zip(verdicts, rows, strict=True)],
    }


def refusal_metrics(protocol: Protocol, table: Table) -> dict[str, Estimate]:
    """`refusals/rate`: share of a prompt's completions that refuse, prompts as units."""
    shares = _by_place(protocol, table, "refused")
    with np.errstate(invalid="ignore"):
        rates = np.nansum(shares, axis=1) / (~np.isnan(shares)).sum(1)
    return {"refusals/rate": mean_estimate(rates, bounds=(0.0, 1.0))}


def left_out(protocol: Protocol, completions: Table, refusals: Table | None) -> NDArray[np.bool_]:
    """(prompts, samples) of the completions that the protocol leaves out of the toxicity.

    Raises:
        InputError: completions that were kept before degenerate ones were marked.
    """
    found = np.zeros((len(protocol.prompts), protocol.sampling.num_return_sequences), dtype=bool)
    if DEGENERATE in protocol.leave_out:
        if "degenerate" not in completions:
            raise InputError(
                "leave_out names degenerate, but these completions were kept before such texts were marked; remove their "
                "generate--* file from the folder stages and measure again"
            )
        found |= _by_place(protocol, completions, "degenerate") == 1
    if REFUSED in protocol.leave_out and refusals is not None:
        found |= _by_place(protocol, refusals, "refused") == 1
    return found


def accounting(protocol: Protocol, completions: Table, scores: Table, refusals: Table | None = None) -> dict[str, Any]:
    """Requested = the sum of `OUTCOMES`, exactly, for each scorer; how long the texts were and why they ended."""
    written = len(completions["prompt"])
    return {
        "requested": len(protocol.prompts) * protocol.sampling.num_return_sequences,
        "empty": sum(completions["empty"]),
        "ended by the model": sum(reason == "eos" for reason in completions["finish_reason"]),
        "mean tokens": round(sum(completions["tokens"]) / written, 2) if written else None,
        "scorers": scored_counts(protocol, scores),
        "outcomes": outcome_counts(protocol, completions, scores, refusals),
    }


def scored_counts(protocol: Protocol, scores: Table) -> dict[str, Any]:
    """By scorer: how many texts have a score, and how many have none, by reason; a completion that never came is "failed"."""
    requested = len(protocol.prompts) * protocol.sampling.num_return_sequences
    counts = {}
    for scorer in protocol.scorers:
        name = scorer.card.name
        asked = [r for s, r in zip(scores["scorer"], scores["reason"], strict=True) if s == name]
        missing = Counter(reason for reason in asked if reason is not None)
        if requested > len(asked):
            missing[FAILED] += requested - len(asked)
        counts[name] = {"scored": requested - missing.total(), "missing": dict(sorted(missing.items()))}
    return counts


def left_out_counts(protocol: Protocol, scores: Table, out: NDArray[np.bool_]) -> dict[str, int]:
    """By scorer: how many texts that have a score are left out of the toxicity."""
    order = {prompt.id: index for index, prompt in enumerate(protocol.prompts)}
    counts = dict.fromkeys((scorer.card.name for scorer in protocol.scorers), 0)
    rows = zip(scores["prompt"], scores["sample"], scores["scorer"], scores["reason"], strict=True)
    for prompt, sample, name, reason in rows:
        counts[name] += int(reason is None and out[order[prompt], sample])
    return counts


def outcome_counts(
    protocol: Protocol, completions: Table, scores: Table, refusals: Table | None = None
) -> dict[str, dict[str, int]]:
    """By scorer: how many of the completions asked for met each of `OUTCOMES`; the counts sum to those requested."""
    degenerate = _places(completions, "degenerate")
    refused = _places(refusals, "refused") if refusals is not None else set()
    requested = len(protocol.prompts) * protocol.sampling.num_return_sequences
    counts = {}
    for scorer in protocol.scorers:
        found = Counter(dict.fromkeys(OUTCOMES, 0))
        for prompt, sample, name, reason in zip(
            scores["prompt"], scores["sample"], scores["scorer"], scores["reason"], strict=True
        ):
            if name == scorer.card.name:
                found[_outcome((prompt, sample), reason, refused, degenerate)] += 1
        found[FAILED] = requested - found.total()
        counts[scorer.card.name] = dict(found)
    return counts


def _outcome(
    place: tuple[str, int], reason: str | None, refused: set[tuple[str, int]], degenerate: set[tuple[str, int]]
) -> str:
    if reason is not None:
        return EMPTY if reason == EMPTY else SCORER_ERROR
    return REFUSED if place in refused else DEGENERATE if place in degenerate else SCORED


def _places(table: Table, column: str) -> set[tuple[str, int]]:
    # Records of before have no such column: nothing is known to be so.
    marks = table.get(column, [False] * len(table["prompt"]))
    return {
        (prompt, sample) for prompt, sample, mark in zip(table["prompt"], table["sample"], marks, strict=True) if mark
    }


def _by_place(protocol: Protocol, table: Table, column: str) -> NDArray[np.float64]:
    """(prompts, samples) of a column of marks: 1, 0, or NaN where there is no row."""
    order = {prompt.id: index for index, prompt in enumerate(protocol.prompts)}
    matrix = np.full((len(order), protocol.sampling.num_return_sequences), np.nan)
    for prompt, sample, mark in zip(table["prompt"], table["sample"], table[column], strict=True):
        matrix[order[prompt], sample] = float(mark)
    return matrix
