"""Hidden states: what the model has computed when it has read a text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from detox.errors import UnsupportedModel
from detox.models.language_model import LanguageModel
from detox.models.reading import Out, Site, chosen_numbers, read_last_tokens


def last_states(lm: LanguageModel, texts: Sequence[str | Sequence[int]], *, batch_size: int | None = None) -> Tensor:
    """The last layer's state (after the final norm) at each text's last token.

    Args:
        lm: the handle; its prefix is put before each text, its edits act.
        texts: a text longer than the model's context is read at its last token with as much before it as fits; token ids
            are taken as they are, without the prefix.
        batch_size: texts at once; None takes as many as make up a fixed number of tokens.

    Returns:
        (texts, hidden) float32, on the CPU; narrower where a family projects the state before its output head (OPT-350M).

    Raises:
        InputError: no texts, a text without tokens, or a state that holds NaN or infinity.
    """
    name = next(name for name, module in lm.model.named_modules() if module is lm.model.base_model)
    site = Site(name, "output", "the last layer after the norm")
    head = lm.model.get_output_embeddings()  # OPT narrows its last state for it
    width = _hidden_size(lm.model) if head is None else int(head.weight.shape[1])
    return read_last_tokens(lm, texts, [site], (width,), batch_size=batch_size)[:, 0]


def residual_states(
    lm: LanguageModel,
    texts: Sequence[str],
    *,
    layers: Sequence[int] | None = None,
    batch_size: int | None = None,
    dtype: torch.dtype | str = torch.float32,
    out: Out = None,
) -> Tensor:
    """The residual stream at each text's last token: what enters the first layer, and what each layer leaves.

    The entries are those of transformers' `output_hidden_states`, but for the last: transformers gives it after the final
    norm, here it is what the last layer leaves, like all others. With the norm: `last_states`. (transformers' Mamba gives
    no embeddings and begins with what its first layer leaves.)

    Args:
        lm: the handle; its prefix is put before each text, its edits act.
        texts: a text longer than the model's context is read at its last token with as much before it as fits.
        layers: entries to read, in this order: 0 is what enters the first layer (embeddings), k what k layers have made of
            it. None reads all. The model runs no farther than the last of them needs.
        batch_size: texts at once; None takes as many as make up a fixed number of tokens.
        dtype: of the result; "own" is the model's.
        out: a path that ends in .npy, or an array of the result's shape; see `detox.models.activations.read_heads`.

    Returns:
        (texts, entries, hidden) on the CPU; entries are layers + 1 where none are chosen.

    Raises:
        UnsupportedModel: a family whose layers are not one list of modules.
        InputError: no texts, a text without tokens, an entry that the model does not have, or NaN or infinity (says where).
    """
    sites = residual_sites(lm.model, layers=layers)
    shape = (_hidden_size(lm.model),)
    return read_last_tokens(lm, texts, sites, shape, batch_size=batch_size, dtype=dtype, out=out)


def residual_sites(model: Any, *, layers: Sequence[int] | None = None) -> list[Site]:
    """Where the residual stream is read: entry 0 enters the first layer, entry k leaves the k-th; None takes all.

    Raises:
        UnsupportedModel: a family whose layers are not one list of modules.
        InputError: an entry that the model does not have.
    """
    names = _layer_names(model)
    return [
        Site(names[0], "input", "what enters the first layer")
        if entry == 0
        else Site(names[entry - 1], "output", f"the residual stream after layer {entry - 1}")
        for entry in chosen_numbers(layers, len(names) + 1, "entry of the residual stream")
    ]


def _hidden_size(model: Any) -> int:
    return int(model.config.get_text_config(decoder=True).hidden_size)


def _layer_names(model: Any) -> list[str]:
    """Names of the decoder layers: the outermost list of as many modules as the configuration has layers."""
    count = model.config.get_text_config(decoder=True).num_hidden_layers
    lists = [n for n, m in model.named_modules() if isinstance(m, nn.ModuleList) and len(m) == count]
    if not lists:
        raise UnsupportedModel(
            f"{type(model).__name__} has no list of {count} layers, so its residual stream cannot be read"
        )
    outermost = min(lists, key=lambda name: name.count("."))
    return [f"{outermost}.{layer}" for layer in range(count)]
