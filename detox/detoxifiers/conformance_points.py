"""The nine points of the contract: functions that raise ConformanceError, or return why a point does not apply."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor

from detox.data.contrasts import Contrast
from detox.detoxifiers.conformance_case import Case, require, require_same, require_stale
from detox.detoxifiers.conformance_state import (
    Recorder,
    ThrownOnPurposeError,
    exploding,
    hooks,
    snapshot,
    undeclared_hooks,
    unhooked,
)
from detox.detoxifiers.contract import Detoxifier, hyperparameters
from detox.detoxifiers.registry import load
from detox.errors import BaseMismatch, ConformanceError, HookNeverFired, NotFitted
from detox.models import Edit, LanguageModel, Sampling
from detox.models.edits import nothing, state_of
from detox.models.tokenization import pad_token

_TEXT = Sampling(max_new_tokens=6, num_return_sequences=2, seed=1)


def _learned(detoxifier: Detoxifier) -> dict[str, Tensor]:
    return {name: torch.as_tensor(value) for name, value in detoxifier.state()[1].items()}


def _same_tensors(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def fit_is_clean(case: Case) -> str | None:
    """`fit` returns self and keeps its settings; `applied` before it raises NotFitted; a second `fit` forgets the first."""
    detoxifier = case.fresh()
    if case.detoxifier.capabilities.needs_fit:
        try:
            with detoxifier.applied(case.lm):
                pass
        except NotFitted:
            pass
        else:
            raise ConformanceError("applied before fit did not raise NotFitted")
    before = copy.deepcopy(hyperparameters(detoxifier))
    require(detoxifier.fit(case.lm, case.contrasts[::2]) is detoxifier, "fit did not return self")
    require(hyperparameters(detoxifier) == before, "fit changed a hyperparameter")
    detoxifier.fit(case.lm, case.contrasts)
    require(_same_tensors(_learned(detoxifier), _learned(case.fitted())), "a second fit remembers the first")
    return None


def base_is_restored(case: Case) -> str | None:
    """After fit, after applied, and after an exception in either, the base is as before."""
    before = snapshot(case.lm)
    with exploding(case.lm), suppress(ThrownOnPurposeError):
        case.fitted()
    require_same(before, snapshot(case.lm), "after an exception in fit")
    detoxifier = case.fitted()
    require_same(before, snapshot(case.lm), "after fit")
    with detoxifier.applied(case.lm) as safe:
        safe.generate(case.prompts, _TEXT)
    require_same(before, snapshot(case.lm), "after applied")
    try:
        with detoxifier.applied(case.lm) as safe, exploding(case.lm):
            safe.generate(case.prompts, _TEXT)
    except ThrownOnPurposeError:
        pass
    else:
        raise ConformanceError("an exception inside applied was swallowed")
    require_same(before, snapshot(case.lm), "after an exception in applied")
    return None


def zero_is_identity(case: Case) -> str | None:
    """At strength 0 the logits are the base's, bit for bit; otherwise something differs."""
    detoxifier = case.fitted()
    base, fingerprint = case.logprobs(case.lm), case.lm.fingerprint()
    ids = torch.tensor(
        [case.lm.tokenizer(case.prompts[0], add_special_tokens=False)["input_ids"]], device=case.lm.model.device
    )
    with torch.no_grad():
        raw = case.lm.model(input_ids=ids).logits
        with detoxifier.applied(case.lm, strength=0) as same:
            require(torch.equal(case.logprobs(same), base), "at strength 0 log-probabilities are not the base's")
            require(torch.equal(case.lm.model(input_ids=ids).logits, raw), "at strength 0 logits are not the base's")
            require(same.fingerprint() == fingerprint, "at strength 0 the fingerprint is not the base's")
    with detoxifier.applied(case.lm) as safe:
        require(not torch.equal(case.logprobs(safe), base), "at the default strength nothing differs from the base")
        require(safe.fingerprint() != fingerprint, "at the default strength the fingerprint is the base's")
    return None


