"""Models to time: random weights of known size, whose logits are as peaked as a trained model's, and words to feed them."""

from __future__ import annotations

import random
from typing import Any

# name: hidden size, layers, heads, vocabulary
SIZES = {
    "tiny": (32, 2, 4, 500),
    "1M": (128, 4, 4, 4096),
    "10M": (320, 7, 5, 4096),
    "50M": (512, 8, 8, 50_000),
    "fixed-4k": (512, 8, 8, 4096),
    "fixed-50k": (512, 8, 8, 50_000),
}
_SCALE = 3.0  # standard deviation of the logits


def build(size: str) -> tuple[Any, Any]:
    """A Llama-like model and a tokenizer of its vocabulary, one token a word."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

    hidden, layers, heads, vocabulary = SIZES[size]
    words = ["<pad>", "<eos>", "<unk>", *(f"w{i}" for i in range(vocabulary - 3))]
    backend = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", eos_token="<eos>", bos_token="<eos>", unk_token="<unk>"
    )
    config = AutoConfig.for_model(
        "llama",
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=hidden * 8 // 3,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=1,
        pad_token_id=0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        # The final norm gives rows of length sqrt(hidden); the factor makes their logits as spread as wanted. The tied embedding
        # is scaled with it, which the layers' own norms undo.
        model.lm_head.weight.mul_(_SCALE / (hidden**0.5 * model.lm_head.weight.std()))
        # No text ends early, so that both arms write the same number of tokens.
        model.lm_head.weight[1] = 0
    return model, tokenizer


def text(rng: random.Random, tokens: int, size: str) -> str:
    """Random words of the vocabulary."""
    vocabulary = SIZES[size][3]
    return " ".join(f"w{rng.randrange(vocabulary - 3)}" for _ in range(tokens))
