"""Hidden states: what the model has computed when it has read a text."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from detox.errors import InputError
from detox.models.announcements import Announcement
from detox.models.architectures import context_length
from detox.models.edits import announced, state_of
from detox.models.language_model import LanguageModel
from detox.models.running import evaluating, halving
from detox.models.tokenization import encode_texts, pad_rows, pad_token


def last_states(lm: LanguageModel, texts: Sequence[str], *, batch_size: int = 32) -> Tensor:
    """The last layer's state (after the final norm) at each text's last token.

    Args:
        lm: the handle; its prefix is put before each text, its edits act.
        texts: a text longer than the model's context is read at its last token with as much before it as fits.
        batch_size: texts at once.

    Returns:
        (texts, hidden) float32, on the CPU.
    """
    lm.require_current()
    limit = context_length(lm.model)
    rows = [row[-limit:] if limit else row for row in encode_texts(lm.tokenizer, [lm.prefix + text for text in texts])]
    empty = next((index for index, row in enumerate(rows) if not row), None)
    if empty is not None:
        raise InputError(f"text {empty} has no tokens; expected at least one")
    order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
    result: list[Tensor] = [torch.empty(0)] * len(rows)

    def read(batch: list[int]) -> list[tuple[int, Tensor]]:
        ids, mask = pad_rows(
            [rows[i] for i in batch], side="right", fill=pad_token(lm.tokenizer), device=lm.model.device
        )
        with announced(lm.model, Announcement(mask, mask.sum(-1))):
            output = lm.model.base_model(input_ids=ids, attention_mask=mask.long(), use_cache=False)
        last = output.last_hidden_state[torch.arange(len(batch), device=ids.device), mask.sum(-1) - 1]
        return list(zip(batch, last.float().cpu(), strict=True))

    with torch.no_grad(), evaluating(lm.model):
        for start in range(0, len(order), batch_size):
            for index, state in halving(read, order[start : start + batch_size], state_of(lm.model).incidents):
                result[index] = state
    return torch.stack(result)
