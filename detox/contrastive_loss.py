"""The loss of contrastive perplexity, a pure function of likelihoods."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from detox.errors import InputError, require_known

Form = Literal["paper", "signed"]
FORMS: tuple[str, ...] = get_args(Form)


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

    The temperature of the paper's s cancels in J. Its form drives a toxic text away from c on whichever side it is, so that one that is
    likelier than c becomes likelier still, and draws the safe texts, c itself, away from it; "signed" takes s = exp(c - phi) of toxic
    texts, without the absolute value, whose gradient never makes one likelier. Both know differences of phi alone: nothing keeps the safe
    texts likely but an anchor that the caller adds.

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
    require_known("form of the contrastive loss", form, FORMS)
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
