from collections import Counter
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detox.data.records import Document, Span
from detox.errors import InputError, UnknownName
from detox.pretraining import Mixture, Source, train_tokenizer

LENGTH = 16


@cache
def tokenizer():
    return train_tokenizer(["abcdefgh"], 258)  # one token a byte


def documents(letter, count, length=20, risky=0):
    """Texts of one letter, so that each token says where it came from; numbered by a capital so that they differ."""
    return [
        Document(
            id=f"{letter}{i}",
            text=chr(65 + i % 26) + letter * (length - 1),
            spans=(Span(1, 1 + risky),) if risky else (),
        )
        for i in range(count)
    ]


def letters(packed):
    return Counter(tokenizer().convert_ids_to_tokens(packed.tokens.reshape(-1).tolist()))


@given(
    share=st.floats(0.0, 0.6),
    second=st.floats(0.0, 0.3),
    hold=st.sampled_from(["clean", "total"]),
    tokens=st.sampled_from([None, 700, 937]),
    seed=st.integers(0, 5),
)
@settings(max_examples=40, deadline=None)
def test_shares_are_exact_to_within_one_sequence(share, second, hold, tokens, seed):
    mixture = Mixture(
        sources=(
            Source(name="prose", documents=documents("p", 40)),
            Source(name="talk", documents=documents("q", 13, length=7)),
            Source(name="toxic", documents=documents("t", 200, risky=5), share=share),
            Source(name="more", documents=documents("u", 100, length=11, risky=2), share=second),
        ),
        hold=hold,
        tokens=tokens,
        seed=seed,
    )
    packed = mixture.pack(tokenizer(), sequence_length=LENGTH)
    held = tokens or 40 * 21 + 13 * 8
    total = held / (1 - share - second) if hold == "clean" else held
    assert abs(packed.tokens.size - total) <= LENGTH + 1
    realised = {source.name: source for source in packed.sources}
    for name, wanted in (("toxic", share), ("more", second)):
        assert abs(realised[name].tokens - wanted * total) <= LENGTH + 1
        assert realised[name].share == pytest.approx(realised[name].tokens / packed.tokens.size)
        assert realised[name].requested_share == wanted
    clean = realised["prose"].tokens + realised["talk"].tokens
    assert abs(clean - (held if hold == "clean" else (1 - share - second) * held)) <= LENGTH + 2
    # What is written is what was done: counted again by letters and by risk.
    found = letters(packed)
    for name, letter in (("prose", "p"), ("talk", "q"), ("toxic", "t"), ("more", "u")):
        assert realised[name].tokens * 0.75 - 3 <= found[letter] <= realised[name].tokens
        assert realised[name].passes <= 1
    assert sum(source.tokens for source in packed.sources) == packed.tokens.size
    assert sum(source.risky_tokens for source in packed.sources) == packed.risk.sum()
    assert realised["prose"].risky_tokens == realised["talk"].risky_tokens == 0
    named = np.asarray(tokenizer().convert_ids_to_tokens(packed.tokens.reshape(-1).tolist()))
    assert set(named[packed.risk.reshape(-1)]) <= {"t", "u"}


def toxic_ids(share, seed=0, others=()):
    """Which toxic documents are taken, by their first letters and lengths."""
    mixture = Mixture(
        sources=(
            Source(name="clean", documents=documents("p", 60)),
            *others,
            Source(name="toxic", documents=documents("t", 20), share=share),
        ),
        seed=seed,
    )
    stream = tokenizer().decode(mixture.pack(tokenizer(), sequence_length=LENGTH).tokens.reshape(-1).tolist())
    return {text[0] for text in stream.split("<|endoftext|>") if text[1:] == "t" * 19}


def test_a_larger_share_contains_the_smaller_one():
    small, large = toxic_ids(0.05), toxic_ids(0.2)
    assert len(small) >= 2
    assert small < large
    assert toxic_ids(0.05, seed=1) != small
    assert toxic_ids(0.05, others=(Source(name="talk", documents=documents("q", 1)),)) >= small


