"""The mathematics of training: pure functions of tensors, sums in nats, divided by the caller.

Selective losses are those of Wang et al. 2025, "Teaching Models to Understand (but not Generate) High-risk Data"
(arXiv 2505.03052): every token stays in the context of those after it; what differs is the loss on the risky ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from detox.errors import InputError, UnknownName

Objective = Literal["full", "masked", "unlikelihood"]
OBJECTIVES: tuple[str, ...] = get_args(Objective)
IGNORE_INDEX = -100  # a target that is none, as everywhere in torch and transformers

# Logits are read in pieces of about this many numbers: on a CPU a piece stays in cache, elsewhere launches are what
# costs.
_PIECE_ON_CPU, _PIECE_ELSEWHERE = 2**21, 2**26


@dataclass(frozen=True, slots=True)
class LossSum:
    """Sums of one batch in nats, and how many tokens went into them. Add over a step's batches, then divide once.

    Attributes:
        total: `likelihood + unlikelihood_weight * unlikelihood`; what is minimised, once divided by `count`.
        count: the denominator all arms of an objective share: every token that carries a loss.
        likelihood: sum of -log p(target), differentiable on its own.
        likelihood_count: tokens in `likelihood`.
        unlikelihood: sum of -log(1 - p(target)), without its weight, differentiable on its own.
        unlikelihood_count: tokens in `unlikelihood`.
    """

    total: Tensor
    count: Tensor
    likelihood: Tensor
    likelihood_count: Tensor
    unlikelihood: Tensor
    unlikelihood_count: Tensor

    def __add__(self, other: LossSum) -> LossSum:
        return LossSum(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    def detach(self) -> LossSum:
        """The same sums without their graph, to be kept for a log."""
        return LossSum(*(getattr(self, field.name).detach() for field in fields(self)))


def loss_positions(targets: Tensor, risk: Tensor, objective: Objective) -> tuple[Tensor, Tensor]:
    """Which tokens carry which loss.

    Args:
        targets: token ids of any shape, -100 = none.
        risk: bool, the same shape; True where producing the target is risky.
        objective: "full" (likelihood of every target), "masked" (of safe targets only) or "unlikelihood"
            (likelihood of safe targets, unlikelihood of risky ones).

    Returns:
        Two bool masks of that shape: tokens of the likelihood, and of the unlikelihood.

    Raises:
        UnknownName: no such objective.
        InputError: `risk` is not a bool mask of the shape of `targets`.
    """
    if objective not in OBJECTIVES:
        raise UnknownName("objective", objective, OBJECTIVES)
    if risk.shape != targets.shape or risk.dtype != torch.bool:
        raise InputError(
            f"risk is {risk.dtype} of shape {tuple(risk.shape)}; expected torch.bool of the shape of the targets, "
            f"{tuple(targets.shape)}"
        )
    present = targets != IGNORE_INDEX
    if objective == "full":
        return present, torch.zeros_like(present)
    if objective == "masked":
        return present & ~risk, torch.zeros_like(present)
    return present & ~risk, present & risk


def selective_loss(
    logits: Tensor, targets: Tensor, risk: Tensor, objective: Objective, *, unlikelihood_weight: float = 1.0
) -> LossSum:
    """Cross-entropy on safe targets; on risky ones cross-entropy, nothing, or unlikelihood -log(1 - p).

    log(1 - p) is the logsumexp of the other logits minus that of all: exact and with a live gradient (p at the target
    logit) however large p is; nothing is clamped. Reductions are in float32, in float64 for float64 logits. Logits are
    read in pieces of rows and never copied whole; the only tensor of their size that this makes is their gradient.

    Args:
        logits: (batch, seq, vocab), or any (..., vocab); vocab at least 2; any floating dtype.
        targets: (batch, seq) token ids in [0, vocab), -100 = none, aligned with `logits`: already shifted.
        risk: (batch, seq) bool, aligned with `targets`; True where producing the target is risky.
        objective: "full", "masked" or "unlikelihood"; see `loss_positions`.
        unlikelihood_weight: factor of the unlikelihood sum in `total`, at least 0. The denominator has no weight.

    Returns:
        The sums in nats and their counts. A batch without any loss gives zeros, with zero gradients.

    Raises:
        UnknownName: no such objective.
        InputError: shapes that do not fit, a vocabulary of one, or a negative weight.
    """
    if logits.shape[:-1] != targets.shape or logits.shape[-1] < 2:
        raise InputError(
            f"logits have shape {tuple(logits.shape)} and targets {tuple(targets.shape)}; expected (..., vocab) and "
            "(...) "
            "with vocab at least 2"
        )
    if not unlikelihood_weight >= 0:
        raise InputError(f"unlikelihood_weight is {unlikelihood_weight}; expected a number of at least 0")
    likely, unlikely = loss_positions(targets, risk, objective)
    likelihood, unlikelihood = _SelectiveSums.apply(  # type: ignore[no-untyped-call]
        logits.reshape(-1, logits.shape[-1]), targets.reshape(-1), likely.reshape(-1), unlikely.reshape(-1)
    )
    likelihood_count, unlikelihood_count = likely.sum(), unlikely.sum()
    return LossSum(
        total=likelihood + unlikelihood_weight * unlikelihood,
        count=likelihood_count + unlikelihood_count,
        likelihood=likelihood,
        likelihood_count=likelihood_count,
        unlikelihood=unlikelihood,
        unlikelihood_count=unlikelihood_count,
    )


class _SelectiveSums(torch.autograd.Function):
    """(rows, vocab) logits -> the two sums. Keeps the logits and computes their softmax again going back."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, likely: Tensor, unlikely: Tensor) -> tuple[Tensor, Tensor]:
        targets = targets.clamp(min=0).unsqueeze(-1)
        ctx.save_for_backward(logits, targets, likely, unlikely)
        dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
        likelihood, unlikelihood = (torch.zeros((), dtype=dtype, device=logits.device) for _ in range(2))
        for rows in _pieces(logits):
            if likely[rows].any():
                log_p = torch.log_softmax(logits[rows].to(dtype), -1).gather(-1, targets[rows]).squeeze(-1)
                likelihood -= log_p.masked_fill_(~likely[rows], 0.0).sum()
            for risky in _indices(unlikely, rows):
                log_odds, _ = _log_odds(logits[risky].to(dtype), targets[risky])
                unlikelihood += torch.logaddexp(log_odds, torch.zeros_like(log_odds)).sum()
        return likelihood, unlikelihood

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        logits, targets, likely, unlikely = ctx.saved_tensors
        of_likelihood, of_unlikelihood = grads
        dtype = of_likelihood.dtype
        gradient = torch.empty_like(logits)
        for rows in _pieces(logits):
            if likely[rows].any():
                slope = torch.softmax(logits[rows].to(dtype), -1)
                slope.scatter_add_(-1, targets[rows], slope.new_tensor(-1.0).expand(targets[rows].shape))
                torch.mul(slope, of_likelihood, out=gradient[rows])
            for without in _indices(~likely, rows):
                gradient[without] = 0.0
            for risky in _indices(unlikely, rows):
                log_odds, others = _log_odds(logits[risky].to(dtype), targets[risky])
                p = torch.sigmoid(log_odds)
                # Of log(1 + exp(z_t - logsumexp of the others)): p at the target, -p * softmax of the others elsewhere.
                slope = torch.softmax(others, -1).mul_(-p).scatter_(-1, targets[risky], p)
                gradient[risky] = slope.mul_(of_unlikelihood).to(gradient.dtype)
        return gradient, None, None, None


def _log_odds(piece: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """log(p / (1 - p)) of the target, (rows, 1), and `piece` itself, changed: the target is -inf.

    -log(1 - p) = log(1 + exp(log odds)), accurate at both ends, where the difference of two logsumexps cancels at one.
    """
    of_target = piece.gather(-1, target)
    others = piece.scatter_(-1, target, -torch.inf)
    return of_target - torch.logsumexp(others, -1, keepdim=True), others


def _pieces(logits: Tensor) -> Iterator[slice]:
    """Slices of the rows of `logits`, a few rows each."""
    step = max(1, (_PIECE_ON_CPU if logits.device.type == "cpu" else _PIECE_ELSEWHERE) // logits.shape[-1])
    for start in range(0, logits.shape[0], step):
        yield slice(start, start + step)


def _indices(mask: Tensor, rows: slice) -> Iterator[Tensor]:
    """The indices of the rows of this piece that are under `mask`, once; nothing where there are none."""
    indices = mask[rows].nonzero().squeeze(-1)
    if indices.numel():
        yield indices + rows.start
