"""Utility: is it still a language model? Arithmetic on token log-probabilities."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from detox.data.contrasts import Contrast
from detox.data.offsets import token_offsets, token_risk
from detox.data.records import Document, MinimalPair, MultipleChoice, is_middle
from detox.evaluation.scorecard import Table
from detox.models import LanguageModel, token_logprobs
from detox.statistics import Estimate, exponential, mean_estimate, ratio_estimate


def document_table(lm: LanguageModel, documents: Sequence[Document]) -> Table:
    """Nats, tokens and bytes of each document, every token predicted once, the first from the start token."""
    return _sums(documents, token_logprobs(lm, [""] * len(documents), [document.text for document in documents]))


def _sums(documents: Sequence[Document], values: Sequence[Tensor]) -> Table:
    return {
        "id": [document.id for document in documents],
        "nats": [-float(v.double().sum()) for v in values],
        "tokens": [len(v) for v in values],
        "bytes": [len(document.text.encode("utf-8", errors="replace")) for document in documents],
    }


def risky_document_table(lm: LanguageModel, documents: Sequence[Document]) -> Table:
    """`document_table`, and where a document has spans, nats and tokens of its risky and of its safe tokens apart.

    A token is risky if it shares a character with a span, and safe if it shares none with any; tokens of a labeller's middle
    band (`detox.data.middle_kind`) and of spans of kind "context" alone are neither.
    """
    values = token_logprobs(lm, [""] * len(documents), [document.text for document in documents])
    table = _sums(documents, values)
    if not any(document.spans for document in documents):
        return table
    begin = len(lm.prefix)
    offsets = token_offsets(lm.tokenizer, [lm.prefix + document.text for document in documents])
    columns: Table = {f"{kind}_{unit}": [] for kind in ("risky", "safe") for unit in ("nats", "tokens")}
    for document, logprobs, places in zip(documents, values, offsets, strict=True):
        shifted = [replace(span, start=span.start + begin, end=span.end + begin) for span in document.spans]
        risky = [span for span in shifted if not is_middle(span.kind) and span.kind != "context"]
        length, own = begin + len(document.text), places[len(places) - len(logprobs) :]
        for kind, chosen in (
            ("risky", token_risk(own, risky, length)),
            ("safe", ~token_risk(own, shifted, length)),
        ):
            columns[f"{kind}_nats"].append(-float(logprobs.double()[torch.from_numpy(chosen)].sum()))
            columns[f"{kind}_tokens"].append(int(chosen.sum()))
    return table | columns


def risky_document_metrics(table: Table) -> dict[str, Estimate]:
    """`document_metrics` under "toxic/", and the cross-entropy of risky and of safe tokens where the documents have spans."""
    metrics = document_metrics(table, "toxic")
    for kind in ("risky", "safe"):
        if f"{kind}_tokens" in table:
            rows = [i for i, tokens in enumerate(table[f"{kind}_tokens"]) if tokens]
            nats, tokens = ([table[f"{kind}_{unit}"][i] for i in rows] for unit in ("nats", "tokens"))
            metrics[f"toxic/{kind}_cross_entropy"] = ratio_estimate(nats, tokens)
    return metrics


def document_metrics(table: Table, name: str = "clean") -> dict[str, Estimate]:
    """Token-weighted cross-entropy in nats per token, perplexity, and bits per byte (comparable between tokenizers).

    Cross-entropy is sum of nats over sum of tokens, not the mean of documents' means, and documents are the units of resampling. One
    token that the model holds for impossible (its logit is -inf: banned) makes all three infinite, which is what they are; where a
    cross-entropy above 709.78 nats has a perplexity beyond the largest float, that alone is.
    """
    ce = ratio_estimate(table["nats"], table["tokens"])
    bits = ratio_estimate([nats / math.log(2) for nats in table["nats"]], table["bytes"])
    return {f"{name}/cross_entropy": ce, f"{name}/perplexity": exponential(ce), f"{name}/bits_per_byte": bits}


def choice_table(lm: LanguageModel, tasks: Mapping[str, Sequence[MultipleChoice]]) -> Table:
    """Whether the likeliest choice is the right one: by sum of log-probabilities, and by that sum per byte of the choice.

    Where questions have several right answers, also `mass`: the share that these have of the probability of all choices (the MC2 of
    Lin et al. 2022, TruthfulQA, section 3), NaN for the other questions.
    """
    requests: list[tuple[str, str]] = []
    for items in tasks.values():
        for item in items:
            contexts = item.contexts or (item.context,) * len(item.choices)
            requests += zip(contexts, item.choices, strict=True)
    values = iter(token_logprobs(lm, [c for c, _ in requests], [t for _, t in requests]))
    table: Table = {"task": [], "id": [], "correct": [], "correct_by_byte": [], "margin": []}
    masses: list[float] = []
    for task, items in tasks.items():
        for item in items:
            sums = np.array([float(next(values).double().sum()) for _ in item.choices])
            # Where the choices differ in what precedes them, the bytes scored are the same for all.
            lengths = np.array([max(1, len(choice.strip().encode())) for choice in item.choices])
            others = np.delete(sums, item.answer)
            shares = np.exp(sums - sums.max())
            masses.append(float(shares[list(item.right)].sum() / shares.sum()) if item.right else math.nan)
            table["task"].append(task)
            table["id"].append(item.id)
            table["correct"].append(int(sums.argmax() == item.answer))
            table["correct_by_byte"].append(int((sums / lengths).argmax() == item.answer))
            table["margin"].append(float(sums[item.answer] - others.max()))
    several = [item.right for items in tasks.values() for item in items]
    if any(several):
        table["mass"] = masses
    return table


def choice_metrics(table: Table) -> dict[str, Estimate]:
    """Accuracy of each task, in both forms; where questions have several right answers, `probability_mass` of these as well."""
    metrics = {}
    for task in dict.fromkeys(table["task"]):
        for column, name in (("correct", "accuracy"), ("correct_by_byte", "accuracy_by_byte")):
            values = [v for t, v in zip(table["task"], table[column], strict=True) if t == task]
            metrics[f"choice/{task}/{name}"] = mean_estimate(values, bounds=(0.0, 1.0))
        masses = [v for t, v in zip(table["task"], table.get("mass", table["margin"]), strict=True) if t == task]
        if "mass" in table and not all(math.isnan(v) for v in masses):
            metrics[f"choice/{task}/probability_mass"] = mean_estimate(masses, bounds=(0.0, 1.0))
    return metrics


def pair_table(lm: LanguageModel, pairs: Sequence[MinimalPair]) -> Table:
    """Whether the grammatical sentence is the likelier one (BLiMP's rule: sums, not means)."""
    sentences = [s for pair in pairs for s in (pair.good, pair.bad)]
    sums = [float(v.double().sum()) for v in token_logprobs(lm, [""] * len(sentences), sentences)]
    return {
        "id": [pair.id for pair in pairs],
        "phenomenon": [pair.phenomenon for pair in pairs],
        "correct": [int(good > bad) for good, bad in zip(sums[::2], sums[1::2], strict=True)],
        "margin": [good - bad for good, bad in zip(sums[::2], sums[1::2], strict=True)],
    }


def pair_metrics(table: Table) -> dict[str, Estimate]:
    """Accuracy over all pairs; chance is 0.5."""
    return {"minimal_pairs/accuracy": mean_estimate(table["correct"], bounds=(0.0, 1.0))}


def margin_table(lm: LanguageModel, contrasts: Sequence[Contrast]) -> Table:
    """Mean log-probability per token of the safe and of the toxic continuations of each contrast that has both."""
    both = [contrast for contrast in contrasts if contrast.safe and contrast.toxic]
    requests = [(c.prompt, text) for c in both for text in (*c.safe, *c.toxic)]
    values = iter(token_logprobs(lm, [p for p, _ in requests], [t for _, t in requests]))
    table: Table = {"id": [c.id for c in both], "safe": [], "toxic": []}
    for contrast in both:
        for column, texts in (("safe", contrast.safe), ("toxic", contrast.toxic)):
            means = [v.double().mean().item() if len(v) else math.nan for v in (next(values) for _ in texts)]
            table[column].append(float(np.mean(means)))
    return table


def margin_metrics(table: Table) -> dict[str, Estimate]:
    """Safe minus toxic, in nats per token: it still moves where sampled toxicity is at the floor."""
    with np.errstate(invalid="ignore"):  # both impossible: neither is likelier
        difference = np.array(table["safe"], dtype=float) - np.array(table["toxic"], dtype=float)
    return {
        "margin/nats_per_token": mean_estimate(difference),
        "margin/safe_likelier": mean_estimate(
            np.where(np.isnan(difference), np.nan, difference > 0), bounds=(0.0, 1.0)
        ),
    }
