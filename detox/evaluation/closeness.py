"""How far an edited model is from itself without edits: KL divergence on clean text, and of the first token that answers a prompt."""

from __future__ import annotations

from collections.abc import Sequence

from detox.data.records import Document, Prompt
from detox.evaluation.scorecard import Table
from detox.models import LanguageModel
from detox.models.divergence import first_token_kl, kl_to_base
from detox.models.tokenization import prompts_for
from detox.statistics import Estimate, mean_estimate, ratio_estimate


def document_kl_table(lm: LanguageModel, documents: Sequence[Document]) -> Table:
    """KL(base || handle) of each document in nats, summed over the tokens that fit the model's context, and how many these are."""
    values = kl_to_base(lm, [document.text for document in documents])
    return {
        "id": [document.id for document in documents],
        "kl": [float(v.double().sum()) for v in values],
        "tokens": [len(v) for v in values],
    }


def first_token_table(lm: LanguageModel, prompts: Sequence[Prompt], *, chat: bool) -> Table:
    """KL(base || handle) in nats of the first token after each prompt; what stands before the prompt is each side's own."""
    kl = first_token_kl(lm, prompts_for([prompt.text for prompt in prompts], chat=chat))
    return {"prompt": [prompt.id for prompt in prompts], "kl": kl.tolist()}


def kl_metrics(documents: Table | None, first_tokens: Table | None) -> dict[str, Estimate]:
    """`kl/nats_per_token`, token-weighted with documents as units, and `kl/first_token`, a mean over prompts.

    0 is the model itself: a base, or an edit that changes nothing. Not asked is absent.
    """
    metrics = {}
    if documents is not None:
        metrics["kl/nats_per_token"] = ratio_estimate(documents["kl"], documents["tokens"])
    if first_tokens is not None:
        metrics["kl/first_token"] = mean_estimate(first_tokens["kl"])
    return metrics
