"""What a run costs: floating-point operations, GPU-hours, memory, disk; and how much of the hardware a run uses."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from detox.errors import InputError, UnknownName
from detox.pretraining.architecture import ARCHITECTURES, parameter_counts, published_config, scratch_config
from detox.pretraining.recipe import PretrainingRecipe

PEAK_FLOPS = {
    "B200": 2250e12,
    "GH200": 989e12,
    "H200": 989e12,
    "H100 NVL": 835e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "A800": 312e12,
    "L40S": 362e12,
    "L40": 181e12,
    "RTX A6000": 155e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
    "A10": 125e12,
    "L4": 121e12,
}
"""Dense bf16 operations a second, by the makers' data sheets; found as words of a device's name, in this order."""

_GIB = 2**30
_STATES = 16  # bytes a parameter: float32 weights, gradients and two moments of AdamW
_CHECKPOINT = 12  # weights and two moments
_KEPT_CHECKPOINTS = 3  # two, and the one being written


def peak_flops(device: str) -> float | None:
    """Dense bf16 peak of a device in operations a second, by its name; None where it is not known."""
    return next((peak for name, peak in PEAK_FLOPS.items() if re.search(rf"\b{name}\b", device, re.IGNORECASE)), None)


def flops_per_token(config: Any, multiplied: int, sequence_length: int) -> float:
    """Operations of forward and backward pass for one token: 6 N + 12 L d T.

    Chowdhery et al. 2022 (PaLM, arXiv 2204.02311), appendix B: N parameters that multiply the token, L layers, d the width
    of all heads, T tokens a sequence; causal attention is counted in full, and what is computed twice counts once.

    Args:
        config: of the model.
        multiplied: N, as `parameter_counts` gives it.
        sequence_length: T.
    """
    width = getattr(config, "head_dim", None)
    heads = config.num_attention_heads * width if width else config.hidden_size
    return float(6 * multiplied + 12 * config.num_hidden_layers * heads * sequence_length)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a recipe needs. Computed, not measured; memory is an estimate.

    Attributes:
        parameters: of the model.
        tokens: read in all steps.
        steps: optimiser steps.
        flops: operations of all steps; see `flops_per_token`.
        gpu: the hardware counted on; a name of `PEAK_FLOPS`.
        gpus: how many.
        mfu: model FLOPs utilisation counted on, in (0, 1].
        gpu_hours: flops / (peak x mfu), in hours.
        hours: gpu_hours / gpus.
        memory_gib: on each GPU: states of AdamW shared out by FSDP or ZeRO-3, activations, logits.
        disk_gib: checkpoints, the model, and one pass of the data where it is stored.
    """

    parameters: int
    tokens: int
    steps: int
    flops: float
    gpu: str
    gpus: int
    mfu: float
    gpu_hours: float
    hours: float
    memory_gib: float
    disk_gib: float

    def line(self) -> str:
        """All of it in one line."""
        return (
            f"{self.parameters / 1e6:,.1f} M parameters, {self.tokens / 1e9:.3g} B tokens in {self.steps:,} steps, "
            f"{self.flops:.3g} FLOPs = {self.gpu_hours:.3g} {self.gpu} GPU-hours at MFU {self.mfu:g} "
            f"({self.hours:.3g} h on {self.gpus}), about {self.memory_gib:.3g} GiB a GPU, {self.disk_gib:.3g} GiB of disk"
        )


def cost(
    recipe: PretrainingRecipe,
    *,
    vocabulary: int | None = None,
    gpu: str = "H100",
    gpus: int = 8,
    mfu: float = 0.4,
    peak: float | None = None,
) -> Cost:
    """What a recipe needs on a hardware, sharded over all GPUs; no weights are loaded.

    Args:
        recipe: how to train.
        vocabulary: tokens of the tokenizer; needed where neither an architecture nor a checkpoint says it.
        gpu: a name of `PEAK_FLOPS`, or any name with `peak`.
        gpus: how many.
        mfu: model FLOPs utilisation to count on, in (0, 1].
        peak: operations a second of one; by default the table's.

    Raises:
        UnknownName: no such GPU, and no peak.
        InputError: a number out of range, no vocabulary, or a batch that the GPUs cannot share.
    """
    known = peak if peak is not None else peak_flops(gpu)
    if known is None:
        raise UnknownName("gpu", gpu, PEAK_FLOPS)
    if gpus < 1 or not 0 < mfu <= 1 or not known > 0:
        raise InputError(f"gpus is {gpus}, mfu {mfu}, peak {known}; expected gpus from 1, mfu in (0, 1], peak above 0")
    config = _config(recipe, vocabulary)
    total, multiplied = parameter_counts(config)
    pieces = recipe.gradient_accumulation_steps * gpus
    if recipe.batch_size % pieces:
        raise InputError(f"batch_size {recipe.batch_size} is no multiple of accumulation x GPUs, {pieces}; change one")
    flops = flops_per_token(config, multiplied, recipe.sequence_length) * recipe.tokens
    hours = flops / (known * mfu) / 3600
    micro = recipe.batch_size // pieces * recipe.sequence_length  # tokens one GPU computes at a time
    # Korthikanti et al. 2022 (arXiv 2205.05198), eq. 2 without the attention matrix: 34 bytes a token, layer and width;
    # with checkpoints a layer's input is kept, and one layer is computed again at a time.
    layers, width = config.num_hidden_layers, config.hidden_size
    kept = 2 * layers + 34 if recipe.gradient_checkpointing else 34 * layers
    logits = 10 * config.vocab_size  # bytes a token: in bf16, and in float32 with its gradient
    memory = _STATES * total / gpus + micro * (kept * width + logits)
    disk = total * (_CHECKPOINT * _KEPT_CHECKPOINTS + 4) + recipe.tokens * 5
    return Cost(
        parameters=total,
        tokens=recipe.tokens,
        steps=recipe.steps,
        flops=flops,
        gpu=gpu,
        gpus=gpus,
        mfu=mfu,
        gpu_hours=hours,
        hours=hours / gpus,
        memory_gib=memory / _GIB,
        disk_gib=disk / _GIB,
    )


def cost_line(recipe: PretrainingRecipe, **options: Any) -> str:
    """`cost` as one line; takes what `cost` takes."""
    return cost(recipe, **options).line()


def disk_bytes(parameters: int) -> int:
    """What checkpoints and the model take while a run writes them."""
    return parameters * (_CHECKPOINT * _KEPT_CHECKPOINTS + 4)


def _config(recipe: PretrainingRecipe, vocabulary: int | None) -> Any:
    if recipe.continue_from is not None:
        # A checkpoint's shape is the same at every revision, and that of a family that ships needs no hub.
        known = recipe.continue_from.rpartition("/")[2].lower().removesuffix("-hf")
        return published_config(known if known in ARCHITECTURES else recipe.continue_from)
    config = scratch_config(recipe)
    if recipe.architecture is None:
        if vocabulary is None:
            raise InputError("the vocabulary's size is not known without a tokenizer; give vocabulary")
        config.vocab_size = vocabulary
    return config
