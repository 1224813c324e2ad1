"""Where a text ends before its model says so: at a stop string."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import StoppingCriteria


def cut(text: str, stop: Sequence[str]) -> str:
    """`text` up to the first stop string in it, whichever comes first."""
    places = [place for place in (text.find(string) for string in stop) if place >= 0]
    return text[: min(places)] if places else text


class StopStrings(StoppingCriteria):  # type: ignore[misc]
    """Ends each row once its new text holds one of the strings, and keeps after how many tokens it did.

    Attributes:
        ended: row -> new tokens until the string was complete; rows without one are absent.
    """

    def __init__(self, tokenizer: Any, stop: Sequence[str], *, prompt: int) -> None:
        self.tokenizer, self.stop, self.prompt = tokenizer, stop, prompt
        self.ended: dict[int, int] = {}
        # A string is complete in one step, and lies in as many last tokens as it has characters, or in their bytes, at most.
        self._reach = max(len(string.encode()) for string in stop) + 1

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: Any) -> Tensor:
        """(batch, length) ids so far -> (batch,) bool, True where a row has ended."""
        written = input_ids.shape[1] - self.prompt
        tails = input_ids[:, max(self.prompt, input_ids.shape[1] - self._reach) :].tolist()
        for row, tail in enumerate(tails):
            if row not in self.ended:
                text = self.tokenizer.decode(tail, skip_special_tokens=True, clean_up_tokenization_spaces=False)
                if any(string in text for string in self.stop):
                    self.ended[row] = written
        return torch.tensor([row in self.ended for row in range(len(tails))], device=input_ids.device)
