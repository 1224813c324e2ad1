"""Held-out loss while a model is pretrained."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import TrainerCallback

from detox.fused_loss import fused_token_nll
from detox.losses import IGNORE_INDEX, reduction_dtype
from detox.pretraining.packing import PackedSequences
from detox.training.fused_head import replaced_forward, why_not_fused
from detox.training.processes import process_count, summed
from detox.training.progress import Throughput


def held_out_loss(model: Any, sequences: PackedSequences, *, batch_size: int = 32) -> dict[str, float]:
    """Cross-entropy of whole sequences in nats per token, whatever the model was trained with.

    This watches training; results are measured by `detox.evaluation`. Where several processes share a run, all of them
    call it, each computes its part, and each gets the whole result.

    Args:
        model: a causal language model, left in the mode it was in.
        sequences: held-out text, packed as for training; tokens that are `ignored` are not measured.
        batch_size: sequences at a time.

    Returns:
        "all" over all targets and, where there are such targets, "safe" and "risky" over those.
    """
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    names = ("all", "safe", "risky")
    sums = torch.zeros(len(names), dtype=torch.float64)
    counts = torch.zeros(len(names), dtype=torch.float64)
    starts = list(range(0, len(sequences), batch_size))
    processes = process_count()
    rank = torch.distributed.get_rank() if processes > 1 else 0
    head, fused = model.get_output_embeddings(), False
    # Not inference_mode: weights that FSDP gathers in it could not be trained with afterwards.
    with torch.no_grad():
        for first in range(0, len(starts), processes):
            # A sharded model runs on all processes or on none: who has no batch left runs one and does not count it.
            mine = first + rank
            batch = slice(starts[min(mine, len(starts) - 1)], starts[min(mine, len(starts) - 1)] + batch_size)
            tokens = torch.from_numpy(np.array(sequences.tokens[batch])).long().to(device)
            risk = torch.from_numpy(np.array(sequences.risk[batch])).to(device)[:, 1:]
            targets = tokens[:, 1:]
            if sequences.ignored is not None:
                ignored = torch.from_numpy(np.array(sequences.ignored[batch])).to(device)[:, 1:]
                targets = targets.masked_fill(ignored, IGNORE_INDEX)
            if first == 0:
                fused = why_not_fused(model, head, {"input_ids": tokens}) is None
            losses = _token_losses(model, head if fused else None, tokens, targets).double()
            if mine >= len(starts):
                continue
            present = targets != IGNORE_INDEX
            for index, chosen in enumerate((present, present & ~risk, present & risk)):
                sums[index] += losses[chosen].sum().cpu()
                counts[index] += float(chosen.sum())
    sums, counts = summed(torch.stack([sums, counts]).to(device)).cpu()
    model.train(was_training)
    return {name: float(sums[i] / counts[i]) for i, name in enumerate(names) if counts[i]}


def _token_losses(model: Any, head: Any, tokens: Tensor, targets: Tensor) -> Tensor:
    """(batch, seq - 1) nats, 0 without a target; in the head, so that logits never exist whole, or of logits where there is no head."""
    if head is None:
        logits = model(input_ids=tokens).logits[:, :-1]
        flat = logits.to(reduction_dtype(logits.dtype)).flatten(0, 1)
        return cross_entropy(flat, targets.flatten(), ignore_index=IGNORE_INDEX, reduction="none").reshape(
            targets.shape
        )
    found: list[Tensor] = []

    def forward(hidden: Tensor) -> Tensor:
        found.append(fused_token_nll(hidden[:, :-1], head.weight, targets, bias=head.bias))
        return hidden.new_zeros(1, 1, 1)

    with replaced_forward(head, forward):
        model(input_ids=tokens)
    return found[0]


class HeldOut(TrainerCallback):  # type: ignore[misc]
    """Adds `{"step": n, "held_out": {name: losses}}` to the log history: at the start, every `every` steps, at last.

    Attributes:
        report: is given the same as flat numbers, `held_out/<set>/<name>`; None for nobody.
    """

    def __init__(
        self, sets: Mapping[str, PackedSequences], *, every: int, batch_size: int, clock: Throughput | None = None
    ) -> None:
        self.sets, self.every, self.batch_size, self.clock = sets, every, batch_size, clock
        self.report: Callable[[dict[str, float]], None] | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Measure the start, unless this is a resumed run, which has it."""
        if state.global_step == 0:
            self._measure(state, model)

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Measure before this step's checkpoint is written, so that a resumed run has it."""
        if state.global_step % self.every == 0 or state.global_step == state.max_steps:
            self._measure(state, model)

    def _measure(self, state: Any, model: Any) -> None:
        started = time.monotonic()
        found = {name: held_out_loss(model, data, batch_size=self.batch_size) for name, data in self.sets.items()}
        if found:
            state.log_history.append({"step": state.global_step, "held_out": found})
            if self.report is not None:
                self.report({f"held_out/{one}/{name}": x for one, of in found.items() for name, x in of.items()})
        if self.clock is not None:
            self.clock.pause(time.monotonic() - started)
