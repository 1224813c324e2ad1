"""Where a family keeps the parts that methods reach for.

Names are paths from the causal-LM module; `{}` is the layer. The projection's own `in_features` decides the width of a head:
`hidden_size // num_heads` and `config.head_dim` are both wrong for some family. A family that is not in the table is searched
(`detox.models.attention_search`), and whoever knows better says so with `use_attention_output`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from detox.errors import UnsupportedModel
from detox.models.attention_search import linear_widths, search
from detox.models.edits import state_of

_LLAMA_LIKE = "model.layers.{}.self_attn.o_proj"

# model_type -> the linear map from concatenated attention heads to the residual stream
ATTENTION_OUTPUT: dict[str, str] = {
    "bloom": "transformer.h.{}.self_attention.dense",
    "cohere": _LLAMA_LIKE,
    "deepseek_v3": _LLAMA_LIKE,
    "falcon": "transformer.h.{}.self_attention.dense",
    "gemma": _LLAMA_LIKE,
    "gemma2": _LLAMA_LIKE,
    "gemma3_text": _LLAMA_LIKE,
    "glm4": _LLAMA_LIKE,
    "gpt2": "transformer.h.{}.attn.c_proj",
    "gpt_neo": "transformer.h.{}.attn.attention.out_proj",
    "gpt_neox": "gpt_neox.layers.{}.attention.dense",
    "gptj": "transformer.h.{}.attn.out_proj",
    "granite": _LLAMA_LIKE,
    "llama": _LLAMA_LIKE,
    "mistral": _LLAMA_LIKE,
    "mixtral": _LLAMA_LIKE,
    "mpt": "transformer.blocks.{}.attn.out_proj",
    "olmo": _LLAMA_LIKE,
    "olmo2": _LLAMA_LIKE,
    "olmoe": _LLAMA_LIKE,
    "opt": "model.decoder.layers.{}.self_attn.out_proj",
    "phi": "model.layers.{}.self_attn.dense",
    "phi3": _LLAMA_LIKE,
    "qwen2": _LLAMA_LIKE,
    "qwen2_moe": _LLAMA_LIKE,
    "qwen3": _LLAMA_LIKE,
    "qwen3_moe": _LLAMA_LIKE,
    "smollm3": _LLAMA_LIKE,
    "stablelm": _LLAMA_LIKE,
    "starcoder2": _LLAMA_LIKE,
}

_ADVICE = (
    "name it: LanguageModel.from_pretrained(..., attention_output='model.layers.{}.self_attn.o_proj'), or "
    "detox.models.architectures.use_attention_output(model, ...)"
)


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

    Where it is: what `use_attention_output` said, else the table's entry for the family, else what a search finds; a search is
    done once a model.

    Raises:
        UnsupportedModel: a model without attention, or with layers without it; a projection that is not found, is no linear map
            of heads onto the residual stream, says no width (some quantised layers), or is one module in two layers.
    """
    state = state_of(model)
    if state.attention_output is None:
        known = ATTENTION_OUTPUT.get(model.config.model_type, "")
        # A wrapped or multimodal model keeps the family's layers elsewhere.
        state.attention_output = known if known and _has(model, known.format(0)) else _searched(model)
    return _outputs_at(model, state.attention_output)


def use_attention_output(model: Any, path: str) -> None:
    """Say where a model keeps its attention output projection, for everything that reads or shifts heads.

    Args:
        model: a causal-LM module; what is said is kept beside it, and a `twin` is told, other copies are not.
        path: from the causal-LM module, `{}` for the layer, such as "model.layers.{}.self_attn.o_proj".

    Raises:
        UnsupportedModel: no `{}`; a layer without that module; no linear map of heads onto the residual stream.
    """
    if path.count("{}") != 1:
        raise UnsupportedModel(
            f"attention_output={path!r} does not say where the layer's number stands; expected one {{}}, as in "
            "'model.layers.{}.self_attn.o_proj'"
        )
    _outputs_at(model, path)
    state_of(model).attention_output = path


def _outputs_at(model: Any, path: str) -> list[AttentionOutput]:
    layers, heads, hidden = _sizes(model)
    bare = [layer for layer in range(layers) if not _has(model, path.format(layer))]
    if bare:
        raise UnsupportedModel(
            f"{model.config.model_type!r} has no {path.format(bare[0])} (it is missing in {len(bare)} of {layers} layers); "
            f"{_ADVICE}"
        )
    outputs: list[AttentionOutput] = []
    owners: dict[int, str] = {}
    for layer in range(layers):
        name = path.format(layer)
        module = model.get_submodule(name)
        if id(module) in owners:
            raise UnsupportedModel(
                f"{name} is the same module as {owners[id(module)]}; layers that share their attention cannot be told apart"
            )
        owners[id(module)] = name
        widths = linear_widths(module)
        if widths is None:
            raise UnsupportedModel(
                f"{name} is a {type(module).__name__}, which does not say how wide its input is (no in_features): either no "
                f"linear map, or quantised in an unknown way; {_ADVICE}"
            )
        if not heads or widths[0] % heads or widths[1] != hidden:
            raise UnsupportedModel(
                f"{name} maps {widths[0]} inputs to {widths[1]} outputs; expected a multiple of {heads} attention heads, to "
                f"{hidden}; {_ADVICE}"
            )
        outputs.append(AttentionOutput(name, module, layer, heads, widths[0] // heads))
    return outputs


def _searched(model: Any) -> str:
    layers, heads, hidden = _sizes(model)
    try:
        return search(model, layers=layers, heads=heads, hidden=hidden)
    except UnsupportedModel as reason:
        raise UnsupportedModel(
            f"no attention output projection found for model type {model.config.model_type!r}: {reason}. If there is one, "
            f"{_ADVICE}; families known: {', '.join(sorted(ATTENTION_OUTPUT))}"
        ) from None


def _sizes(model: Any) -> tuple[int, int, int]:
    """Decoder layers, query heads (0: not said), width of the residual stream; of a multimodal model, its language model's."""
    config = model.config.get_text_config(decoder=True)
    layers, heads, hidden = (
        getattr(config, name, None) for name in ("num_hidden_layers", "num_attention_heads", "hidden_size")
    )
    heads = 0 if heads is None else heads
    if not (isinstance(layers, int) and isinstance(heads, int) and isinstance(hidden, int)):
        raise UnsupportedModel(
            f"the configuration of {model.config.model_type!r} says {layers} layers, {heads} heads and hidden size {hidden}; "
            "expected one number each, the same in every layer"
        )
    return layers, heads, hidden


def _has(model: Any, name: str) -> bool:
    try:
        model.get_submodule(name)
    except AttributeError:
        return False
    return True


def context_length(model: Any) -> int | None:
    """Tokens that the model was built for, or None where its configuration does not say."""
    config = model.config.get_text_config(decoder=True)
    for key in ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"):
        value = getattr(config, key, None)
        if isinstance(value, int) and value > 0:
            return value
    return None
