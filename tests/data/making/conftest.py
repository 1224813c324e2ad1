"""A model whose tone is known, scorers that know its words, an embedder that needs no weights."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from detox.data.making import Filters, Instructions, Seed
from detox.models import Sampling
from detox.scorers import Score, ScorerCard

# The planted model continues in the tone of the first word after "says".
INSTRUCTIONS = Instructions(
    safe="{sentence} says kind1", toxic="{sentence} says rude1", closing="", frame="{instruction}"
)
SAMPLING = Sampling(max_new_tokens=14, temperature=1.0, num_return_sequences=4, batch_size=8)


class ShareOfWords:
    """The share of words that begin with "rude", or 1 where there is one."""

    def __init__(self, name="share", any_counts=False):
        self.any_counts = any_counts
        self.card = ScorerCard(
            name=name, revision="1", trained_on=(f"words of {name}",), max_length=None, beyond="read"
        )

    def score(self, texts):
        return [Score(self._score(text.split())) for text in texts]

    def _score(self, words):
        rude = sum(word.startswith("rude") for word in words)
        return float(rude > 0) if self.any_counts else rude / len(words)


class BagOfWords:
    """Words, hashed into a few dimensions."""

    def identity(self):
        return {"name": "bag of words"}

    def embed(self, texts):
        rows = np.full((len(texts), 64), 1e-3, dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in text.casefold().split():
                row[hashlib.sha256(word.encode()).digest()[0] % 64] += 1
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def loose_filters(**settings):
    """Filters that let most of what the planted model writes pass."""
    chosen = {"min_similarity": -1.0, "min_length": 0.1, "max_length": 10.0} | settings
    scorers = (ShareOfWords(), ShareOfWords("any", any_counts=True))
    return Filters(**({"scorers": scorers, "embedder": BagOfWords()} | chosen))


@pytest.fixture(scope="session")
def writing(planted):
    """The planted model, with two of its words as ends of a text."""
    from transformers import GenerationConfig

    from detox.models import LanguageModel
    from detox.models.twins import twin

    model = twin(planted.lm.model)
    words = planted.lm.tokenizer.convert_tokens_to_ids(["<eos>", "kind0", "rude0"])
    model.generation_config = GenerationConfig(eos_token_id=words, pad_token_id=0)
    return LanguageModel(model, planted.lm.tokenizer)


@pytest.fixture(scope="session")
def seeds():
    return [Seed(f"s{number}", f"topic{number} topic{(number * 5 + 1) % 12} kind{number % 8}") for number in range(12)]
