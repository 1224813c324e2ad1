"""The loss of contrastive perplexity, and token likelihoods of hidden states without their logits."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Tensor

from detox.errors import InputError, UnknownName
from detox.losses import IGNORE_INDEX, reduction_dtype

Form = Literal["paper", "signed"]
FORMS: tuple[str, ...] = get_args(Form)
_ROWS_ON_CPU, _ROWS_ELSEWHERE = 256, 4096  # rows of logits that exist at one time


def contrastive_perplexity_loss(
    safe_nll: Tensor,
    toxic_nll: Tensor,
    safe_mask: Tensor,
    toxic_mask: Tensor,
    *,
    alpha: float = 1.0,
    form: Form = "paper",
) -> Tensor:
    """Contrastive perplexity (Klein & Nabi 2025, arXiv 2401.08491, section 3): safe paraphrases agree, toxic ones stand apart.

    Of each group (paraphrases of one anchor), with phi the mean nll of a sequence (or its perplexity) and c the mean phi of the
    safe ones,

        s(x) = exp(-|phi(x) - c|)        J = sum_safe s / (sum_safe s + alpha sum_toxic s)        loss = -log J

    The temperature of the paper's s cancels in J. Its form draws a toxic text that is likelier than c *towards* c, which makes it
    likelier still as often as not; "signed" takes s = exp(c - phi) of toxic texts, without the absolute value, whose gradient never
    makes one likelier. Both know differences of phi alone: nothing keeps the safe texts likely but an anchor that the caller adds.

    Args:
        safe_nll: (groups, P) phi of the safe sequences.
        toxic_nll: (groups, N) phi of the toxic ones.
        safe_mask: (groups, P) bool; False where a group has no such sequence, and whatever stands there counts for nothing.
        toxic_mask: (groups, N) bool.
        alpha: factor of the toxic similarities, above 0 (1.0 and 1.1 in the paper).
        form: "paper" or "signed".

    Returns:
        Scalar, the mean of -log J over groups, at least 0. A group without toxic sequences gives 0.

    Raises:
        InputError: shapes that do not fit, a group without a safe sequence, an alpha that is not above 0, a NaN where the mask is True.
        UnknownName: no such form.
    """
    if form not in FORMS:
        raise UnknownName("form of the contrastive loss", form, FORMS)
    if not alpha > 0:
        raise InputError(f"alpha is {alpha}; expected a number above 0")
    if safe_nll.shape != safe_mask.shape or toxic_nll.shape != toxic_mask.shape or len(safe_nll) != len(toxic_nll):
        raise InputError(
            f"safe_nll {tuple(safe_nll.shape)} with mask {tuple(safe_mask.shape)}, toxic_nll {tuple(toxic_nll.shape)} with mask "
            f"{tuple(toxic_mask.shape)}; expected (groups, P) twice and (groups, N) twice"
        )
    if not bool(safe_mask.any(-1).all()):
        raise InputError("a group has no safe sequence; expected at least one in each")
    if bool(safe_nll.detach()[safe_mask].isnan().any()) or bool(toxic_nll.detach()[toxic_mask].isnan().any()):
        raise InputError(
            "the nll of a sequence is NaN; expected numbers, or False in the mask where there is no sequence"
        )
    safe, toxic = safe_nll.masked_fill(~safe_mask, 0.0), toxic_nll.masked_fill(~toxic_mask, 0.0)
    prototype = prototypes(safe, safe_mask).unsqueeze(-1)
    apart = toxic - prototype
    near = (safe - prototype).abs()
    far = apart.abs() if form == "paper" else apart
    absent = torch.finfo(safe.dtype).min
    positives = torch.logsumexp((-near).masked_fill(~safe_mask, absent), -1)
    negatives = torch.logsumexp((-far).masked_fill(~toxic_mask, absent), -1) + torch.log(safe.new_tensor(alpha))
    # -log J = log(1 + exp(negatives - positives)), with a zero where there are no negatives.
    odds = (negatives - positives).masked_fill(~toxic_mask.any(-1), absent)
    return torch.nn.functional.softplus(odds).mean()


def prototypes(safe_nll: Tensor, safe_mask: Tensor) -> Tensor:
    """C of each group: the mean phi of its safe sequences. (groups, P), (groups, P) bool -> (groups,)."""
    return safe_nll.masked_fill(~safe_mask, 0.0).sum(-1) / safe_mask.sum(-1)


def fused_token_nll(
    hidden: Tensor, weight: Tensor, targets: Tensor, *, bias: Tensor | None = None, rows_at_once: int | None = None
) -> Tensor:
    """-log p(target) of every row of `hidden @ weight.T + bias`; logits exist a few rows at a time, going forward and going back.

    Args:
        hidden: (..., width), input of the output projection.
        weight: (vocab, width).
        targets: (...) token ids, -100 = none.
        bias: (vocab,) or None.
        rows_at_once: rows of logits that exist at one time; None chooses by the device.

    Returns:
        (...) nats, float32 (float64 of float64); 0 where there is no target. Differentiable in hidden, weight and bias.
    """
    rows = rows_at_once or (_ROWS_ON_CPU if hidden.device.type == "cpu" else _ROWS_ELSEWHERE)
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
        dtype = reduction_dtype(hidden.dtype)
        present = (targets != IGNORE_INDEX).nonzero().squeeze(-1)
        normalisers, losses = hidden.new_zeros(len(present), dtype=dtype), hidden.new_zeros(len(targets), dtype=dtype)
        with torch.autocast(hidden.device.type, enabled=False):
            for start in range(0, len(present), rows_at_once):
                rows = present[start : start + rows_at_once]
                logits = _logits(hidden[rows], weight, bias, dtype)
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
        with torch.autocast(hidden.device.type, enabled=False):
            for start in range(0, len(present), ctx.rows_at_once):
                rows = present[start : start + ctx.rows_at_once]
                states = hidden[rows]
                gradient = _logits(states, weight, bias, upstream.dtype)
                gradient.sub_(normalisers[start : start + ctx.rows_at_once, None]).exp_()
                gradient[torch.arange(len(rows), device=rows.device), targets[rows]] -= 1.0
                gradient.mul_(upstream[rows, None])
                if of_hidden is not None:
                    of_hidden[rows] = (gradient.to(weight.dtype) @ weight).to(hidden.dtype)
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


def _logits(states: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    product = torch.nn.functional.linear(states.to(weight.dtype), weight, bias)
    return product.to(dtype)
