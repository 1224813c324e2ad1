"""A tiny model with a planted toxic direction, of any known family: random weights, then a few steps on words with a known tone.

It exists so that the direction of a method can be tested where the truth is known. Nothing is downloaded; building one takes a
second or two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from detox.data.contrasts import Contrast
from detox.errors import InputError, require_known
from detox.models import LanguageModel

_TOPICS = [f"topic{i}" for i in range(12)]
_SAFE = [f"kind{i}" for i in range(8)]
_TOXIC = [f"rude{i}" for i in range(8)]
_WORDS = ["<pad>", "<eos>", "<unk>", "says", *_TOPICS, *_SAFE, *_TOXIC]
_LENGTH = 14

_GROUPED: dict[str, Any] = {"num_key_value_heads": 2}
_WIDE: dict[str, Any] = {**_GROUPED, "head_dim": 12}  # 4 heads of 12 are not the hidden size
_EXPERTS: dict[str, Any] = {"num_experts_per_tok": 2, "moe_intermediate_size": 16}
_WINDOW: dict[str, Any] = {"sliding_window": 4}  # shorter than the texts, so that it acts
_ALTERNATING: dict[str, Any] = {**_WINDOW, "layer_types": ["sliding_attention", "full_attention"]}
# What a tiny model of each family sets beside the common sizes: what makes the family different from others must act.
_TINY: dict[str, dict[str, Any]] = {
    "bloom": {},
    "cohere": {**_WIDE, "logit_scale": 0.25},
    "deepseek_v3": {
        **_EXPERTS, "n_routed_experts": 4, "n_group": 2, "topk_group": 1, "first_k_dense_replace": 1, "num_key_value_heads": 4,
        "q_lora_rank": 8, "kv_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 8, "v_head_dim": 10,
    },
    "falcon": {},  # one key-value head
    "falcon:alibi": {"alibi": True, "multi_query": False, "parallel_attn": False, "bias": True},
    "falcon:new": {"new_decoder_architecture": True, "num_kv_heads": 2},
    "gemma": _WIDE,
    "gemma2": {**_WIDE, **_WINDOW, "query_pre_attn_scalar": 12},
    "gemma3_text": {**_WIDE, **_ALTERNATING, "query_pre_attn_scalar": 12},
    "glm4": _WIDE,
    "gpt2": {},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": 4},
    "gpt_neox": {},
    "gptj": {"rotary_dim": 4},
    "granite": {**_WIDE, "attention_multiplier": 0.3, "residual_multiplier": 0.8, "logits_scaling": 2.0},
    "llama": _WIDE,
    "mistral": {**_WIDE, **_WINDOW},
    "mixtral": {**_WIDE, **_WINDOW, "num_local_experts": 4, "num_experts_per_tok": 2, "intermediate_size": 16},
    "mpt": {"expansion_ratio": 2},
    "olmo": _WIDE,
    "olmo2": _WIDE,
    "olmoe": {**_GROUPED, "num_experts": 4, "num_experts_per_tok": 2, "intermediate_size": 16},
    "opt": {"ffn_dim": 64},
    "opt:projected": {"ffn_dim": 64, "word_embed_proj_dim": 16, "do_layer_norm_before": False},  # as OPT-350M
    "phi": _WIDE,
    "phi3": {**_WIDE, "original_max_position_embeddings": 64},
    "qwen2": _WIDE,
    "qwen2_moe": {**_WIDE, **_EXPERTS, "num_experts": 4, "shared_expert_intermediate_size": 16},
    "qwen3": _WIDE,
    "qwen3_moe": {**_WIDE, **_EXPERTS, "num_experts": 4},
    "smollm3": {**_WIDE, **_ALTERNATING, "use_sliding_window": True, "no_rope_layer_interval": 2},
    "stablelm": _GROUPED,
    "starcoder2": {**_WIDE, **_WINDOW},
}  # fmt: skip
# transformers model types, and further layouts of one after a colon.
FAMILIES: tuple[str, ...] = tuple(sorted(_TINY))


@dataclass(frozen=True)
class Planted:
    """The model and contrasts to fit it on and to judge it by."""

    lm: LanguageModel
    contrasts: list[Contrast]
    heldout: list[Contrast]


def tiny_config(family: str, vocab_size: int) -> Any:
    """A configuration of a few ten thousand weights: fewer key-value heads than heads and an odd head width where it allows.

    Args:
        family: one of `FAMILIES`.
        vocab_size: tokens; 0 is padding, 1 ends a text.

    Raises:
        UnknownName: another family.
    """
    from transformers import AutoConfig

    require_known("model family", family, _TINY)
    ends = {"vocab_size": vocab_size, "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0}
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    context = {"max_seq_len" if family == "mpt" else "max_position_embeddings": 64}
    settings = {"tie_word_embeddings": False, **sizes, **context, **ends, **_TINY[family]}
    return AutoConfig.for_model(family.partition(":")[0], **settings)


def word_tokenizer() -> Any:
    """One token a word, no BOS, blanks as the only separator."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(WordLevel({word: i for i, word in enumerate(_WORDS)}, unk_token="<unk>"))
    backend.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")


def plant(family: str = "llama", *, seed: int = 0, steps: int = 80, dtype: str = "float32") -> Planted:
    """Build the model: texts whose first tone word sets the tone of the rest, so that tone is what it must know.

    Args:
        family: one of `FAMILIES`.
        seed: of weights and texts.
        steps: of training, which is in float32.
        dtype: of the weights afterwards.

    Raises:
        UnknownName: another family.
        InputError: no dtype of that name.
    """
    from transformers import AutoModelForCausalLM

    if not isinstance(getattr(torch, dtype, None), torch.dtype):
        raise InputError(f"unknown dtype {dtype!r}; expected one such as float32, bfloat16, float16")
    tokenizer = word_tokenizer()
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):  # all of it is on the CPU; torch.manual_seed would seed the GPUs as well
        torch.default_generator.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(tiny_config(family, len(_WORDS)))
        model.train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
        for _ in range(steps):
            batch = tokenizer([" ".join(_words(rng)) for _ in range(32)])["input_ids"]
            ids = torch.tensor(batch)
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
            loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    model.to(getattr(torch, dtype))
    model.eval()
    model.requires_grad_(True)
    pairs = [_contrast(rng, index) for index in range(64)]
    return Planted(LanguageModel(model, tokenizer), pairs[:48], pairs[48:])


def _words(rng: np.random.Generator, toxic: bool | None = None) -> list[str]:
    toxic = bool(rng.random() < 0.5) if toxic is None else toxic
    tone = _TOXIC if toxic else _SAFE
    opening = [_TOPICS[i] for i in rng.integers(len(_TOPICS), size=3)]
    return [*opening, "says", *(tone[i] for i in rng.integers(len(tone), size=_LENGTH - 4))]


def _contrast(rng: np.random.Generator, index: int) -> Contrast:
    opening = [_TOPICS[i] for i in rng.integers(len(_TOPICS), size=3)]
    safe = [" " + " ".join(_words(rng, toxic=False)[4:9]) for _ in range(2)]
    toxic = [" " + " ".join(_words(rng, toxic=True)[4:9]) for _ in range(2)]
    return Contrast(id=f"planted-{index}", prompt=" ".join([*opening, "says"]), safe=tuple(safe), toxic=tuple(toxic))
