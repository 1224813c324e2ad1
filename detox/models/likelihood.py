"""The only teacher-forced scoring: log-probabilities of tokens, in nats. Perplexity is arithmetic on it.

The output head is run on the rows that are asked for and on nothing else, a few rows at a time, so that no tensor of
(batch, seq, vocab) exists; requests that share a context share its keys and values.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from tqdm import tqdm

from detox.errors import InputError
from detox.models.announcements import Announcement
from detox.models.architectures import context_length
from detox.models.edits import announced, gates_for, state_of, touching
from detox.models.output_head import headless, require_numbers, scored, selected
from detox.models.running import evaluating, halving, lent, reuses_cache
from detox.models.tokenization import PromptLike, encode_pairs, pad_rows, pad_token

if TYPE_CHECKING:
    from detox.models.language_model import LanguageModel

_TOKENS_AT_ONCE = {"cpu": 1024, "cuda": 8192}  # positions of one forward pass; beyond, only memory grows
_CACHED_AT_ONCE = {"cpu": 4096}  # positions that continuations look back on; a layer's are copied only while it runs


@dataclass(frozen=True)
class _Piece:
    """Ids of one forward pass; the last `scored` of them are predicted, and where it is one, `others` in its place as well."""

    request: int
    ids: tuple[int, ...]
    prompt: int  # how many of them are the context's
    scored: int
    at: int  # where its values go in the request's result
    others: tuple[tuple[int, int], ...] = ()  # requests of the same context, and their only token


@dataclass(frozen=True)
class _Tail:
    """The last token of a shared context and a continuation, all of which is predicted."""

    request: int
    group: int
    ids: tuple[int, ...]


_Shared = tuple[tuple[int, ...], int, list[int]]  # a context that others share; a request; its continuation


def _tokens_at_once(model: Any) -> int:
    return _TOKENS_AT_ONCE.get(model.device.type, 8192)


def token_logprobs(
    lm: LanguageModel,
    contexts: Sequence[PromptLike],
    continuations: Sequence[str | Sequence[int]],
    *,
    gated_on: Sequence[Sequence[int]] | None = None,
) -> list[Tensor]:
    """Log-probability of every token of each continuation after its context; the context is never scored.

    Args:
        lm: the handle; refused if its edits are not exactly those installed.
        contexts: text (preceded by `lm.prefix`), a conversation (through the chat template, with `lm.system`), or token ids
            (taken as they are). "" means from the start: after BOS, or EOS for a tokenizer without BOS.
        continuations: text or token ids. Text is encoded jointly with its context and split where the context's own tokens
            end, blanks at the context's end belonging to the continuation (the rule of lm-eval's `_encode_pair`).
        gated_on: token ids that gates are asked about, where that is neither the context nor the text: the whole of a text whose
            windows are given one by one.

    Returns:
        One float32 tensor (tokens,) on the CPU a request, in nats, each at most 0; empty for an empty continuation. Text longer
        than the model's context is scored by windows that each see at least half a context: every token is predicted once.
        A gate is asked about the context, and about the text where there is none.

    Raises:
        StaleHandle: see `LanguageModel`.
        InputError: unequal lengths; an empty context with a tokenizer that has neither BOS nor EOS; a continuation that merges
            with its context into a single token; logits that are NaN.
        HookNeverFired: an installed edit did not run.
    """
    return [values[0] for values in _scored(lm, contexts, continuations, gated_on)]


def greedy_logprobs(
    lm: LanguageModel,
    contexts: Sequence[PromptLike],
    continuations: Sequence[str | Sequence[int]],
    *,
    gated_on: Sequence[Sequence[int]] | None = None,
) -> list[tuple[Tensor, bool]]:
    """`token_logprobs`, and of each continuation whether every token of it is the likeliest, so that greedy decoding writes it."""
    return [(values[0], bool(values[1].all())) for values in _scored(lm, contexts, continuations, gated_on)]


def _scored(
    lm: LanguageModel,
    contexts: Sequence[PromptLike],
    continuations: Sequence[str | Sequence[int]],
    gated_on: Sequence[Sequence[int]] | None,
) -> list[Tensor]:
    """(2, tokens) a request: log-probabilities, and 1 where the token is the likeliest one."""
    lm.require_current()
    if isinstance(contexts, str) or isinstance(continuations, str):
        raise InputError("contexts and continuations must be lists, got a str; write [text]")
    if len(contexts) != len(continuations) or (gated_on is not None and len(gated_on) != len(contexts)):
        raise InputError(
            f"got {len(contexts)} contexts and {len(continuations)} continuations; expected as many of each"
        )
    pairs = encode_pairs(lm, contexts, continuations)
    results = [torch.zeros(2, len(continuation)) for _, continuation in pairs]
    model, incidents = lm.model, state_of(lm.model).incidents
    # A text without a prompt is its own: the token that begins it says nothing.
    alone_stands = [not len(context) for context in contexts]
    asked = gated_on or [[*c, *t] if own else c for own, (c, t) in zip(alone_stands, pairs, strict=True)]
    gates = gates_for(model, asked)
    # A context is computed once for those that share it, unless a gate may say another thing of each.
    own = [bool(gates) and list(about) != context for about, (context, _) in zip(asked, pairs, strict=True)]
    shared, alone = _plan(lm, pairs, own)
    total = sum(1 + len(piece.others) for pieces in alone for piece in pieces) + sum(map(len, shared))
    with (
        torch.no_grad(),
        evaluating(model),
        touching(model),
        tqdm(total=total, desc="likelihood", delay=3, disable=None, leave=False) as bar,
    ):
        for requests in shared:
            for request, at, values in halving(lambda part: _run_shared(lm, part, gates), requests, incidents):
                require_numbers(values)
                results[request][:, at : at + values.shape[1]] = values
            bar.update(len(requests))
        for pieces in alone:
            for request, at, values in halving(lambda part: _run_alone(lm, part, gates), pieces, incidents):
                require_numbers(values)
                results[request][:, at : at + values.shape[1]] = values
            bar.update(sum(1 + len(piece.others) for piece in pieces))
    return results


def windows(tokens: int, first: int, context: int | None) -> list[tuple[int, int, int]]:
    """How to predict tokens [first, tokens) of a text with at most `context` tokens of input.

    Returns:
        (begin, end, scored): feed ids [begin, end - 1) and predict the last `scored` of [.., end). Each token is predicted exactly
        once, after the first window with at least half a context before it.
    """
    if tokens <= first:
        return []
    if context is None or tokens - 1 <= context:
        return [(0, tokens, tokens - first)]
    stride = max(1, context // 2)
    plan = []
    done = first
    while done < tokens:
        fits = context + 1 if done == first and context + 1 > done else done + stride
        end = min(tokens, max(fits, done + 1))
        plan.append((max(0, end - 1 - context), end, end - done))
        done = end
    return plan


def _plan(
    lm: LanguageModel, pairs: list[tuple[list[int], list[int]]], own: list[bool]
) -> tuple[list[list[_Shared]], list[list[_Piece]]]:
    """Batches of requests that share contexts, and batches of pieces that stand alone; requests that are their `own` always do.

    Continuations of one token (letters, yes and no) are read off the end of their context: one pass for all of them.
    """
    limit = context_length(lm.model)
    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for index, (context, continuation) in enumerate(pairs):
        fits = limit is None or len(context) + len(continuation) - 1 <= limit
        if continuation and len(context) > 1 and fits and not own[index]:
            groups[tuple(context)].append(index)
    letters = {c: requests for c, requests in groups.items() if all(len(pairs[i][1]) == 1 for i in requests)}
    reused = not lm.logits_edits and len(letters) < len(groups) and reuses_cache(lm.model)
    together = {c: requests for c, requests in groups.items() if reused and c not in letters and len(requests) > 1}
    taken = {index for requests in together.values() for index in requests}
    taken |= {index for requests in letters.values() for index in requests}
    tokens = _tokens_at_once(lm.model)
    shared: list[list[_Shared]] = []
    size = tokens
    for shared_context in sorted(together, key=lambda c: (len(c), c)):
        if size + len(shared_context) > tokens:
            shared.append([])
            size = 0
        shared[-1] += [(shared_context, index, pairs[index][1]) for index in together[shared_context]]
        size += len(shared_context)

    pieces = [
        _Piece(first, (*context, *pairs[first][1]), len(context), 1, 0, tuple((i, pairs[i][1][0]) for i in others))
        for context, (first, *others) in letters.items()
    ]
    for index, (context, continuation) in enumerate(pairs):
        if index in taken or not continuation:
            continue
        ids = (*context, *continuation)
        pieces += [
            _Piece(index, ids[begin:end], max(0, len(context) - begin), scored, end - scored - len(context))
            for begin, end, scored in windows(len(ids), len(context), limit)
        ]
    pieces.sort(key=lambda piece: -len(piece.ids))
    alone: list[list[_Piece]] = []
    start = 0
    while start < len(pieces):
        rows = max(1, tokens // len(pieces[start].ids))
        alone.append(pieces[start : start + rows])
        start += rows
    return shared, alone


def _rows_of(gates: dict[str, Tensor], requests: list[int], device: Any) -> dict[str, Tensor]:
    return {name: opened[requests].to(device) for name, opened in gates.items()}


def _run_alone(lm: LanguageModel, pieces: list[_Piece], gates: dict[str, Tensor]) -> list[tuple[int, int, Tensor]]:
    model, device = lm.model, lm.model.device
    inputs, mask = pad_rows([p.ids[:-1] for p in pieces], side="right", fill=pad_token(lm.tokenizer), device=device)
    ends = torch.tensor([p.prompt for p in pieces], device=device)
    wanted = [
        *((r, c, p.ids[c + 1]) for r, p in enumerate(pieces) for c in range(len(p.ids) - 1 - p.scored, len(p.ids) - 1)),
        *((r, len(p.ids) - 2, token) for r, p in enumerate(pieces) for _, token in p.others),
    ]
    rows, columns, targets = torch.tensor(wanted, device=device).T
    gates = _rows_of(gates, [p.request for p in pieces], device)
    with announced(model, Announcement(mask, ends, gates=gates)):
        if lm.logits_edits:
            logits = model(input_ids=inputs, attention_mask=mask.long(), use_cache=False).logits
            for edit in lm.logits_edits:
                logits = edit.sequence(inputs, mask, logits)
            values = scored(logits[rows, columns], targets)
        else:
            values = selected(
                model, rows, columns, targets, input_ids=inputs, attention_mask=mask.long(), use_cache=False
            )
    places = [(p.request, p.at) for p in pieces] + [(request, 0) for p in pieces for request, _ in p.others]
    widths = [p.scored for p in pieces] + [1] * (len(places) - len(pieces))
    parts = torch.split(values.cpu(), widths, dim=1)
    return [(request, at, part) for (request, at), part in zip(places, parts, strict=True)]


def _run_shared(lm: LanguageModel, requests: list[_Shared], gates: dict[str, Tensor]) -> list[tuple[int, int, Tensor]]:
    """Prefill each context but its last token once, score the continuations on its keys and values, like lengths together."""
    model, device = lm.model, lm.model.device
    groups = {context: group for group, context in enumerate(dict.fromkeys(context for context, _, _ in requests))}
    ids, mask = pad_rows([c[:-1] for c in groups], side="left", fill=pad_token(lm.tokenizer), device=device)
    columns = ids.shape[1]
    one_of = {context: request for context, request, _ in requests}
    opened = _rows_of(gates, [one_of[context] for context in groups], device)
    # The context's last token is not among these: it is the first of each tail.
    prefill = Announcement(mask, torch.full((len(groups),), columns + 1, device=device), gates=opened)
    positions = (mask.long().cumsum(-1) - 1).clamp(min=0)
    with announced(model, prefill), headless(model):
        cache = model(input_ids=ids, attention_mask=mask.long(), position_ids=positions, use_cache=True).past_key_values
    tails = [
        _Tail(request, groups[context], (context[-1], *continuation)) for context, request, continuation in requests
    ]
    tails.sort(key=lambda tail: len(tail.ids))
    cached = _CACHED_AT_ONCE.get(device.type, _tokens_at_once(model))
    rows = max(1, cached // (columns + len(tails[-1].ids)))
    results = []
    for start in range(0, len(tails), rows):
        results += _run_tails(lm, cache, mask, tails[start : start + rows], gates)
    return results


def _run_tails(
    lm: LanguageModel, cache: Any, context_mask: Tensor, tails: list[_Tail], gates: dict[str, Tensor]
) -> list[tuple[int, int, Tensor]]:
    model, device = lm.model, lm.model.device
    ids, mask = pad_rows([tail.ids[:-1] for tail in tails], side="right", fill=pad_token(lm.tokenizer), device=device)
    picked = torch.tensor([tail.group for tail in tails], device=device)
    whole = torch.cat([context_mask[picked], mask], dim=1)
    ends = torch.full((len(tails),), context_mask.shape[1] + 1, device=device)
    announcement = Announcement(whole, ends, gates=_rows_of(gates, [tail.request for tail in tails], device))
    positions = context_mask.sum(-1)[picked, None] + torch.arange(ids.shape[1], device=device)
    rows, columns = mask.nonzero(as_tuple=True)
    targets = torch.tensor([token for tail in tails for token in tail.ids[1:]], device=device)
    with announced(model, announcement):
        values = selected(
            model, rows, columns, targets,
            input_ids=ids, attention_mask=whole.long(), position_ids=positions, past_key_values=lent(cache, picked), use_cache=True,
        )  # fmt: skip
    split = torch.split(values.cpu(), [len(tail.ids) - 1 for tail in tails], dim=1)
    return [(tail.request, 0, part) for tail, part in zip(tails, split, strict=True)]
