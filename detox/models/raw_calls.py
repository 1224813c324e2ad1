"""Calls of the model itself, announced: for beams, static caches and whatever else our own ruler does not offer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from detox.errors import InputError
from detox.models.announcements import Announcement
from detox.models.edits import announced, gates_for, state_of, touching


@contextmanager
def announced_calls(model: Any, input_ids: Tensor, attention_mask: Tensor | None) -> Iterator[None]:
    """See `LanguageModel.announced`."""
    if attention_mask is None:
        attention_mask = torch.ones_like(input_ids)
    if attention_mask.shape != input_ids.shape or input_ids.ndim != 2:
        raise InputError(
            f"input_ids {tuple(input_ids.shape)} and attention_mask {tuple(attention_mask.shape)}; expected (batch, length), both alike"
        )
    mask = attention_mask.bool()
    if not bool(mask.any(-1).all()):
        raise InputError("a row of the attention mask is all padding; expected at least one token of prompt a row")
    columns = torch.arange(mask.shape[1], device=mask.device)
    ends = (columns * mask).amax(-1) + 1
    prompts = [row[kept].tolist() for row, kept in zip(input_ids, mask, strict=True)]
    first = Announcement(mask, ends, gates=gates_for(model, prompts))
    state = state_of(model)

    def follow(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        ids = kwargs.get("input_ids", args[0] if args else None)
        if ids is None:
            raise InputError("an announced call of the model had no input_ids; announce and call it with token ids")
        rows, length = ids.shape
        if rows % mask.shape[0]:
            raise InputError(f"announced were {mask.shape[0]} prompts, and the model was called with {rows} rows")
        past = kwargs.get("past_key_values")
        seen = length + (0 if past is None else int(past.get_seq_length()))
        copies = rows // mask.shape[0]  # beams and samples of a prompt lie side by side
        state.announcement = replace(
            first,
            attention_mask=mask.repeat_interleave(copies, 0),
            prompt_ends=ends.repeat_interleave(copies),
            gates={name: gate.to(mask.device).repeat_interleave(copies) for name, gate in first.gates.items()},
            columns=seen,
        )

    with touching(model), announced(model, first), model.register_forward_pre_hook(follow, with_kwargs=True):
        yield
