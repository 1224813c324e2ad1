"""A second tree of modules over the same weights: what is done to it, a Trainer's patches and hooks included, is not done to the model."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

from detox.models.adapters import merge_adapters
from detox.models.edits import state_of


def twin(model: Any, *, own_weights: bool = False) -> Any:
    """A copy of `model` that can be trained on without a trace on the model.

    Configuration, flags, hooks and forward methods are the copy's own. So are its parameters as objects (whether they are trained,
    their gradients), while the numbers in them are the model's, unless `own_weights`. Adapters that are on are merged into weights
    of the copy's own, so that what is trained starts from what the handle computes.

    Args:
        model: a transformers model; edits that are installed on it act in the copy, too.
        own_weights: the numbers are copied as well: for training that changes them.
    """
    shared: dict[int, Any] = {}
    if not own_weights:
        for parameter in model.parameters():
            # Subclasses (quantized weights) carry more than numbers and are never trained: they are taken as they are.
            plain = type(parameter) is nn.Parameter
            shared[id(parameter)] = nn.Parameter(parameter.data, requires_grad=True) if plain else parameter
        for buffer in model.buffers():
            shared[id(buffer)] = buffer.detach()
    result = copy.deepcopy(model, shared)
    state_of(result).attention_output = state_of(model).attention_output
    merge_adapters(result)
    for parameter in result.parameters():
        parameter.grad = None
        if own_weights and parameter.is_floating_point():
            parameter.requires_grad_(True)
    return result
