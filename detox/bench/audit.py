"""Audit: is a method what it says to be on this base? Asked once for every fit, of a few texts, and kept in every record.

Three questions that a table of numbers cannot answer: whether strength 0 is the base bit for bit; whether a text's
log-probabilities depend on what it is batched with (teacher-forced, padded on the right; generated, padded on the left); whether
the base's weights are as before when the method is gone. A method that fails one has no numbers, only a hole with the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor

from detox.detoxifiers import Detoxifier
from detox.detoxifiers.conformance_state import Recorder
from detox.errors import CellFailed
from detox.evaluation import Protocol
from detox.models import LanguageModel, Sampling, generate
from detox.models.architectures import context_length
from detox.models.generation import encode_prompts
from detox.models.running import evaluating
from detox.models.tokenization import pad_token

TEXTS = 4
AUDIT_VERSION = 1
"""Raised when a question changes, so that it is put again."""
_LONGEST = 200  # characters
_STEPS = 3  # tokens
_PLAIN_TEXTS = (
    "The first of these lines is short.",
    "When the rain had stopped, they walked down to the harbour and waited for the boat.",
    "No.",
    "A committee of seven met on Tuesday to talk about the budget of the coming year and about the library's new roof.",
)
# Nats by which a batch may differ from single runs in float32: far above rounding, far below any mistake.
_ROUNDING = 2e-4


def audit_texts(protocol: Protocol) -> list[str]:
    """A few texts of different lengths: of the protocol's prompts or documents where it has any."""
    texts = sorted(
        {
            text[:_LONGEST].strip()
            for text in (*(p.text for p in protocol.prompts), *(d.text for d in protocol.documents))
        }
        - {""},
        key=lambda text: (len(text), text),
    )
    if len(texts) < TEXTS:
        return list(_PLAIN_TEXTS)
    return [texts[index * (len(texts) - 1) // (TEXTS - 1)] for index in range(TEXTS)]


def audit(
    lm: LanguageModel, detoxifier: Detoxifier | None, *, strength: float | None, texts: Sequence[str]
) -> dict[str, Any]:
    """Put the three questions.

    Args:
        lm: the base, with nothing applied.
        detoxifier: fitted; None audits the base alone.
        strength: at which padding is looked at; None is the method's default.
        texts: at least two, of different lengths.

    Returns:
        JSON: "texts", "padding" (largest difference of a log-probability between a batch and single runs, in nats, and its bound)
        and, with a method, "identity_at_zero" and "weights_restored", both true.

    Raises:
        CellFailed: an answer is no; says which.
    """
    before, contexts = lm.fingerprint(rehash=True), list(texts)
    continuations = [f" {text}" for text in (*texts[1:], texts[0])]
    base = _joined(lm.logprobs(contexts, continuations))
    found: dict[str, Any] = {"texts": len(contexts)}
    identical = True
    if detoxifier is not None:
        with detoxifier.applied(lm, strength=0.0) as same:
            identical = torch.equal(_joined(same.logprobs(contexts, continuations)), base) and (
                same.fingerprint() == before
            )
    applied = nullcontext(lm) if detoxifier is None else detoxifier.applied(lm, strength=strength)
    with applied as handle:
        together = _joined(handle.logprobs(contexts, continuations))
        alone = _joined([handle.logprobs([c], [t])[0] for c, t in zip(contexts, continuations, strict=True)])
        difference = max(float((together - alone).abs().max()), _generated_difference(handle, contexts))
    restored = lm.fingerprint(rehash=True) == before
    if not restored:
        raise CellFailed("the audit failed: the base's weights changed while the method was applied")
    if not identical:
        raise CellFailed("the audit failed: at strength 0 the log-probabilities are not the base's, bit for bit")
    bound = _bound(lm, contexts)
    if not difference <= bound:
        raise CellFailed(
            f"the audit failed: log-probabilities of a padded batch differ from single runs by {difference:.2g} nats; "
            f"rounding explains {bound:.2g}"
        )
    found["padding"] = {"difference": float(f"{difference:.3g}"), "bound": float(f"{bound:.3g}")}
    return found if detoxifier is None else {**found, "identity_at_zero": True, "weights_restored": True}


def _generated_difference(lm: LanguageModel, prompts: Sequence[str]) -> float:
    """Largest difference between a batch and single runs in the log-probabilities of greedily chosen tokens, as far as they agree."""
    prompts = [_fitting(lm, prompt) for prompt in prompts]
    everyone, theirs = _greedy(lm, prompts)
    largest = 0.0
    for prompt, batched in zip(prompts, theirs, strict=True):
        single, (tokens,) = _greedy(lm, [prompt])
        alike = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(tokens, batched, strict=False)))
        row = everyone.row_like(single, fill=pad_token(lm.tokenizer))
        steps = min(alike + 1, len(tokens), len(batched))  # a choice may turn on rounding; what led to it may not
        one, other = (recorder.of(tokens[:steps], row=at) for recorder, at in ((single, 0), (everyone, row)))
        largest = max(largest, float((one - other).abs().max()))
    return largest


def _fitting(lm: LanguageModel, prompt: str) -> str:
    """As many of a prompt's first words as leave room, after what the method puts before them; at least one."""
    limit, words = context_length(lm.model), prompt.split(" ")
    while limit is not None and len(words) > 1 and len(encode_prompts(lm, [" ".join(words)])[0]) + _STEPS > limit:
        words.pop()
    return " ".join(words)


def _greedy(lm: LanguageModel, prompts: Sequence[str]) -> tuple[Recorder, list[tuple[int, ...]]]:
    recorder = Recorder()
    watched = replace(lm, logits_edits=(*lm.logits_edits, recorder))
    completions = generate(watched, prompts, Sampling(max_new_tokens=_STEPS, temperature=0))
    return recorder, [row[0].token_ids for row in completions]


def _joined(values: Sequence[Tensor]) -> Tensor:
    return torch.cat([value.double().cpu() for value in values])


def _bound(lm: LanguageModel, texts: Sequence[str]) -> float:
    """Float32 and wider: a constant. Narrower: two roundings of the largest logit, as in the conformance suite."""
    precision = torch.finfo(lm.model.dtype)
    if precision.eps <= torch.finfo(torch.float32).eps:
        return _ROUNDING
    with torch.no_grad(), evaluating(lm.model):
        ids = [lm.tokenizer(text, return_tensors="pt")["input_ids"].to(lm.model.device) for text in texts]
        largest = max(float(lm.model(input_ids=one).logits.abs().max()) for one in ids)
    return 2 * float(precision.eps) * largest
