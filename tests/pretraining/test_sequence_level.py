"""Mixtures of sequences: SLUNG's injected sequences, which take the places of as many clean ones."""

from collections import Counter
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detox.data.records import Document, Span
from detox.errors import InputError, UnknownName
from detox.pretraining import Mixture, Source, apply_arm, train_tokenizer

LENGTH = 8


@cache
def tokenizer():
    return train_tokenizer(["abcdefgh"], 258)


def documents(letter, count, *, risky=False):
    rng = np.random.default_rng(ord(letter))
    texts = [chr(65 + i % 26) + letter * int(rng.integers(0, 20)) for i in range(count)]
    return [
        Document(id=f"{letter}{i}", text=text, spans=(Span(0, 1),) if risky else ()) for i, text in enumerate(texts)
    ]


def mixture(share, *, hold="total", tokens=None, repeat=False, seed=0, count=80):
    toxic = documents("t", count, risky=True)
    return Mixture(
        sources=(
            Source(name="clean", documents=documents("p", 120)),
            Source(name="toxic", documents=toxic, share=share, repeat=repeat),
        ),
        level="sequence",
        hold=hold,
        tokens=tokens,
        seed=seed,
    )


def rows(packed):
    return [tuple(row) for row in packed.tokens.tolist()]


def base_rows(seed=0):
    return rows(
        Mixture(sources=mixture(0.0).sources[:1], level="sequence", seed=seed).pack(tokenizer(), sequence_length=LENGTH)
    )


@given(share=st.floats(0, 0.3), hold=st.sampled_from(["clean", "total"]), tokens=st.sampled_from([None, 400, 801]))
@settings(max_examples=40, deadline=None)
def test_shares_are_whole_numbers_of_sequences(share, hold, tokens):
    packed = mixture(share, hold=hold, tokens=tokens).pack(tokenizer(), sequence_length=LENGTH)
    held = len(base_rows()) if tokens is None else tokens // LENGTH
    clean, toxic = (source.tokens // LENGTH for source in packed.sources)
    assert [source.tokens % LENGTH for source in packed.sources] == [0, 0]
    total = held if hold == "total" else held / (1 - share)
    assert toxic == round(share * total)
    assert clean == (held - toxic if hold == "total" else held)
    assert len(packed) == clean + toxic
    assert packed.sources[1].share == toxic / len(packed)
    assert packed.sources[1].risky_tokens == packed.risk.sum() == packed.sources[1].kinds.get("toxic", 0)


def test_injected_sequences_take_the_places_of_clean_ones_and_no_other_moves():
    clean = base_rows()
    small = rows(mixture(0.1).pack(tokenizer(), sequence_length=LENGTH))
    large = rows(mixture(0.3).pack(tokenizer(), sequence_length=LENGTH))
    assert len(small) == len(large) == len(clean)
    changed = [index for index, (a, b) in enumerate(zip(clean, small, strict=True)) if a != b]
    more = [index for index, (a, b) in enumerate(zip(clean, large, strict=True)) if a != b]
    assert len(changed) == round(0.1 * len(clean))
    assert len(more) == round(0.3 * len(clean))
    assert all(small[index] == large[index] for index in changed)  # a larger dose holds the smaller one
    assert changed != list(range(len(changed)))  # and they are all over the data
    assert rows(mixture(0.1, seed=1).pack(tokenizer(), sequence_length=LENGTH)) != small


def test_sequences_are_those_of_one_source_each():
    packed = mixture(0.3).pack(tokenizer(), sequence_length=LENGTH)
    letters = Counter()
    for row in packed.tokens.tolist():
        text = tokenizer().decode(row).replace("<|endoftext|>", "")
        letters["".join(sorted({c for c in text if c in "pt"}))] += 1
    assert not letters.keys() - {"p", "t", ""}
    assert letters["p"] > 20 < letters["t"]


def test_the_filtered_arm_loses_sequences_and_the_total_is_filled_up():
    full = mixture(0.3).pack(tokenizer(), sequence_length=LENGTH)
    filtered = apply_arm("filtered", mixture(0.3)).pack(tokenizer(), sequence_length=LENGTH)
    assert len(filtered) == len(full)
    assert not filtered.risk.any()
    assert filtered.sources[1].tokens < full.sources[1].tokens
    assert filtered.sources[0].tokens > full.sources[0].tokens
    assert filtered.sources[1].deleted_tokens > 0
    added = apply_arm("filtered", mixture(0.3, hold="clean")).pack(tokenizer(), sequence_length=LENGTH)
    whole = mixture(0.3, hold="clean").pack(tokenizer(), sequence_length=LENGTH)
    assert added.sources[0].tokens == whole.sources[0].tokens
    assert len(added) < len(whole)


def test_too_few_sequences_are_counted():
    with pytest.raises(
        InputError, match=r"'toxic' has \d+ sequences of 8 tokens .* \d+ \(\d+ tokens\) are missing.*repeat"
    ):
        mixture(0.5, count=10).pack(tokenizer(), sequence_length=LENGTH)
    realised = mixture(0.5, count=10, repeat=True).pack(tokenizer(), sequence_length=LENGTH).sources[1]
    assert realised.share == pytest.approx(0.5, abs=0.01)
    assert realised.passes > 1
    assert realised.documents > 10
    with pytest.raises(UnknownName, match="did you mean 'sequence'"):
        Mixture(sources=mixture(0.1).sources, level="sequences")
    with pytest.raises(InputError, match="no whole sequence"):
        mixture(0.1).pack(tokenizer(), sequence_length=100_000)