def test_same_seed_same_data():
    def digest(seed):
        sources = (
            Source(name="clean", documents=documents("p", 30)),
            Source(name="toxic", documents=documents("t", 30), share=0.3),
        )
        return Mixture(sources=sources, seed=seed).pack(tokenizer(), sequence_length=LENGTH).digest

    assert digest(0) == digest(0)
    assert digest(0) != digest(1)


def test_share_zero_is_the_base_alone():
    sources = (
        Source(name="clean", documents=documents("p", 30)),
        Source(name="toxic", documents=documents("t", 30), share=0.0),
    )
    packed = Mixture(sources=sources).pack(tokenizer(), sequence_length=LENGTH)
    assert letters(packed)["t"] == 0
    assert packed.sources[1].documents == 0


def test_too_few_tokens_says_how_many_are_missing_and_repeats_only_if_asked():
    def mixture(repeat):
        clean, toxic = documents("p", 40), documents("t", 3)
        return Mixture(
            sources=(
                Source(name="clean", documents=clean),
                Source(name="toxic", documents=toxic, share=0.2, repeat=repeat),
            )
        )

    # 40 * 21 = 840 clean tokens; a share of .2 needs 210; there are 63.
    with pytest.raises(InputError, match=r"'toxic' has 63 tokens .* needs 210 of it: 147 are missing.*repeat=True"):
        mixture(False).pack(tokenizer(), sequence_length=LENGTH)
    realised = mixture(True).pack(tokenizer(), sequence_length=LENGTH).sources[1]
    assert realised.passes == pytest.approx(210 / 63)
    assert realised.documents == 10
    assert abs(realised.tokens - 210) <= LENGTH
    with pytest.raises(InputError, match="160 are missing"):
        Mixture(sources=(Source(name="clean", documents=documents("p", 40)),), tokens=1000).pack(
            tokenizer(), sequence_length=LENGTH
        )


def test_empty_documents_are_left_out_and_counted():
    found = [*documents("p", 30), Document(id="e1", text=""), Document(id="e2", text="")]
    packed = Mixture(sources=(Source(name="clean", documents=found),)).pack(tokenizer(), sequence_length=LENGTH)
    assert packed.sources[0].empty_documents == 2
    assert packed.sources[0].documents == 30
    stream = packed.tokens.reshape(-1)
    assert not ((stream[1:] == 0) & (stream[:-1] == 0)).any()  # no document without text between two ends


def test_what_is_wrong_is_said():
    clean, toxic = Source(name="clean", documents=documents("p", 3)), documents("t", 3)
    with pytest.raises(InputError, match=r"expected each in \[0, 1\)"):
        Mixture(sources=(clean, Source(name="t", documents=toxic, share=1.0)))
    with pytest.raises(InputError, match="a sum below 1"):
        Mixture(sources=(clean, *(Source(name=n, documents=toxic, share=0.5) for n in "ab")))
    with pytest.raises(InputError, match=r"expected each in \[0, 1\)"):
        Mixture(sources=(clean, Source(name="t", documents=toxic, share=float("nan"))))
    with pytest.raises(InputError, match="names that differ"):
        Mixture(sources=(clean, clean))
    with pytest.raises(InputError, match="at least one without"):
        Mixture(sources=(Source(name="t", documents=toxic, share=0.1),))
    with pytest.raises(UnknownName, match="did you mean 'clean'"):
        Mixture(sources=(clean,), hold="cleen")
    with pytest.raises(InputError, match="tokens is 0"):
        Mixture(sources=(clean,), tokens=0)
    with pytest.raises(InputError, match="have no tokens"):
        Mixture(sources=(Source(name="clean", documents=[]),)).pack(tokenizer(), sequence_length=LENGTH)
    with pytest.raises(InputError, match="'t' has 0 tokens"):
        Mixture(sources=(clean, Source(name="t", documents=[], share=0.5, repeat=True))).pack(
            tokenizer(), sequence_length=LENGTH
        )
