"""The same weights under another class, where that class computes the same function and has the bias that the own class lacks.

Mistral without a sliding window, and Qwen2 without one, are Llama: the same norms, rotary embedding, attention and MLP. Llama with
attention_bias=True has biases at q, k, v (Qwen2's own, or zeros) and at the output projection.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor, nn

from detox.errors import NotExportable
from detox.models.folding import ALTERNATIVES, folded_bias, skeleton

# Configuration entries that Llama does not have, by class: what they must be for Llama to compute the same, and what to say if not.
_WITHOUT_EFFECT: dict[str, dict[str, tuple[Callable[[Any], bool], str]]] = {
    "MistralForCausalLM": {
        "sliding_window": (lambda value: value is None, "None (Llama sees the whole text)"),
    },
    "Qwen2ForCausalLM": {
        "use_sliding_window": (lambda value: not value, "False (Llama sees the whole text)"),
        "sliding_window": (lambda value: value is None, "None (Llama sees the whole text)"),
        "max_window_layers": (lambda value: True, ""),  # read only where a sliding window is used
        "layer_types": (lambda value: set(value or ()) <= {"full_attention"}, "full_attention in every layer"),
    },
}


def llama_config(model: Any) -> Any:
    """The LlamaConfig under which LlamaForCausalLM computes what `model` computes, with biases at the attention projections.

    Raises:
        NotExportable: a class that is no Llama under another name, or a configuration under which it is not; names the entry.
    """
    from transformers import LlamaConfig

    family, cls, config = model.config.model_type, type(model).__name__, model.config
    harmless = _WITHOUT_EFFECT.get(cls)
    if harmless is None:
        raise NotExportable(
            f"{cls} ({family}) builds its projection without a bias, whatever its configuration says, so the shift has no place in "
            f"a plain checkpoint; {ALTERNATIVES}"
        )
    declared = {field.name for field in fields(type(config))}
    llamas = {field.name for field in fields(LlamaConfig)}
    for name in sorted(declared - llamas):
        good, expected = harmless.get(name, (lambda value: False, "no such entry: Llama does not have it"))
        if not good(getattr(config, name)):
            raise NotExportable(
                f"{cls} has no bias at its projection, and is not Llama, which has one: {name} is {getattr(config, name)!r}; "
                f"expected {expected}. {ALTERNATIVES[0].upper()}{ALTERNATIVES[1:]}"
            )
    values = {name: copy.deepcopy(getattr(config, name)) for name in declared & llamas}
    values["head_dim"] = getattr(config, "head_dim", None)  # both classes read it even where it is not declared
    # Entries of Llama's that the own class does not read, though its configuration may hold them.
    values.update(attention_bias=True, mlp_bias=False, pretraining_tp=1)
    return LlamaConfig(**{name: value for name, value in values.items() if name not in _OF_THE_FAMILY})


# Class attributes of a configuration that are fields as well, and say which family it is of.
_OF_THE_FAMILY = {"architectures", "transformers_version", "model_type"}


def as_llama(model: Any, shifts: Mapping[str, Tensor]) -> Any:
    """A LlamaForCausalLM of `model`'s own tensors, with the shifts folded into the biases of its output projections.

    Args:
        model: a Mistral or Qwen2 model; left as it is.
        shifts: module name -> (in_features,).

    Raises:
        NotExportable: see `llama_config`; or tensors that do not fit.
    """
    from transformers import LlamaForCausalLM

    result = skeleton(LlamaForCausalLM, llama_config(model))
    tensors: dict[str, Tensor] = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    wanted = {name: tensor.shape for name, tensor in result.state_dict().items()}
    reference = next(model.parameters())
    for name, shape in wanted.items():
        if name not in tensors and name.endswith("_proj.bias"):
            tensors[name] = torch.zeros(shape, dtype=reference.dtype, device=reference.device)
    for site, shift in shifts.items():
        tensors[f"{site}.bias"] = folded_bias(model.get_submodule(site), shift)
    odd = sorted(name for name in wanted.keys() ^ tensors.keys())
    odd += sorted(name for name in wanted.keys() & tensors.keys() if wanted[name] != tensors[name].shape)
    if odd:
        raise NotExportable(f"{type(model).__name__} does not fit LlamaForCausalLM at {odd[0]}; {ALTERNATIVES}")
    result.load_state_dict(tensors, assign=True)
    result.tie_weights()
    result.generation_config = copy.deepcopy(model.generation_config)
    result.config.dtype = model.config.dtype
    for parameter in result.parameters():
        assert isinstance(parameter, nn.Parameter)
        parameter.requires_grad_(False)
    return result.eval()