def computations_agree(case: Case) -> str | None:
    """Batch and single, left and right padding, cache and no cache, teacher forcing and generation: all one model."""
    with case.fitted().applied(case.lm) as safe:
        together, one = safe.generate(case.prompts, _TEXT), replace(_TEXT, batch_size=1)
        singly = [safe.generate([p], one)[0] for p in case.prompts]
        require(singly == together or not case.exact, "a batch of prompts does not equal single runs")
        some = list(case.contrasts[:4])
        contexts, continuations = [c.prompt for c in some], [(*c.safe, *c.toxic)[0] for c in some]
        for index, batched in enumerate(safe.logprobs(contexts, continuations)):
            alone = safe.logprobs(contexts[index : index + 1], continuations[index : index + 1])[0]
            case.require_close(alone, batched, "log-probabilities in a batch do not equal single ones")
        _check_padding_and_cache(case, safe)
        everyone, theirs = _greedy(safe, case.prompts)
        for prompt, batched_tokens in zip(case.prompts, theirs, strict=True):
            recorder, (tokens,) = _greedy(safe, [prompt])
            generated = recorder.of(tokens, row=0)
            alike = sum(
                1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(tokens, batched_tokens, strict=False))
            )
            batched = everyone.of(
                tokens[: alike + 1], row=everyone.row_like(recorder, fill=pad_token(case.lm.tokenizer))
            )
            case.require_close(generated[: len(batched)], batched, "a batch of prompts does not equal single runs")
            forced = safe.logprobs([prompt], [tokens])[0]
            first = "the first generated token is not steered as teacher forcing says"
            case.require_close(generated[:1], forced[:1], first)
            case.require_close(generated, forced, "teacher-forced log-probabilities are not those of generation")
    return None


def _greedy(lm: LanguageModel, prompts: Sequence[str]) -> tuple[Recorder, list[tuple[int, ...]]]:
    recorder = Recorder()
    watched = replace(lm, logits_edits=(*lm.logits_edits, recorder))
    completions = watched.generate(prompts, Sampling(max_new_tokens=5, temperature=0))
    return recorder, [row[0].token_ids for row in completions]


def _check_padding_and_cache(case: Case, safe: LanguageModel) -> None:
    model, tokenizer = case.lm.model, case.lm.tokenizer
    rows = [tokenizer(p, add_special_tokens=False)["input_ids"] for p in case.prompts]
    longest = max(map(len, rows)) + 1
    told = "position_ids" in inspect.signature(model.forward).parameters
    ends: dict[str, Tensor] = {}
    with torch.no_grad():
        for side in ("left", "right"):
            ids = torch.zeros(len(rows), longest, dtype=torch.long)
            mask = torch.zeros_like(ids)
            for index, row in enumerate(rows):
                where = slice(longest - len(row), longest) if side == "left" else slice(0, len(row))
                ids[index, where], mask[index, where] = torch.tensor(row), 1
            ids, mask = ids.to(model.device), mask.to(model.device)
            extra = {"position_ids": (mask.cumsum(-1) - 1).clamp(min=0)} if told else {}
            with safe.announced(ids, mask):
                logits = model(input_ids=ids, attention_mask=mask, **extra).logits
            last = [longest - 1 if side == "left" else len(row) - 1 for row in rows]
            ends[side] = logits[torch.arange(len(rows)), last].float().log_softmax(-1)
        case.require_close(ends["left"], ends["right"], "left and right padding disagree")
        ids = torch.tensor([max(rows, key=len)], device=model.device)
        with safe.announced(ids):
            whole = model(input_ids=ids).logits[:, -1].float().log_softmax(-1)
        if ids.shape[1] > 1:
            with safe.announced(ids):
                cache = model(input_ids=ids[:, :-1], use_cache=True).past_key_values
                step = None if cache is None else model(input_ids=ids[:, -1:], past_key_values=cache, use_cache=True)
            if step is not None:
                stepped = step.logits[:, -1].float().log_softmax(-1)
                case.require_close(whole, stepped, "with and without cache disagree")


def artefact_is_faithful(case: Case) -> str | None:
    """Save, load, apply: equal logits. On another base: BaseMismatch, unless allow_base_mismatch=True."""
    detoxifier = case.fitted()
    with detoxifier.applied(case.lm) as safe:
        expected = case.logprobs(safe)
    detoxifier.save_pretrained(case.folder)
    loaded = load(case.folder)
    require(hyperparameters(loaded) == hyperparameters(detoxifier), "a loaded detoxifier has other hyperparameters")
    with loaded.applied(case.lm) as safe:
        require(torch.equal(case.logprobs(safe), expected), "a loaded detoxifier gives other log-probabilities")
    if not case.detoxifier.capabilities.bound_to_base:
        return "a saved copy is equal; another base is allowed, since the method is not bound to one"
    other = copy.deepcopy(case.lm.model)
    with torch.no_grad():
        next(p for p in other.parameters() if p.ndim == 2).mul_(1.01)
    state_of(other).attention_output = state_of(case.lm.model).attention_output
    stranger = LanguageModel(other, case.lm.tokenizer)
    try:
        with loaded.applied(stranger):
            pass
    except BaseMismatch:
        pass
    else:
        raise ConformanceError("applied to another base without BaseMismatch")
    with load(case.folder, allow_base_mismatch=True).applied(stranger) as forced:
        case.logprobs(forced)
    return None


