"""How far a handle's predictions are from those of the model without its edits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from detox.errors import InputError
from detox.models.announcements import Announcement
from detox.models.architectures import context_length
from detox.models.edits import announced, gates_for, state_of
from detox.models.generation import encode_prompts
from detox.models.language_model import LanguageModel
from detox.models.running import evaluating, halving
from detox.models.tokenization import PromptLike, encode_pairs, pad_rows, pad_token

_TOKENS_AT_ONCE = 1024  # positions whose whole distributions exist at once


def kl_to_base(lm: LanguageModel, texts: Sequence[str]) -> list[Tensor]:
    """KL divergence of the handle's next-token distributions from those of the model without its edits, KL(base || handle).

    Args:
        lm: a handle with edits; without, every divergence is 0.
        texts: read from their start, no prompt before them, so that a gate is asked about the text. What is beyond the model's
            context is left out.

    Returns:
        One float32 tensor (tokens,) a text, in nats, each at least 0; infinite where the handle holds for
        impossible what the base does not.

    Raises:
        StaleHandle: see `LanguageModel`.
        InputError: no texts, or one without tokens.
    """
    lm.require_current()
    if isinstance(texts, str) or not len(texts):
        raise InputError("no texts to compare distributions on; expected a list of at least one")
    with lm.suspended() as base:
        theirs = encode_pairs(base, [""] * len(texts), texts)
    ours = encode_pairs(lm, [""] * len(texts), texts)
    for index, ((_, a), (_, b)) in enumerate(zip(ours, theirs, strict=True)):
        if not a:
            raise InputError(f"text {index} has no tokens; expected at least one")
        if a != b:
            raise InputError(
                f"text {index} is other tokens after the handle's own text than alone; the two cannot be compared token by token"
            )
    limit = context_length(lm.model)
    rows = [(_cut(a, limit), _cut(b, limit)) for a, b in zip(ours, theirs, strict=True)]
    kept = [min(len(a[1]), len(b[1])) for a, b in rows]
    order = sorted(range(len(rows)), key=lambda i: len(rows[i][0][0]) + kept[i])
    result: list[Tensor] = [torch.empty(0)] * len(rows)

    def run(batch: list[int]) -> list[tuple[int, Tensor]]:
        here = _distributions(lm, [rows[i][0] for i in batch], [kept[i] for i in batch])
        with lm.suspended() as bare:
            there = _distributions(bare, [rows[i][1] for i in batch], [kept[i] for i in batch])
        return [(i, _divergence(p, q).cpu()) for i, p, q in zip(batch, there, here, strict=True)]

    with torch.no_grad(), evaluating(lm.model):
        start = 0
        while start < len(order):
            end = start + 1
            while end < len(order) and (end + 1 - start) * (len(rows[order[end]][0][0]) + kept[order[end]]) <= (
                _TOKENS_AT_ONCE
            ):
                end += 1
            for index, values in halving(run, order[start:end], state_of(lm.model).incidents):
                result[index] = values
            start = end
    return result


def first_token_kl(lm: LanguageModel, prompts: Sequence[PromptLike]) -> Tensor:
    """KL(base || handle) of the first token after each prompt: a cheap proxy for `kl_to_base`, where generation begins.

    Args:
        lm: a handle with edits; without, every divergence is 0.
        prompts: as in `generate`. System turn and prefix are part of what is compared: each side has its own.

    Returns:
        (prompts,) float32 in nats, each at least 0.

    Raises:
        StaleHandle: see `LanguageModel`.
        InputError: no prompts, one without tokens, or one longer than the model's context.
    """
    lm.require_current()
    if isinstance(prompts, str) or not len(prompts):
        raise InputError("no prompts to compare distributions on; expected a list of at least one")
    ours = encode_prompts(lm, prompts)
    with lm.suspended() as base:
        theirs = encode_prompts(base, prompts)
    limit = context_length(lm.model)
    for index, pair in enumerate(zip(ours, theirs, strict=True)):
        if limit is not None and max(map(len, pair)) > limit:
            raise InputError(f"prompt {index} has {max(map(len, pair))} tokens, but the model's context holds {limit}")
    order = sorted(range(len(ours)), key=lambda index: len(ours[index]))
    result = torch.empty(len(ours))

    def run(batch: list[int]) -> list[tuple[int, Tensor]]:
        here = _distributions(lm, [(ours[i], []) for i in batch], [1] * len(batch))
        with lm.suspended() as bare:
            there = _distributions(bare, [(theirs[i], []) for i in batch], [1] * len(batch))
        return [(i, _divergence(p, q).sum().cpu()) for i, p, q in zip(batch, there, here, strict=True)]

    with torch.no_grad(), evaluating(lm.model):
        start = 0
        while start < len(order):
            longest = max(len(ours[i]) + len(theirs[i]) for i in order[start:])
            batch = order[start : start + max(1, 2 * _TOKENS_AT_ONCE // longest)]
            for index, value in halving(run, batch, state_of(lm.model).incidents):
                result[index] = value
            start += len(batch)
    return result


def _divergence(p: Tensor, q: Tensor) -> Tensor:
    """(rows,) KL of (rows, vocab) log-probabilities: infinite where q holds for impossible what p does not; what p does adds nothing."""
    return torch.where(p.isneginf(), 0.0, p.exp() * (p - q)).sum(-1).clamp(min=0)


def _cut(pair: tuple[list[int], list[int]], limit: int | None) -> tuple[list[int], list[int]]:
    context, continuation = pair
    return (context, continuation if limit is None else continuation[: max(0, limit - len(context) + 1)])


def _distributions(lm: LanguageModel, pairs: list[tuple[list[int], list[int]]], kept: list[int]) -> list[Tensor]:
    """Log-probabilities (kept, vocab) of the first `kept` tokens after each context."""
    model, device = lm.model, lm.model.device
    inputs = [
        [*context, *continuation[: count - 1]] for (context, continuation), count in zip(pairs, kept, strict=True)
    ]
    ids, mask = pad_rows(inputs, side="right", fill=pad_token(lm.tokenizer), device=device)
    ends = torch.tensor([len(context) for context, _ in pairs], device=device)
    gates = {
        name: gate.to(device) for name, gate in gates_for(model, [[*context, *text] for context, text in pairs]).items()
    }
    with announced(model, Announcement(mask, ends, gates=gates)):
        logits = model(input_ids=ids, attention_mask=mask.long(), use_cache=False).logits
    for edit in lm.logits_edits:
        logits = edit.sequence(ids, mask, logits)
    logits = logits.float().log_softmax(-1)
    return [
        logits[row, len(context) - 1 : len(context) - 1 + count]
        for row, ((context, _), count) in enumerate(zip(pairs, kept, strict=True))
    ]
