"""Is a checkpoint on disk the model in memory? Reloaded strictly, run on the same prompts, compared in logits and in greedy text."""

from __future__ import annotations

import hashlib
import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from detox.errors import InputError, NotExportable
from detox.models.architectures import context_length
from detox.models.generation import generate
from detox.models.language_model import LanguageModel
from detox.models.running import evaluating
from detox.models.sampling import Sampling
from detox.models.tokenization import encode_texts, pad_rows, pad_token

PROMPTS, GREEDY_TOKENS = 64, 16
_ROWS, _LONGEST = 8, 48  # prompts at once; tokens of a prompt

# Largest difference of two logits, as a part of the largest logit (of 1, where all are smaller). A hooked model and its export add
# the same numbers in another order, W (x + d) + b against W x + (b + W d). Each addition is off by at most 2^-53, 2^-24, 2^-11 or
# 2^-9 of its value, in float64, float32, float16 and bfloat16, and what the layers are off by adds up: some 50 to 200 such steps
# are allowed. A bias that was dropped is off by the whole effect of the edit, which stands beside the difference.
BOUNDS = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 2e-2, torch.bfloat16: 1e-1}


@dataclass(frozen=True)
class Comparison:
    """Two models on the same prompts.

    Attributes:
        prompts, tokens: how many, padding not counted.
        max_logit_difference, mean_logit_difference: over all tokens and the whole vocabulary.
        largest_logit: of the model in memory, absolute.
        bound: what the largest difference may be, from BOUNDS.
        effect: mean difference of logits between the model in memory and itself without edits, over a few prompts: what a
            checkpoint that lost the edit would be off by.
        greedy_agreement: share of tokens that are the same, over 16 new tokens a prompt.
    """

    prompts: int
    tokens: int
    max_logit_difference: float
    mean_logit_difference: float
    largest_logit: float
    bound: float
    effect: float
    greedy_agreement: float

    @property
    def within(self) -> bool:
        """Whether the two are one model, up to rounding."""
        return self.max_logit_difference <= self.bound


def prompt_rows(lm: LanguageModel, prompts: Sequence[str] | None) -> list[list[int]]:
    """What the two models read: the first 64 texts, or 64 seeded rows of random tokens, of different lengths.

    Raises:
        InputError: no text, or one without a token.
    """
    longest = max(1, min(_LONGEST, (context_length(lm.model) or _LONGEST * 2) - GREEDY_TOKENS))
    if prompts is not None:
        rows = [row[:longest] for row in encode_texts(lm.tokenizer, list(prompts)[:PROMPTS])]
        if not rows or not all(rows):
            raise InputError("the prompts of the comparison must be texts with at least one token each")
        return rows
    generator = torch.Generator().manual_seed(0)
    vocabulary = lm.model.config.get_text_config().vocab_size
    lengths = torch.randint(2, max(3, longest + 1), (PROMPTS,), generator=generator).tolist()
    return [torch.randint(0, vocabulary, (length,), generator=generator).tolist() for length in lengths]


def compare(lm: LanguageModel, other: LanguageModel, rows: Sequence[Sequence[int]]) -> Comparison:
    """Run both on `rows`, padded to the left and to the right in turn.

    Args:
        lm: the model in memory, with the edits of its handle.
        other: what was written, reloaded.
        rows: token ids.
    """
    highest, total, count, largest = 0.0, 0.0, 0, 0.0
    for start in range(0, len(rows), _ROWS):
        part, side = rows[start : start + _ROWS], "left" if start // _ROWS % 2 else "right"
        here, there = (_logits(one, part, side) for one in (lm, other))
        apart = (here - there).abs()
        # A NaN in one of them would pass every comparison.
        highest = max(highest, float(apart.max())) if bool(apart.isfinite().all()) else float("inf")
        total, count = total + float(apart.double().sum()), count + apart.numel()
        largest = max(largest, float(here.abs().max()))
    few = rows[:_ROWS]
    here = _logits(lm, few, "right")
    with lm.suspended() as bare:
        effect = float((here - _logits(bare, few, "right")).abs().mean())
    dtype = next(lm.model.parameters()).dtype
    return Comparison(
        prompts=len(rows),
        tokens=sum(map(len, rows)),
        max_logit_difference=highest,
        mean_logit_difference=total / count,
        largest_logit=largest,
        bound=BOUNDS[dtype] * max(1.0, largest),
        effect=effect,
        # A model of NaN is refused as a writer: nothing of it agrees.
        greedy_agreement=_greedy_agreement(lm, other, rows) if math.isfinite(highest) else 0.0,
    )


def _logits(lm: LanguageModel, rows: Sequence[Sequence[int]], side: str) -> Tensor:
    """(tokens, vocab) float32 or better, of the tokens that are no padding."""
    ids, mask = pad_rows(rows, side=side, fill=pad_token(lm.tokenizer), device=lm.model.device)
    told = "position_ids" in inspect.signature(lm.model.forward).parameters
    extra = {"position_ids": (mask.long().cumsum(-1) - 1).clamp(min=0)} if told else {}
    with torch.no_grad(), evaluating(lm.model), lm.announced(ids, mask):
        logits = lm.model(input_ids=ids, attention_mask=mask.long(), use_cache=False, **extra).logits
    real: Tensor = logits[mask]
    return real if real.dtype == torch.float64 else real.float()


def _greedy_agreement(lm: LanguageModel, other: LanguageModel, rows: Sequence[Sequence[int]]) -> float:
    sampling = Sampling(max_new_tokens=GREEDY_TOKENS, temperature=0, batch_size=PROMPTS)
    same, total = 0, 0
    for (here,), (there,) in zip(generate(lm, rows, sampling), generate(other, rows, sampling), strict=True):
        same += sum(a == b for a, b in zip(here.token_ids, there.token_ids, strict=False))
        total += max(len(here.token_ids), len(there.token_ids))
    return same / max(1, total)


def reload_strictly(folder: str | Path, *, dtype: torch.dtype | str | None, device: Any = None) -> LanguageModel:
    """Load a checkpoint by plain AutoModelForCausalLM, with every tensor of it used and none missing.

    Raises:
        NotExportable: tensors that the class does not know, or lacks; names the first.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # its report of odd keys is ours to make, in one line
    try:
        model, info = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype or "auto", output_loading_info=True)
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise NotExportable(f"the checkpoint cannot be loaded: {str(error).strip().splitlines()[0]}") from error
    finally:
        logging.set_verbosity(verbosity)
    for kind in ("unexpected_keys", "missing_keys", "mismatched_keys", "error_msgs"):
        odd = sorted(map(str, info.get(kind) or ()))
        if odd:
            raise NotExportable(
                f"reloaded by {type(model).__name__}, the checkpoint has {len(odd)} {kind.replace('_', ' ')} (first: {odd[0]})"
            )
    model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()
    return LanguageModel(model, tokenizer)


def silent_sites(model: Any, sites: Sequence[str]) -> list[str]:
    """Of the modules that an edit was folded into, those whose bias is not there or all zero."""
    biases = {site: getattr(model.get_submodule(site), "bias", None) for site in sites}
    return [site for site, bias in biases.items() if bias is None or not bool(bias.detach().any())]


def file_hashes(folder: str | Path, *, without: str) -> dict[str, str]:
    """SHA-256 of every file in a folder and below, by relative path, but for the file `without`."""
    root = Path(folder)
    found = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_file() and name != without:
            with path.open("rb") as file:
                found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found
