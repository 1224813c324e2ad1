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
from detox.errors import UnknownName
from detox.models import LanguageModel
from detox.models.architectures import ATTENTION_OUTPUT

_TOPICS = [f"topic{i}" for i in range(12)]
_SAFE = [f"kind{i}" for i in range(8)]
_TOXIC = [f"rude{i}" for i in range(8)]
_WORDS = ["<pad>", "<eos>", "<unk>", "says", *_TOPICS, *_SAFE, *_TOXIC]
_LENGTH = 14


@dataclass(frozen=True)
class Planted:
    """The model and contrasts to fit it on and to judge it by."""

    lm: LanguageModel
    contrasts: list[Contrast]
    heldout: list[Contrast]


def tiny_config(family: str, vocab_size: int) -> Any:
    """A configuration of a few thousand weights, with fewer key-value heads than heads and an odd head width where it allows.

    Raises:
        UnknownName: a family without a known attention output projection.
    """
    from transformers import AutoConfig

    if family not in ATTENTION_OUTPUT:
        raise UnknownName("model family", family, ATTENTION_OUTPUT)
    ends = {"vocab_size": vocab_size, "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0}
    if family == "gpt2":
        return AutoConfig.for_model("gpt2", n_embd=32, n_layer=2, n_head=4, n_positions=64, **ends)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    if family == "gpt_neox":
        return AutoConfig.for_model("gpt_neox", max_position_embeddings=64, **sizes, **ends)
    config = AutoConfig.for_model(
        family, num_key_value_heads=2, max_position_embeddings=64, tie_word_embeddings=False, **sizes, **ends
    )
    if "head_dim" in config.to_dict():
        config.head_dim = 12  # not hidden_size / num_attention_heads
    return config


def word_tokenizer() -> Any:
    """One token a word, no BOS, blanks as the only separator."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(WordLevel({word: i for i, word in enumerate(_WORDS)}, unk_token="<unk>"))
    backend.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")


def plant(family: str = "llama", *, seed: int = 0, steps: int = 80) -> Planted:
    """Build the model: texts whose first tone word sets the tone of the rest, so that tone is what it must know.

    Args:
        family: transformers model type.
        seed: of weights and texts.
        steps: of training.
    """
    from transformers import AutoModelForCausalLM

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
