from __future__ import annotations

import random
import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detox.data.contrasts import Contrast
from detox.data.records import Cloze, Document, LabelledText, MinimalPair, MultipleChoice, Prompt
from detox.data.subsets import (
    draw,
    normalised,
    split_key,
    split_of,
    split_records,
    stratum,
    texts_of,
    without_texts_of,
)
from detox.errors import InputError, UnknownName


def prompts(count, toxicity=lambda number: number / 1000):
    return [Prompt(id=f"p{number}", text=f"text {number}", toxicity=toxicity(number)) for number in range(count)]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("You, sir, are KIND!", "you sir are kind", True),
        ("a  b\n c", "A b c.", True),
        ("Straße", "STRASSE", True),
        ("you are kind", "you are not kind", False),
        ("😀", "😡", False),
        ("?!", "!?", False),
    ],
)
def test_normalised_texts_are_those_a_reader_would_call_the_same(one, other, same):
    assert (normalised(one) == normalised(other)) is same


@settings(max_examples=100, deadline=None)
@given(text=st.text(max_size=30))
def test_a_text_is_on_one_side_whatever_its_case_and_spacing(text):
    side = split_of(text)
    assert side in ("train", "heldout")
    assert split_of(normalised(text)) == side
    assert split_of(f"  {text}\n") == side
    if re.search(r"\w", text):
        assert split_of(f"({normalised(text)}).") == side


def test_a_fifth_is_held_out_and_more_if_asked_for():
    texts = [f"sentence number {number}" for number in range(5000)]
    held = {text for text in texts if split_of(text) == "heldout"}
    assert 0.18 < len(held) / len(texts) < 0.22
    more = {text for text in texts if split_of(text, heldout=0.5) == "heldout"}
    assert held < more
    assert 0.47 < len(more) / len(texts) < 0.53
    # Where a text lies is part of what a published number means.
    assert [split_of(text) for text in ("good evening", "good morning")] == ["heldout", "train"]


def test_the_sides_are_a_partition_in_order():
    records = prompts(300)
    train, heldout = split_records(records, "train"), split_records(records, "heldout")
    assert sorted([*train, *heldout], key=records.index) == records
    assert train == [one for one in records if one in set(train)]
    assert train
    assert heldout


def test_the_same_text_is_on_the_same_side_in_every_kind_of_record():
    for number in range(50):
        text = f"Words of number {number}"
        side = split_of(text)
        records = [
            Prompt(id="1", text=text),
            LabelledText(id="2", text=text.upper(), label=1),
            Document(id="3", text=text + "."),
            Contrast(id="4", prompt="", safe=("other",), toxic=(text,)),
            Contrast(id="5", prompt=text, safe=(" a",), toxic=(" b",)),
            Cloze(id="6", context=text, target=" end"),
            MinimalPair(id="7", good=text, bad="bad"),
            MultipleChoice(id="8", context=text, choices=(" a", " b"), answer=0),
            MultipleChoice(id="9", context="", choices=(" a", " a"), answer=0, contexts=(text, "x")),
        ]
        assert split_records(records, side) == records


def test_a_group_keeps_its_contrasts_together():
    many = [Contrast(id=str(n), prompt=f"prompt {n}", safe=("a",), toxic=(), group="one group") for n in range(20)]
    assert len({split_of(split_key(one)) for one in many}) == 1


def test_wrong_splits_and_shares():
    with pytest.raises(UnknownName, match="did you mean 'heldout'"):
        split_records([], "held-out")
    for share in (0.0, 1.0, -1.0, float("nan")):
        with pytest.raises(InputError, match="held-out share"):
            split_records([], "train", heldout=share)


def test_texts_of_others_are_left_out():
    contrast = Contrast(id="c", prompt="You are", safe=(" kind.",), toxic=(" a fool.",))
    assert texts_of(contrast) == ("You are kind.", "You are a fool.")
    others = [LabelledText(id="1", text="you are A FOOL", label=1), LabelledText(id="2", text="Nice", label=0)]
    assert without_texts_of(others, [contrast]) == others[1:]
    assert without_texts_of([contrast], others[1:]) == [contrast]


@settings(max_examples=40, deadline=None)
@given(limit=st.integers(1, 120), more=st.integers(0, 60), seed=st.integers(0, 3), shuffle=st.randoms())
def test_a_sample_is_the_same_for_every_order_and_begins_the_larger_one(limit, more, seed, shuffle):
    records = prompts(100, toxicity=lambda number: number / 100)
    sample = draw(records, limit, seed=seed)
    assert len(sample) == min(limit, 100) == len(set(sample))
    shuffle.shuffle(records)
    assert draw(records, limit + more, seed=seed)[:limit] == sample


def test_every_stratum_gets_its_share():
    records = prompts(1000, toxicity=lambda number: 0.9 if number < 100 else 0.3 if number < 400 else 0.1)
    for limit in (10, 50, 200):
        counts = Counter(stratum(one) for one in draw(records, limit, seed=5))
        for quarter, share in (("3", 0.1), ("1", 0.3), ("0", 0.6)):
            assert abs(counts[quarter] - share * limit) <= 1
    assert draw(records, 50, seed=0) != draw(records, 50, seed=1)
    assert {one.id for one in draw(records, 50)} != {f"p{number}" for number in range(50)}


def test_one_stratum_is_drawn_evenly():
    records = [Cloze(id=str(number), context="c", target=" t") for number in range(40)]
    random.Random(0).shuffle(records)
    hits = Counter(int(one.id) for seed in range(400) for one in draw(records, 10, seed=seed))
    assert min(hits.values()) > 60  # binomial(400, 1/4): mean 100, four and a half standard deviations below
    assert max(hits.values()) < 140


@pytest.mark.parametrize("limit", [0, -3])
def test_a_limit_must_be_positive(limit):
    with pytest.raises(InputError, match="expected at least 1"):
        draw(prompts(3), limit)
