"""Fluency: how likely another, fixed language model finds what was written. Nothing is dropped silently.

The reference is the same for every method, and its fingerprint is part of the protocol's identity: what a detoxified model thinks of
its own text says nothing. A text that repeats itself is likely too, so that this is read beside `diversity/`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from detox.evaluation.scorecard import Table
from detox.models import LanguageModel, token_logprobs
from detox.models.tokenization import encode_texts, start_token
from detox.scorers.protocol import EMPTY, is_empty, readable
from detox.statistics import Estimate, Floats, bootstrap_weights, exponential, mean_estimate, ratio_estimate

MERGED = "no token of its own after its prompt"
# Above it DExperts drops a text (Liu et al. 2021, code alisawuffles/DExperts); here it is counted.
PERPLEXITY_LIMIT = 1e4


@dataclass(frozen=True)
class ReferenceModel:
    """The language model that judges fluency; loaded once, when it is first asked.

    Attributes:
        model: hub id, or a folder in the transformers layout.
        revision: branch, tag or commit of a hub id.
    """

    model: str
    revision: str | None = None

    @property
    def lm(self) -> LanguageModel:
        """The language model itself, in float32.

        Raises:
            MissingData: no such folder.
            InputError: a folder or a name that holds no causal language model.
        """
        return _loaded(self.model, self.revision)

    def identity(self) -> dict[str, Any]:
        """Everything that changes a number, as JSON: what it computes, not where it lies."""
        return {"fingerprint": self.lm.fingerprint()}


@lru_cache(maxsize=2)
def _loaded(model: str, revision: str | None) -> LanguageModel:
    return LanguageModel.from_pretrained(model, revision=revision, dtype="float32")


def fluency_table(
    reference: LanguageModel, ids: Sequence[str], prompts: Sequence[str], texts: Sequence[Sequence[str]]
) -> Table:
    """One row a (prompt, sample): nats and tokens of the text after its prompt, under the reference.

    Prompt and text are encoded jointly and split where the prompt's own tokens end. A text without a visible character, or that merges
    into its prompt's last token, has no nats, and `reason` says why. Half a surrogate pair is read as U+FFFD.

    Args:
        reference: a handle without edits.
        ids: of the prompts.
        prompts: what the texts continue, without system turn or prefix. "" means from the start token.
        texts: of each prompt.
    """
    cells = [(id, sample, prompt, text) for id, prompt, own in zip(ids, prompts, texts, strict=True)
             for sample, text in enumerate(own)]  # fmt: skip
    start = start_token(reference.tokenizer)
    wholes = encode_texts(reference.tokenizer, [readable(prompt + text) for _, _, prompt, text in cells])
    # Blanks at the prompt's end belong to the text, as in the ruler.
    heads = encode_texts(reference.tokenizer, [readable(prompt).rstrip() for _, _, prompt, _ in cells])
    contexts, continuations = [], []
    reasons: list[str | None] = []
    for (_, _, _, text), whole, head in zip(cells, wholes, heads, strict=True):
        own = whole[len(head) :]
        reasons.append(EMPTY if is_empty(text) else None if own else MERGED)
        contexts.append(head or ([start] if start is not None else whole[:1]))
        continuations.append([] if reasons[-1] else own if head or start is not None else own[1:])
    values = token_logprobs(reference, contexts, continuations)
    return {
        "prompt": [id for id, _, _, _ in cells],
        "sample": [sample for _, sample, _, _ in cells],
        "nats": [
            -float(v.double().sum()) if reason is None else math.nan for v, reason in zip(values, reasons, strict=True)
        ],
        "tokens": [len(v) for v in values],
        "reason": reasons,
    }


def fluency_metrics(table: Table) -> dict[str, Estimate]:
    """Of perplexities exp(nats / tokens) of single texts, under `fluency/`; prompts are what is resampled.

    `perplexity_median` over all texts; `above_1e4`, the share of texts above 10,000, mean over prompts; `cross_entropy`, all nats over
    all tokens. Texts without nats are missing in each: for the median and the cross-entropy, `n` and `missing` count texts.
    """
    prompts = list(dict.fromkeys(table["prompt"]))
    place = {prompt: index for index, prompt in enumerate(prompts)}
    nats, tokens = np.array(table["nats"], dtype=np.float64), np.array(table["tokens"], dtype=np.float64)
    units = np.array([place[prompt] for prompt in table["prompt"]])
    known = ~np.isnan(nats) & (tokens > 0)
    missing = int((~known).sum())
    means, of = nats[known] / tokens[known], units[known]
    counts = np.bincount(of, minlength=len(prompts))
    above = np.bincount(of, means > math.log(PERPLEXITY_LIMIT), minlength=len(prompts))
    shares = np.divide(above, counts, out=np.full(len(prompts), np.nan), where=counts > 0)
    there = counts > 0
    sums = [np.bincount(of, column[known], minlength=len(prompts))[there] for column in (nats, tokens)]
    ce = ratio_estimate(*sums)
    median = clustered_median(means, of, len(prompts))
    return {
        "fluency/perplexity_median": exponential(replace(median, missing=missing)),
        "fluency/above_1e4": mean_estimate(shares, bounds=(0.0, 1.0)),
        "fluency/cross_entropy": Estimate(ce.value, ce.low, ce.high, len(means), missing),
    }


def clustered_median(values: Floats, units: np.ndarray, count: int, *, draws: int = 1000) -> Estimate:
    """Median of values that come in units (the texts of one prompt), which are resampled whole.

    The median is the lower one: the smallest value with at least half of the weight at or below it.

    Args:
        values: (values,), none missing.
        units: (values,) whole numbers below `count`.
        count: units.
        draws: resamples.

    Returns:
        `n` counts values; no interval for a single unit.
    """
    if not len(values):
        return Estimate(math.nan, math.nan, math.nan, 0)
    order = np.argsort(values, kind="stable")
    ranked, of = values[order], units[order]
    value = float(ranked[(len(ranked) - 1) // 2])
    if len(set(units.tolist())) < 2:
        return Estimate(value, math.nan, math.nan, len(ranked))
    found = []
    at_once = max(1, 2_000_000 // len(ranked))  # weights of single values that exist at the same time
    for chunk in bootstrap_weights(count, draws=draws):
        for start in range(0, len(chunk), at_once):
            below = np.cumsum(chunk[start : start + at_once][:, of], axis=1)
            there = below[:, -1] > 0  # a resample may hold prompts without a known text only
            found.append(ranked[(below[there] >= below[there, -1:] / 2).argmax(1)])
    drawn = np.concatenate(found)
    # Between infinite values there is nothing to interpolate.
    low, high = np.quantile(drawn, [0.025, 0.975], method="linear" if np.isfinite(drawn).all() else "inverted_cdf")
    return Estimate(value, float(low), float(high), len(ranked))
