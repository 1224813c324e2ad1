"""The selective loss and the output projection in one: logits exist a few rows at a time, and never all at once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from detox.errors import InputError
from detox.losses import IGNORE_INDEX, LossSum, Objective, loss_positions, reduction_dtype, row_losses

# Rows that are projected at once. Each chunk reads the weight twice and reads and writes its gradient once, so that few
# rows wait for memory; beyond these numbers the matrix products gain little more and the logits cost memory that the
# chunks are there to save. On two cores of a CPU 256 rows were 8 % slower than 512, and 1024 were 3 % faster. An
# accelerator does about 300 operations in the time it moves a byte, and a chunk does half of its rows to a byte.
_ROWS_ON_CPU, _ROWS_ELSEWHERE = 512, 4096
_NLL_ROWS_ON_CPU = 256  # a likelihood by itself keeps less of anything else beside its logits
# Logits in low precision become float32 in pieces of about this many numbers.
_PIECE_ON_CPU, _PIECE_ELSEWHERE = 2**22, 2**27


def fused_selective_loss(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    risk: Tensor,
    objective: Objective,
    *,
    bias: Tensor | None = None,
    likelihood_weight: float | Tensor = 1.0,
    unlikelihood_weight: float | Tensor = 1.0,
    rows_at_once: int | None = None,
) -> LossSum:
    """`detox.losses.selective_loss` of `hidden @ weight.T + bias`, without the memory and the passes for its logits.

    Rows are projected in chunks, and each chunk's part of the gradients is computed at once, going forward: what is
    kept for backward has the size of `hidden` and `weight`. Rows without a loss (no target; risky under "masked") are
    never projected. Under autocast the projection is in its dtype, as `torch.nn.functional.linear` would be; losses and
    sums are in float32, in float64 for float64, and gradients of the weight add up in that too.

    The gradients are those of `total` as it is. Where they are wanted of a mean, the cheapest way is to put one over
    the count into the weights (see `detox.losses.step_scales`): backward then multiplies nothing and copies nothing.

    Args:
        hidden: (batch, seq, width), or any (..., width): input of the output projection; any floating dtype.
        weight: (vocab, width) of the output projection, of the dtype of `hidden` unless under autocast; vocab at least
            2. May be tied to the embedding.
        targets: (batch, seq) token ids in [0, vocab), -100 = none, aligned with `hidden`: already shifted.
        risk: (batch, seq) bool, aligned with `targets`; True where producing the target is risky.
        objective: "full", "masked" or "unlikelihood"; see `loss_positions`.
        bias: (vocab,) of the output projection, or None.
        likelihood_weight: factor of the likelihood sum in `total`, at least 0; a scalar tensor is not differentiated.
        unlikelihood_weight: factor of the unlikelihood sum in `total`, likewise.
        rows_at_once: rows of logits that exist at one time; None chooses by the device.

    Returns:
        The sums in nats and their counts. Only `total` is differentiable: `likelihood_weight * likelihood +
        unlikelihood_weight * unlikelihood`. A batch without any loss gives zeros, with zero gradients.

    Raises:
        UnknownName: no such objective.
        InputError: shapes or dtypes that do not fit, a vocabulary of one, or a negative weight.
    """
    _require_fit(hidden, weight, bias, targets)
    for name, value in (("likelihood_weight", likelihood_weight), ("unlikelihood_weight", unlikelihood_weight)):
        if not isinstance(value, Tensor) and not value >= 0:
            raise InputError(f"{name} is {value}; expected a number of at least 0")
    if rows_at_once is not None and rows_at_once < 1:
        raise InputError(f"rows_at_once is {rows_at_once}; expected at least 1, or None")
    likely, unlikely = loss_positions(targets, risk, objective)
    device = hidden.device
    dtype = reduction_dtype(hidden.dtype)
    scales = torch.stack(
        [torch.as_tensor(w, dtype=dtype, device=device) for w in (likelihood_weight, unlikelihood_weight)]
    )
    total, likelihood, unlikelihood = _FusedSums.apply(  # type: ignore[no-untyped-call]
        hidden.reshape(-1, hidden.shape[-1]),
        weight,
        bias,
        targets.reshape(-1),
        (likely | unlikely).reshape(-1),
        unlikely.reshape(-1),
        scales.detach(),
        rows_at_once or (_ROWS_ON_CPU if device.type == "cpu" else _ROWS_ELSEWHERE),
        torch.is_grad_enabled(),  # inside of a Function it is off
    )
    likelihood_count, unlikelihood_count = likely.sum(), unlikely.sum()
    return LossSum(
        total=total,
        count=likelihood_count + unlikelihood_count,
        likelihood=likelihood,
        likelihood_count=likelihood_count,
        unlikelihood=unlikelihood,
        unlikelihood_count=unlikelihood_count,
    )


class _FusedSums(torch.autograd.Function):
    """(rows, width) hidden states -> total, likelihood, unlikelihood. Keeps the gradients of the total, ready made."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        present: Tensor,
        unlikely: Tensor,
        scales: Tensor,
        rows_at_once: int,
        grad_enabled: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        dtype, weight_dtype = _projection_dtype(hidden), weight.dtype
        for_hidden, for_weight, for_bias = (grad_enabled and needed for needed in ctx.needs_input_grad[:3])
        indices = present.nonzero().squeeze(-1)
        chunks = max(1, -(-len(indices) // rows_at_once))
        step = -(-len(indices) // chunks)  # of one size: a small last chunk would read the whole weight all the same
        with torch.autocast(hidden.device.type, enabled=False):
            weight = weight.to(dtype)
            logits = weight.new_empty(step, len(weight))
            sums = torch.zeros_like(scales)
            of_hidden = torch.zeros_like(hidden, memory_format=torch.contiguous_format) if for_hidden else None
            of_weight = weight.new_empty(weight.shape, dtype=scales.dtype) if for_weight else None
            of_bias = weight.new_zeros(len(weight), dtype=scales.dtype) if for_bias else None
            if of_weight is not None and not len(indices):
                of_weight.zero_()
            for start in range(0, len(indices), max(1, step)):
                rows = indices[start : start + step]
                states, risky, piece = hidden[rows].to(dtype), unlikely[rows], logits[: len(rows)]
                if bias is None:
                    torch.mm(states, weight.t(), out=piece)
                else:
                    torch.addmm(bias.to(dtype), states, weight.t(), out=piece)
                losses, factors = _read(piece, targets[rows], risky, scales.dtype)
                sums += torch.stack([losses.masked_fill(risky, 0.0).sum(), losses.masked_fill(~risky, 0.0).sum()])
                # A row's factor multiplies what has its width and not what has its vocabulary.
                factors = (factors * torch.where(risky, scales[1], scales[0])).unsqueeze(-1)
                if of_hidden is not None:
                    of_hidden[rows] = (torch.mm(piece, weight) * factors).to(hidden.dtype)
                if of_bias is not None:
                    of_bias += torch.mv(piece.t(), factors.squeeze(-1).to(dtype))
                if of_weight is not None:
                    _add_product(of_weight, piece, (states * factors).to(dtype), first=start == 0)
        ctx.save_for_backward(
            of_hidden,
            None if of_weight is None else of_weight.to(weight_dtype),
            None if of_bias is None or bias is None else of_bias.to(bias.dtype),
        )
        likelihood, unlikelihood = sums.unbind()
        ctx.mark_non_differentiable(likelihood, unlikelihood)
        ctx.set_materialize_grads(False)
        return (sums * scales).sum(), likelihood, unlikelihood

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *upstream: Tensor | None) -> tuple[Tensor | None, ...]:
        scale = upstream[0]
        gradients = ctx.saved_tensors if scale is not None else (None, None, None)
        if scale is not None and scale != 1:
            gradients = tuple(None if gradient is None else gradient * scale for gradient in gradients)
        return (*gradients, None, None, None, None, None, None)


def _read(logits: Tensor, targets: Tensor, unlikely: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """`row_losses` in this dtype; in place of the logits, too, where they are of another one."""
    if logits.dtype == dtype:
        return row_losses(logits, targets, unlikely)
    step = max(1, (_PIECE_ON_CPU if logits.device.type == "cpu" else _PIECE_ELSEWHERE) // logits.shape[-1])
    found = []
    for start in range(0, len(logits), step):
        rows = slice(start, start + step)
        piece = logits[rows].to(dtype)
        found.append(row_losses(piece, targets[rows], unlikely[rows]))
        logits[rows] = piece
    losses, factors = zip(*found, strict=True)
    return torch.cat(losses), torch.cat(factors)


def _add_product(total: Tensor, logits: Tensor, states: Tensor, *, first: bool) -> None:
    """Add `logits.T @ states` to what may be of a wider dtype; the first product is written over what was there."""
    if total.dtype != states.dtype:
        product = torch.mm(logits.t(), states)
        total.copy_(product) if first else total.add_(product)
    elif first:
        torch.mm(logits.t(), states, out=total)
    else:
        total.addmm_(logits.t(), states)


def fused_token_nll(
    hidden: Tensor, weight: Tensor, targets: Tensor, *, bias: Tensor | None = None, rows_at_once: int | None = None
) -> Tensor:
    """-log p(target) of every row of `hidden @ weight.T + bias`; logits exist a few rows at a time, going forward and going back.

    Args:
        hidden: (..., width), input of the output projection.
        weight: (vocab, width).
        targets: (...) token ids, -100 = none.
        bias: (vocab,) or None.
        rows_at_once: rows of logits that exist at one time; None chooses.

    Under autocast the projection is in its dtype, as in `fused_selective_loss`.

    Returns:
        (...) nats, float32 (float64 of float64); 0 where there is no target. Differentiable in hidden, weight and bias.
    """
    _require_fit(hidden, weight, bias, targets)
    rows = rows_at_once or (_NLL_ROWS_ON_CPU if hidden.device.type == "cpu" else _ROWS_ELSEWHERE)
    flat: Tensor = _TokenNll.apply(  # type: ignore[no-untyped-call]
        hidden.reshape(-1, hidden.shape[-1]), weight, bias, targets.reshape(-1), rows
    )
    return flat.reshape(targets.shape)


class _TokenNll(torch.autograd.Function):
    """(rows, width) -> (rows,). Keeps a logsumexp a row and computes the logits again going back."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, rows_at_once: int
    ) -> Tensor:
        dtype, ctx.projection = reduction_dtype(hidden.dtype), _projection_dtype(hidden)
        present = (targets != IGNORE_INDEX).nonzero().squeeze(-1)
        normalisers, losses = hidden.new_zeros(len(present), dtype=dtype), hidden.new_zeros(len(targets), dtype=dtype)
        projected, shift = weight.to(ctx.projection), None if bias is None else bias.to(ctx.projection)
        with torch.autocast(hidden.device.type, enabled=False):
            for start in range(0, len(present), rows_at_once):
                rows = present[start : start + rows_at_once]
                logits = linear(hidden[rows].to(projected.dtype), projected, shift).to(dtype)
                normaliser = torch.logsumexp(logits, -1)
                normalisers[start : start + rows_at_once] = normaliser
                losses[rows] = normaliser - logits.gather(-1, targets[rows, None]).squeeze(-1)
        ctx.save_for_backward(hidden, weight, bias, targets, present, normalisers)
        ctx.rows_at_once = rows_at_once
        return losses

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, targets, present, normalisers = ctx.saved_tensors
        for_hidden, for_weight, for_bias = ctx.needs_input_grad[:3]
        of_hidden = torch.zeros_like(hidden) if for_hidden else None
        of_weight = torch.zeros_like(weight, dtype=upstream.dtype) if for_weight else None
        of_bias = torch.zeros_like(bias, dtype=upstream.dtype) if for_bias and bias is not None else None
        projected, shift = weight.to(ctx.projection), None if bias is None else bias.to(ctx.projection)
        with torch.autocast(hidden.device.type, enabled=False):
            for start in range(0, len(present), ctx.rows_at_once):
                rows = present[start : start + ctx.rows_at_once]
                states = hidden[rows]
                gradient = linear(states.to(projected.dtype), projected, shift).to(upstream.dtype)
                gradient.sub_(normalisers[start : start + ctx.rows_at_once, None]).exp_()
                gradient[torch.arange(len(rows), device=rows.device), targets[rows]] -= 1.0
                gradient.mul_(upstream[rows, None])
                if of_hidden is not None:
                    of_hidden[rows] = (gradient.to(ctx.projection) @ projected).to(hidden.dtype)
                if of_weight is not None:
                    of_weight.addmm_(gradient.t(), states.to(upstream.dtype))
                if of_bias is not None:
                    of_bias += gradient.sum(0)
        return (
            of_hidden,
            None if of_weight is None else of_weight.to(weight.dtype),
            None if of_bias is None else of_bias.to(bias.dtype),
            None,
            None,
        )


def _projection_dtype(hidden: Tensor) -> torch.dtype:
    """The dtype that autocast would give the projection; it leaves float64 alone."""
    device = hidden.device.type
    if torch.is_autocast_enabled(device) and hidden.dtype != torch.float64:
        return torch.get_autocast_dtype(device)
    return hidden.dtype


def _require_fit(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> None:
    if (
        hidden.shape[:-1] != targets.shape
        or weight.ndim != 2
        or weight.shape[-1] != hidden.shape[-1]
        or len(weight) < 2
        or (bias is not None and bias.shape != weight.shape[:1])
    ):
        raise InputError(
            f"hidden has shape {tuple(hidden.shape)}, weight {tuple(weight.shape)}, bias "
            f"{None if bias is None else tuple(bias.shape)} and targets {tuple(targets.shape)}; expected (..., width), "
            "(vocab, width), (vocab,) and (...) with vocab at least 2"
        )
    if weight.dtype != hidden.dtype and _projection_dtype(hidden) == hidden.dtype:
        raise InputError(
            f"hidden is {hidden.dtype} and weight {weight.dtype}; cast one to the dtype of the other, or use autocast"
        )
