"""The output head, run on the rows that are asked for and on nothing else."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from detox.errors import InputError, UnsupportedModel

_HEAD_ROWS = 64  # rows of float32 logits that exist at once: 12 MiB of a vocabulary of 50k
# Configuration keys of what a family does to its logits after the head (Gemma's soft-capping, Cohere's and Granite's scales).
_AFTER_HEAD = (
    "final_logit_softcapping",
    "logit_scale",
    "logits_scaling",
    "lm_head_multiplier",
    "logits_mup_width_multiplier",
)


def gather(logits: Tensor, targets: Tensor) -> Tensor:
    """(rows, vocab), (rows,) -> log-probabilities (rows,) float32."""
    logits = logits.float()
    return logits.gather(1, targets[:, None]).squeeze(1) - logits.logsumexp(-1)


def scored(logits: Tensor, targets: Tensor) -> Tensor:
    """(rows, vocab), (rows,) -> (2, rows) float32: log-probabilities, and 1 where the target is the likeliest token, else 0."""
    return torch.stack([gather(logits, targets), (logits.argmax(-1) == targets).float()])


def require_numbers(values: Tensor) -> None:
    """Refuse NaN: it is the largest of all to argmax, so that a model that has diverged would choose the first answer and write token 0.

    Raises:
        InputError: some value is NaN.
    """
    if bool(values.isnan().any()):
        raise InputError(
            "the model's logits are NaN: its weights have diverged, or an edit is too strong for the dtype; fit again, lower the "
            "strength, or load the model in float32"
        )


class _Selection:
    """Lets the model run its output head on chosen rows only, and keeps the rows."""

    def __init__(self, rows: Tensor, columns: Tensor, *, probe: bool) -> None:
        self.rows, self.columns, self.probe = rows, columns, probe
        self.hidden: Tensor | None = None

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        self.hidden = args[0][self.rows, self.columns]
        return (self.hidden[None, :1] if self.probe else self.hidden[None], *args[1:])


def headless(model: Any) -> ExitStack:
    """A block in which the output head sees a single position: its result is not wanted."""
    stack = ExitStack()
    head = model.get_output_embeddings()
    if head is not None:
        handle = head.register_forward_pre_hook(lambda module, args: (args[0][:1, :1], *args[1:]))
        stack.callback(handle.remove)
    return stack


def selected(model: Any, rows: Tensor, columns: Tensor, targets: Tensor, **inputs: Any) -> Tensor:
    """`scored` of `targets` at (rows, columns) of one forward pass: (2, rows).

    Most families end in a plain linear head. Then the model itself runs the head on one row, as a probe, and we run it on all
    of them in chunks. Where the configuration names a step after the head, the model's own forward pass gives all chosen rows.

    Raises:
        UnsupportedModel: the probe differs from our row: a step after the head that is not known here.
        InputError: the probe is NaN.
    """
    head = model.get_output_embeddings()
    if head is None:
        return scored(model(**inputs).logits[rows, columns], targets)
    probe = not any(getattr(model.config, key, None) not in (None, 1, 1.0) for key in _AFTER_HEAD)
    selection = _Selection(rows, columns, probe=probe)
    with head.register_forward_pre_hook(selection):
        logits = model(**inputs).logits
    if selection.hidden is None:  # the head was not called as a module, so all logits are there
        return scored(logits[rows, columns], targets)
    if not probe:
        return scored(logits[0], targets)
    theirs, ours = logits[0, 0].float(), head(selection.hidden[:1])[0].float()
    require_numbers(theirs)
    if not torch.allclose(ours, theirs, rtol=1e-2, atol=1e-2 * float(theirs.abs().max()) + 1e-6):
        raise UnsupportedModel(
            f"{type(model).__name__} changes its logits after the output head in a way that is not known here; "
            "add the configuration key to detox.models.output_head._AFTER_HEAD"
        )
    chunks = zip(torch.split(selection.hidden, _HEAD_ROWS), torch.split(targets, _HEAD_ROWS), strict=True)
    return torch.cat([scored(head(hidden), target) for hidden, target in chunks], dim=1)