def repeats_and_nests(case: Case) -> str | None:
    """Same seed, same result. Two methods nest and unwind in order."""
    first, second = case.fitted(), case.fitted()
    require(_same_tensors(_learned(first), _learned(second)), "two fits with the same seed learned different things")
    with first.applied(case.lm) as safe:
        texts = safe.generate(case.prompts, _TEXT)
        alone = case.logprobs(safe)
    with second.applied(case.lm) as safe:
        require(safe.generate(case.prompts, _TEXT) == texts, "two fits with the same seed write different texts")
    base = case.logprobs(case.lm)
    with case.lm.edited(Edit("outer", "", nothing)) as outer:
        with first.applied(outer) as inner:
            require(inner.edits[:1] == outer.edits, "a nested handle forgot the outer edit")
            require(torch.equal(case.logprobs(inner), alone), "nested in another edit the method acts differently")
        outer.require_current()
        require(torch.equal(case.logprobs(outer), base), "after unwinding, the outer method is not as before")
    require(torch.equal(case.logprobs(case.lm), base), "after unwinding, the base is not as before")
    return None


def silence_is_an_error(case: Case) -> str | None:
    """A hook that never fired is an error, not a base model in disguise."""
    detoxifier, bare = case.fitted(), hooks(case.lm)
    with detoxifier.applied(case.lm) as safe:
        unsaid = undeclared_hooks(case.lm, bare)
        require(not unsaid, f"{', '.join(unsaid[:2])} got a hook that no edit names in its sites; nobody would miss it")
        hooked = [edit for edit in state_of(case.lm.model).edits if edit.sites]
        if not hooked:
            return "the method hooks no module"
        for attempt in (lambda: safe.generate(case.prompts[:1], _TEXT), lambda: case.logprobs(safe)):
            with unhooked(case.lm, hooked[0].sites[0]) as came_back:
                try:
                    attempt()
                except HookNeverFired:
                    continue
                if came_back():  # an edit that is taken off for a moment, for a gate to be asked, is put on anew
                    continue
            raise ConformanceError("with its hook taken away, the method silently became the base model")
        safe.generate(case.prompts[:1], _TEXT)
        receipt = safe.receipts()[-1]
        require(all(receipt.sites.values()), "the receipt shows a site that never ran")
        require(receipt.tokens["generated"] > 0 and receipt.tokens["prompt"] > 0, "the receipt counts no tokens")
    return None


def direction_is_right(case: Case) -> str | None:
    """On a model with a planted toxic direction the method lowers toxic continuations relative to safe ones."""
    if not case.detoxifier.capabilities.directional:
        return "the method does not claim a direction"
    lm, heldout = case.planted.lm, case.planted.heldout
    detoxifier = case.fresh().fit(lm, case.planted.contrasts)
    before = _margin(lm, heldout)
    with detoxifier.applied(lm) as safe:
        after = _margin(safe, heldout)
    require(after > before, f"safe minus toxic log-probability fell from {before:.3f} to {after:.3f} nats a token")
    return None


def _margin(lm: LanguageModel, contrasts: Sequence[Contrast]) -> float:
    sides = []
    for side in ("safe", "toxic"):
        pairs = [(c.prompt, text) for c in contrasts for text in getattr(c, side)]
        sides.append(torch.cat(lm.logprobs([p for p, _ in pairs], [t for _, t in pairs])).mean())
    return float(sides[0] - sides[1])


def handles_are_true(case: Case) -> str | None:
    """A stale handle is refused; `suspended()` gives the base's logits and comes back."""
    detoxifier = case.fitted()
    base = case.logprobs(case.lm)
    with detoxifier.applied(case.lm) as safe:
        here = case.logprobs(safe)
        for ask in _questions(case, case.lm):
            require_stale(ask, "inside `with`, the base's handle was served")
        with safe.suspended() as bare:
            require(torch.equal(case.logprobs(bare), base), "suspended() is not the base")
            require_stale(lambda: case.logprobs(safe), "inside suspended(), the detoxified handle was served")
        require(torch.equal(case.logprobs(safe), here), "after suspended(), the method did not come back as it was")
    for ask in _questions(case, safe):
        require_stale(ask, "after its `with` block, a handle was served")
    return None


def _questions(case: Case, lm: LanguageModel) -> list[Callable[[], Any]]:
    return [lambda: lm.generate(case.prompts[:1], _TEXT), lambda: case.logprobs(lm), lm.fingerprint, lm.receipts]
