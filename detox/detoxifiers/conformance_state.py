"""What the conformance suite looks at, and what it throws: state that must come back, an exception that must pass through."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from detox.models import LanguageModel
from detox.models.edits import state_of


def snapshot(lm: LanguageModel) -> dict[str, Any]:
    """Everything of a model, its tokenizer and the process that a detoxifier must leave as it was."""
    model, tokenizer = lm.model, lm.tokenizer
    gpus = {"GPU random states": torch.stack(torch.cuda.get_rng_state_all())} if _on_gpus() else {}
    return {
        **gpus,
        "weights": lm.fingerprint(rehash=True),
        "hooks": hooks(lm),
        "modules": {n: type(m) for n, m in model.named_modules()},
        "requires_grad": {n: p.requires_grad for n, p in model.named_parameters()},
        "gradients": [n for n, p in model.named_parameters() if p.grad is not None],
        "training flags": {n: m.training for n, m in model.named_modules()},
        "config": model.config.to_dict(),
        "use_cache": getattr(model.config, "use_cache", None),
        "generation config": model.generation_config.to_dict(),
        "tokenizer": [
            tokenizer.padding_side,
            tokenizer.truncation_side,
            tokenizer.pad_token,
            tokenizer.chat_template,
            len(tokenizer),
        ],
        "python random state": random.getstate(),
        "numpy random state": list(np.random.get_state()),
        "torch random state": torch.get_rng_state(),
    }


def _on_gpus() -> bool:
    # Asked of a process that has not used its GPUs, their random states would be made by the question.
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


def hooks(lm: LanguageModel) -> dict[str, list[list[int]]]:
    """The numbers of all hooks, by module and kind."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return {name: [list(getattr(module, kind)) for kind in kinds] for name, module in lm.model.named_modules()}


def undeclared_hooks(lm: LanguageModel, before: dict[str, list[list[int]]]) -> list[str]:
    """Modules that have a hook which they had not `before` (see `hooks`), and that no installed edit names in its sites."""
    said = {site for edit in state_of(lm.model).edits for site in edit.sites}
    none: list[list[int]] = [[], [], [], []]
    return [
        name or "the model"
        for name, kinds in hooks(lm).items()
        if name not in said and any(set(now) - set(was) for now, was in zip(kinds, before.get(name, none), strict=True))
    ]


def equal(a: Any, b: Any) -> bool:
    """Equality of snapshots; arrays inside lists included."""
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return bool(np.array_equal(a, b))
    if isinstance(a, list):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


class ThrownOnPurposeError(RuntimeError):
    """What the suite throws into a forward pass."""


@contextmanager
def exploding(lm: LanguageModel) -> Iterator[None]:
    """The model raises early in its next forward pass, with everything that was installed still installed.

    Early, since what only reads need not run it to its end.
    """

    def raise_it(module: Any, args: Any, output: Any) -> None:
        raise ThrownOnPurposeError("thrown by the conformance suite")

    with lm.model.get_input_embeddings().register_forward_hook(raise_it):
        yield


@contextmanager
def unhooked(lm: LanguageModel, site: str) -> Iterator[Callable[[], bool]]:
    """A block in which one module has lost its hooks; yields whether they have come back since."""
    module = lm.model.get_submodule(site)
    kept = {name: dict(getattr(module, name)) for name in ("_forward_pre_hooks", "_forward_hooks")}
    for name in kept:
        getattr(module, name).clear()
    try:
        yield lambda: any(getattr(module, name) for name in kept)
    finally:
        if not any(getattr(module, name) for name in kept):  # hooks that came back stand in their place
            for name, hooks in kept.items():
                getattr(module, name).update(hooks)


class Recorder:
    """A logits edit that changes nothing and keeps what it saw: tokens so far, and log-probabilities of the next."""

    def __init__(self) -> None:
        self.ids: list[Tensor] = []
        self.steps: list[Tensor] = []

    def step(self, ids: Tensor, scores: Tensor) -> Tensor:
        """Keep them, (batch, length) and (batch, vocab)."""
        self.ids.append(ids.cpu())
        self.steps.append(scores.float().log_softmax(-1).cpu())
        return scores

    def sequence(self, ids: Tensor, mask: Tensor, logits: Tensor) -> Tensor:
        """Nothing is changed."""
        return logits

    def of(self, tokens: Sequence[int], *, row: int) -> Tensor:
        """Log-probabilities of the tokens that were drawn in a row, (tokens,)."""
        return torch.stack([step[row, token] for step, token in zip(self.steps, tokens, strict=False)])

    def row_like(self, single: Recorder, *, fill: int) -> int:
        """The row of this batch that began as another recorder's only row did, but for padding (`fill`) on its left."""
        begun, one = self.ids[0], single.ids[0][0]
        padded = len(begun[0]) - len(one)
        return next(
            r for r, row in enumerate(begun) if torch.equal(row[padded:], one) and bool((row[:padded] == fill).all())
        )
