"""Data on its way to a Trainer: packed once for all processes, checked, and put in the order of all steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from detox.errors import InputError
from detox.losses import IGNORE_INDEX
from detox.pretraining.mixture import Mixture
from detox.pretraining.packing import PackedSequences
from detox.pretraining.recipe import PretrainingRecipe
from detox.training.processes import first_alone


def packed(
    data: PackedSequences | Mixture, tokenizer: Any, recipe: PretrainingRecipe, store: str | Path | None
) -> PackedSequences:
    """The sequences of a mixture, packed by the first process into `store` or by each in its memory; others as they are."""
    if not isinstance(data, Mixture):
        return data
    if store is None:
        return data.pack(tokenizer, sequence_length=recipe.sequence_length)
    options: dict[str, Any] = {"sequence_length": recipe.sequence_length, "store": store}
    first_alone(lambda: data.pack(tokenizer, **options))
    return data.pack(tokenizer, **options)


def require_fit(name: str, sequences: PackedSequences, recipe: PretrainingRecipe, tokenizer: Any) -> None:
    """Refuse sequences of another length or of another tokenizer than the run's.

    Raises:
        InputError: says which.
    """
    if sequences.sequence_length != recipe.sequence_length:
        raise InputError(
            f"{name}: sequences have {sequences.sequence_length} tokens and the recipe's sequence_length is "
            f"{recipe.sequence_length}; pack again or change the recipe"
        )
    largest, smallest = int(sequences.tokens.max()), int(sequences.tokens.min())
    if smallest < 0 or largest >= len(tokenizer):
        raise InputError(
            f"{name}: token ids are in [{smallest}, {largest}] and the tokenizer has {len(tokenizer)} tokens; use "
            "the tokenizer "
            "that made them"
        )


def as_it_is(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The batch, which `EndlessOrder` already put together."""
    return batch


class EndlessOrder(Dataset[dict[str, Tensor]]):
    """The sequences in the order of all steps: every epoch a permutation of its own, by the recipe's seed.

    The order is the data set's and no sampler's, so that it hangs on no random state and a resumed run finds its place.
    """

    def __init__(self, sequences: PackedSequences, recipe: PretrainingRecipe) -> None:
        self.sequences, self.length = sequences, recipe.steps * recipe.batch_size
        epochs = -(-self.length // len(sequences))
        self.order = np.concatenate(
            [np.random.default_rng([recipe.seed, epoch]).permutation(len(sequences)) for epoch in range(epochs)]
        )

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {name: value[0] for name, value in self.__getitems__([index]).items()}

    def __getitems__(self, indices: list[int]) -> dict[str, Tensor]:
        """A whole batch at once, which torch's loader asks for where it can."""
        rows = self.order[indices]
        tokens = torch.from_numpy(self.sequences.tokens[rows]).long()
        labels = tokens
        if self.sequences.ignored is not None:
            labels = tokens.masked_fill(torch.from_numpy(self.sequences.ignored[rows]), IGNORE_INDEX)
        return {"input_ids": tokens, "labels": labels, "risk": torch.from_numpy(self.sequences.risk[rows])}
