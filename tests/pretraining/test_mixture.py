import json
from collections import Counter
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detox.data.records import Document, Span, middle_kind
from detox.errors import InputError, UnknownName
from detox.pretraining import Mixture, Source, Treatment, train_tokenizer
from tests.conftest import REPOSITORY

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


@pytest.mark.slow
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
            Source(name="toxic", documents=documents("t", 280, risky=5), share=share),
            Source(name="more", documents=documents("u", 240, length=11, risky=2), share=second),
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


def frozen(hold, tokens, repeat):
    return Mixture(
        sources=(
            Source(name="prose", documents=documents("p", 40)),
            Source(name="talk", documents=[*documents("é", 13, length=7), Document(id="e", text="")]),
            Source(name="toxic", documents=documents("t", 9 if repeat else 60, risky=5), share=0.25, repeat=repeat),
        ),
        hold=hold,
        tokens=tokens,
        seed=3,
    )


# Committed records of base models name their data by such digests: another order or another token makes them false.
FROZEN = {
    ("clean", None, False): "ef90a3c7cb5b6e3f1a26939cd40daf6297f70a81aecd298cc57c900d5b5230b2",
    ("total", 700, False): "8ae9c12578c310927078d1482c645b9af987161e43cecc162528a338de83a9c9",
    ("clean", 700, True): "f2435643bfabf0fd9fdf44a636f320c646ada4b7ebf66fe314ea19e553ba3a69",
}


@pytest.mark.parametrize("case", FROZEN)
def test_the_data_of_old_records_comes_out_as_it_was(case, tmp_path):
    assert frozen(*case).pack(tokenizer(), sequence_length=LENGTH).digest == FROZEN[case]
    assert frozen(*case).pack(tokenizer(), sequence_length=LENGTH, store=tmp_path).digest == FROZEN[case]


@pytest.mark.slow
def test_the_demo_mixture_is_that_of_the_committed_records():
    import detox.miniature as miniature

    records = REPOSITORY / "benchmarks" / "results" / "demo" / "bases"
    (card,) = records.glob("masked-*/pretraining.json")
    packed = miniature.mixture("masked").pack(miniature.tokenizer(), sequence_length=96)
    assert packed.digest == json.loads(card.read_text())["data"]["digest"]


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


def test_kinds_and_the_middle_band_are_counted():
    spans = (Span(0, 3), Span(2, 5, "name"), Span(6, 9, middle_kind("toxic")))
    found = [Document(id=f"t{i}", text="abcdefghij", spans=spans) for i in range(30)]
    base = Source(name="clean", documents=documents("p", 40))

    def realised(**treatment):
        mixture = Mixture(
            sources=(base, Source(name="toxic", documents=found, share=0.2)), treatment=Treatment(**treatment)
        )
        packed = mixture.pack(tokenizer(), sequence_length=LENGTH)
        source, count = packed.sources[1], Counter(packed.tokens.reshape(-1).tolist())
        of = {letter: count[tokenizer().convert_tokens_to_ids(letter)] for letter in "abcdefghij"}
        return packed, source, lambda letters: sum(of[letter] for letter in letters)

    packed, source, count = realised()
    assert source.risky_tokens == packed.risk.sum() == count("abcde")
    assert source.kinds == {"toxic": count("abc"), "name": count("cde"), "toxic:middle": count("ghi")}
    assert packed.ignored is None
    packed, source, count = realised(risky=("toxic",), middle="mask")
    assert source.risky_tokens == count("abc")
    assert source.kinds == {"toxic": count("abc"), "toxic:middle": count("ghi")}
    assert source.ignored_tokens == packed.ignored.sum() == count("ghi") > 0
    packed, source, count = realised(risky=("name",), middle="mask")
    assert (source.risky_tokens, source.ignored_tokens, source.kinds) == (count("cde"), 0, {"name": count("cde")})
    packed, source, count = realised(middle="drop", risky_text="delete")
    assert (count("abcdeghi"), source.risky_tokens, source.kinds) == (0, 0, {})
    assert 5 * (source.documents - 1) <= source.deleted_tokens <= 5 * source.documents  # the last one may be cut
    assert json.loads(json.dumps(packed.card())) == packed.card()
    assert packed.card()["mixture"]["treatment"] == {"risky": None, "middle": "drop", "risky_text": "delete"}


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
