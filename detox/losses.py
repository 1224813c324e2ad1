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

from detox.errors import InputError, require_known

Objective = Literal["full", "masked", "unlikelihood"]
OBJECTIVES: tuple[str, ...] = get_args(Objective)
Denominator = Literal["shared", "per-kind"]
DENOMINATORS: tuple[str, ...] = get_args(Denominator)
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
    require_known("objective", objective, OBJECTIVES)
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
            "(...) with vocab at least 2"
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


def step_scales(
    likelihood_count: Tensor, unlikelihood_count: Tensor, *, denominator: Denominator, unlikelihood_weight: float = 1.0
) -> tuple[Tensor, Tensor]:
    """What the two sums of a step are multiplied by, to give its loss.

    Args:
        likelihood_count: tokens of the likelihood in the whole step: all batches, all processes.
        unlikelihood_count: tokens of the unlikelihood in the whole step.
        denominator: "shared" divides both by all tokens that carry a loss, so that a risky token weighs as much as a
            safe one (Wang et al. 2025, and their code); "per-kind" divides each by its own tokens, so that the weight
            of unlikelihood does not hang on how many tokens are risky.
        unlikelihood_weight: factor of the unlikelihood, at least 0.

    Returns:
        Factors of likelihood and unlikelihood, float32 scalars. No tokens count as one: the sum is zero anyway.

    Raises:
        UnknownName: no such denominator.
    """
    require_known("denominator", denominator, DENOMINATORS)
    counts = (likelihood_count, unlikelihood_count)
    if denominator == "shared":
        counts = (likelihood_count + unlikelihood_count,) * 2
    return 1 / counts[0].clamp(min=1), unlikelihood_weight / counts[1].clamp(min=1)


def row_losses(logits: Tensor, targets: Tensor, unlikely: Tensor) -> tuple[Tensor, Tensor]:
    """-log p(target) or -log(1 - p(target)) of each row and, in place of the logits, the direction of its gradient.

    Let q be the softmax of all logits but the target's and o = log(p / (1 - p)) = z_target - logsumexp(the others).
    Both losses have a gradient along q - onehot(target): -log p = softplus(-o) is (1 - p) times it and -log(1 - p) =
    softplus(o) is -p times it. So one softmax serves both, nothing is clamped or cancels however near p is to 0 or 1,
    and what is left to multiply is one number a row.

    Args:
        logits: (rows, vocab) float32 or float64, contiguous; becomes q - onehot(target).
        targets: (rows,) token ids in [0, vocab).
        unlikely: (rows,) bool; True for unlikelihood, False for likelihood.

    Returns:
        (rows,) losses in nats, at least 0, and (rows,) factors: the gradient of a row is its factor times its new
        `logits`.
    """
    at_target = targets.unsqueeze(-1)
    of_target = logits.gather(-1, at_target).squeeze(-1)
    logits.scatter_(-1, at_target, -torch.inf)
    largest = logits.amax(-1)
    if logits.device.type in ("cpu", "cuda"):  # their kernels read a number before they write it
        torch.softmax(logits, -1, out=logits)
    else:
        logits.copy_(torch.softmax(logits, -1))
    # The largest q is exp(0) over the sum: the logsumexp comes out of the softmax without another pass of exponentials.
    odds = of_target - (largest - logits.amax(-1).log())
    logits.scatter_(-1, at_target, -1.0)
    signed = torch.where(unlikely, odds, -odds)
    factor = torch.sigmoid(signed)
    return torch.logaddexp(signed, torch.zeros_like(signed)), torch.where(unlikely, -factor, factor)


def reduction_dtype(dtype: torch.dtype) -> torch.dtype:
    """What losses of such logits are computed in: float64 for float64, float32 for all others."""
    return torch.float64 if dtype == torch.float64 else torch.float32


class _SelectiveSums(torch.autograd.Function):
    """(rows, vocab) logits -> the two sums. Keeps the logits and computes their softmax again going back."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, likely: Tensor, unlikely: Tensor) -> tuple[Tensor, Tensor]:
        targets = targets.clamp(min=0)
        ctx.save_for_backward(logits, targets, likely, unlikely)
        dtype = reduction_dtype(logits.dtype)
        likelihood, unlikelihood = (torch.zeros((), dtype=dtype, device=logits.device) for _ in range(2))
        for rows in _pieces(logits, likely | unlikely):
            piece = logits[rows].to(dtype, copy=True)
            losses, _ = row_losses(piece, targets[rows], unlikely[rows])
            likelihood += losses.masked_fill(~likely[rows], 0.0).sum()
            unlikelihood += losses.masked_fill(~unlikely[rows], 0.0).sum()
        return likelihood, unlikelihood

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        logits, targets, likely, unlikely = ctx.saved_tensors
        of_likelihood, of_unlikelihood = grads
        dtype, present = reduction_dtype(logits.dtype), likely | unlikely
        gradient = torch.empty_like(logits, memory_format=torch.contiguous_format)
        in_place = gradient.dtype == dtype
        for rows in _pieces(logits, present):
            piece = gradient[rows].copy_(logits[rows]) if in_place else logits[rows].to(dtype)
            _, factor = row_losses(piece, targets[rows], unlikely[rows])
            piece.mul_((factor * torch.where(unlikely[rows], of_unlikelihood, of_likelihood)).unsqueeze(-1))
            if not in_place:
                gradient[rows] = piece
        gradient[~present] = 0.0  # also where a piece had no loss at all, and where logits without a loss were NaN
        return gradient, None, None, None


def _pieces(logits: Tensor, present: Tensor) -> Iterator[slice]:
    """Slices of the rows of `logits`, a few rows each; those without any loss are left out."""
    step = max(1, (_PIECE_ON_CPU if logits.device.type == "cpu" else _PIECE_ELSEWHERE) // logits.shape[-1])
    for start in range(0, logits.shape[0], step):
        rows = slice(start, start + step)
        if present[rows].any():
            yield rows
