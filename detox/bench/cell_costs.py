"""What it costs to run a method, as far as it can be seen while a cell is measured: tokens before a prompt, memory of a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from detox.evaluation import Protocol
from detox.models import LanguageModel
from detox.models.generation import encode_prompts
from detox.models.tokenization import prompts_for

_PROMPTS = 200  # what a method puts before prompts differs little between them


def prompt_tokens(lm: LanguageModel, protocol: Protocol) -> float | None:
    """Mean number of tokens of a prompt as the model reads it, over at most 200 of the protocol's; None where it has none."""
    asked = [prompt.text for prompt in protocol.prompts[:_PROMPTS]]
    if not asked:
        return None
    rows = encode_prompts(lm, prompts_for(asked, chat=protocol.chat))
    return sum(map(len, rows)) / len(asked)


@contextmanager
def peak_memory(lm: LanguageModel) -> Iterator[dict[str, float]]:
    """Fills {"peak_mib": most memory that torch held on the model's GPU}; stays empty on a CPU, where torch does not count."""
    found: dict[str, float] = {}
    device = lm.model.device
    if device.type != "cuda":
        yield found
        return
    torch.cuda.reset_peak_memory_stats(device)
    yield found
    found["peak_mib"] = round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
