"""Where a family keeps the parts that methods reach for.

Names are paths from the causal-LM module; `{}` is the layer. The projection's own `in_features` decides the width of a head:
`hidden_size // num_heads` and `config.head_dim` are both wrong for some family.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from detox.errors import UnsupportedModel

_LLAMA_LIKE = "model.layers.{}.self_attn.o_proj"

# model_type -> the linear map from concatenated attention heads to the residual stream
ATTENTION_OUTPUT: dict[str, str] = {
    "gpt2": "transformer.h.{}.attn.c_proj",
    "gpt_neox": "gpt_neox.layers.{}.attention.dense",
    "llama": _LLAMA_LIKE,
    "mistral": _LLAMA_LIKE,
    "olmo": _LLAMA_LIKE,
    "olmo2": _LLAMA_LIKE,
    "qwen2": _LLAMA_LIKE,
    "qwen3": _LLAMA_LIKE,
}


@dataclass(frozen=True)
class AttentionOutput:
    """One layer's output projection. Its input is `heads` slices of `head_dim`, side by side, one a query head."""

    name: str
    module: Any
    layer: int
    heads: int
    head_dim: int


def attention_outputs(model: Any) -> list[AttentionOutput]:
    """The attention output projection of every layer, in order.

    Raises:
        UnsupportedModel: a family that is not known, or a model without attention.
    """
    config = model.config
    family = getattr(config, "model_type", type(model).__name__)
    template = ATTENTION_OUTPUT.get(family)
    if template is None:
        ends = ("o_proj", "out_proj", "c_proj", "dense", "wo")
        near = [
            n for n, m in model.named_modules() if n.endswith(ends) and "attn" in n.lower() + type(m).__name__.lower()
        ]
        seen = f"modules that look like one: {near[0]}" if near else "it seems to have no attention"
        raise UnsupportedModel(
            f"no attention output projection known for model type {family!r} ({seen}); known: "
            f"{', '.join(sorted(ATTENTION_OUTPUT))}; add a line to detox.models.architectures.ATTENTION_OUTPUT"
        )
    outputs = []
    for layer in range(config.num_hidden_layers):
        name = template.format(layer)
        module = model.get_submodule(name)
        # GPT-2's Conv1D keeps its weight as (in, out) and has no in_features.
        width = int(module.in_features) if hasattr(module, "in_features") else int(module.weight.shape[0])
        heads = int(config.num_attention_heads)
        if width % heads:
            raise UnsupportedModel(f"{name}: input width {width} is not a multiple of {heads} attention heads")
        outputs.append(AttentionOutput(name, module, layer, heads, width // heads))
    return outputs


def context_length(model: Any) -> int | None:
    """Tokens that the model was built for, or None where its configuration does not say."""
    for key in ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"):
        value = getattr(model.config, key, None)
        if isinstance(value, int) and value > 0:
            return value
    return None
