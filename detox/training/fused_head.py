"""An output head that gives the loss instead of logits, while the model around it runs as it always does.

What is replaced is the `forward` of the head alone and for one call, so that whatever hangs on the model's forward
(DistributedDataParallel, FSDP, autocast, gradient checkpointing) sees an ordinary one, whose logits are one number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from detox.fused_loss import fused_selective_loss
from detox.losses import LossSum, Objective

_MARKED_TOKENS, _MARKED_RANGE = 8, 100.0


@contextmanager
def fused_head(
    head: nn.Linear, targets: Tensor, risk: Tensor, objective: Objective, *, scales: tuple[Tensor, Tensor]
) -> Iterator[list[LossSum]]:
    """While open, the head computes `fused_selective_loss` of what it is given and returns its total.

    Args:
        head: a head for which `why_not_fused` gave None.
        targets: (batch, seq) token ids, -100 = none, already shifted.
        risk: (batch, seq) bool.
        objective: see `detox.losses.loss_positions`.
        scales: factors of likelihood and unlikelihood in the total; see `detox.losses.step_scales`.

    Yields:
        A list that holds the sums once the model has run. The model's `logits` are the total, (1, 1, 1), which carries
        the gradient; its value may have been cast on its way out.
    """
    sums: list[LossSum] = []

    def forward(hidden: Tensor) -> Tensor:
        likelihood, unlikelihood = scales
        found = fused_selective_loss(
            hidden,
            head.weight,
            targets,
            risk,
            objective,
            bias=head.bias,
            likelihood_weight=likelihood,
            unlikelihood_weight=unlikelihood,
        )
        sums.append(found)
        return found.total.reshape(1, 1, 1)

    with replaced_forward(head, forward):
        yield sums


def why_not_fused(model: Any, head: Any, batch: Mapping[str, Any]) -> str | None:
    """Why the loss of this model cannot be computed in its head; None where it can.

    It can where the head is a plain linear layer and what it puts out is the model's logits, bit for bit. That is not
    looked up but tried, on a few tokens: the head puts out known numbers of up to 100, and they must come out of the
    model as they are. A soft cap, a scale or a bias behind the head would show, however small the model's own logits.

    Args:
        model: the model as it is trained, wrapped or not; its random states are as before afterwards.
        head: its output embedding.
        batch: what a forward of the model is given, `input_ids` (batch, seq) among it.
    """
    if not isinstance(head, nn.Linear) or type(head).forward is not nn.Linear.forward or "forward" in vars(head):
        return f"its output head is {type(head).__name__}, not a plain linear layer"
    tokens = batch["input_ids"]
    piece = {
        name: value[:1, :_MARKED_TOKENS]
        if isinstance(value, Tensor) and value.ndim >= 2 and value.shape[:2] == tokens.shape
        else value
        for name, value in batch.items()
    }
    sent: list[Tensor] = []

    def forward(hidden: Tensor) -> Tensor:
        logits = nn.functional.linear(hidden, head.weight, head.bias)
        marks = torch.linspace(-_MARKED_RANGE, _MARKED_RANGE, logits.numel(), device=logits.device)
        sent.append(marks.reshape(logits.shape).to(logits.dtype))
        return sent[-1]

    devices = [tokens.device] if tokens.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.no_grad(), replaced_forward(head, forward):
        received = model(**piece).logits
    if len(sent) != 1 or sent[0].shape[:-1] != piece["input_ids"].shape:
        return "its output head does not run once on every token"
    if received.shape != sent[0].shape or not torch.equal(received.double(), sent[0].double()):
        return "its logits are not what its output head puts out (soft-capped, scaled or cut)"
    return None


@contextmanager
def replaced_forward(head: nn.Linear, forward: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """The head computes `forward` of its input in this block."""
    head.forward = forward  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        del head.forward
