"""What a ruler says before it runs the model, so that an edit can tell padding, prompt and generated tokens apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

KINDS = ("pad", "prompt", "generated", "unannounced")
POSITIONS = ("all", "generation", "last")


@dataclass
class Announcement:
    """The columns of the forward passes to come.

    Attributes:
        attention_mask: (batch, length) bool, of the columns known when it was said; columns beyond it are generated tokens.
        prompt_ends: (batch,) long, the column of the first token that is not prompt.
        gates: edit name -> (batch,) bool, the texts for which a gated edit acts.
        columns: columns that exist once the forward pass to come is done. A pass of n positions begins at column
            `columns - n`, with a cache (n = 1) and without (n = columns) alike.
    """

    attention_mask: Tensor
    prompt_ends: Tensor
    columns: int = 0
    gates: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.columns = self.columns or self.attention_mask.shape[1]

    def offset(self, length: int) -> int:
        """Column of the first position of a forward pass over `length` positions."""
        return self.columns - length

    def mask(self, length: int) -> Tensor:
        """(batch, length) bool: which positions of the forward pass to come hold a token."""
        offset = self.offset(length)
        known = self.attention_mask[:, offset : offset + length]
        if known.shape[1] == length:
            return known
        beyond = known.new_ones(known.shape[0], length - known.shape[1])
        return torch.cat([known, beyond], dim=1)

    def has_padding(self, length: int) -> bool:
        """Whether some position of the forward pass to come is padding."""
        return self.offset(length) < self.attention_mask.shape[1] and not bool(self.mask(length).all())

    def acts(self, length: int, positions: str, gate: Tensor | None = None) -> Tensor | None:
        """Where an edit acts in the forward pass to come.

        Args:
            length: positions of the pass.
            positions: "all" tokens; "generation", from the last token of the prompt on, since the first generated token is predicted
                there; "last", the last token of the prompt alone. Padding never.
            gate: (batch,) bool, the texts for which it acts; None for all.

        Returns:
            (batch, length) bool, or None for everywhere.
        """
        offset, known = self.offset(length), self.attention_mask.shape[1]
        if offset >= known and positions != "last":
            where = None
        elif positions == "all":
            where = self.mask(length) if self.has_padding(length) else None
        else:
            columns = torch.arange(offset, self.columns, device=self.attention_mask.device)[None, :]
            first = self.prompt_ends[:, None] - 1
            where = self.mask(length) & ((columns == first) if positions == "last" else (columns >= first))
        if gate is None:
            return where
        gate = gate[:, None].to(self.attention_mask.device)
        return gate.expand(-1, length) if where is None else where & gate

    def count(self, length: int, where: Tensor | None = None) -> dict[str, int]:
        """Positions of the forward pass to come, by kind; only those under `where` (batch, length) bool, if given."""
        if self.offset(length) >= self.attention_mask.shape[1]:
            every = self.attention_mask.shape[0] * length
            return {"pad": 0, "prompt": 0, "generated": every if where is None else int(where.sum())}
        mask = self.mask(length)
        columns = torch.arange(self.offset(length), self.columns, device=mask.device)
        prompt = mask & (columns[None, :] < self.prompt_ends[:, None])
        if where is not None:
            mask, prompt = mask & where, prompt & where
        real, prompts = int(mask.sum()), int(prompt.sum())
        every = mask.numel() if where is None else int(where.sum())
        return {"pad": every - real, "prompt": prompts, "generated": real - prompts}
