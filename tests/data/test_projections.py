from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import assume, given, settings

from detox.data.contrasts import Contrast
from detox.data.projections import (
    contrasts_from_kto,
    contrasts_from_preferences,
    group_dataset,
    kto_dataset,
    preference_dataset,
    sft_dataset,
)
from detox.errors import DataError, InputError, UnknownName
from tests.data.test_contrasts import contrast_lists

BOTH = Contrast(id="b", prompt="You are", safe=(" kind", " fine"), toxic=(" a fool", " an idiot", " dumb"), group="g")
SAFE = Contrast(id="s", prompt="Hello", safe=(" there",), toxic=())
TOXIC = Contrast(id="t", prompt="", safe=(), toxic=("Fool",))
ALL = [BOTH, SAFE, TOXIC]


def test_sft_takes_one_side_in_order():
    assert sft_dataset(ALL).to_list() == [
        {"prompt": "You are", "completion": " kind"},
        {"prompt": "You are", "completion": " fine"},
        {"prompt": "Hello", "completion": " there"},
    ]
    assert sft_dataset(ALL, side="toxic")["completion"][-1] == "Fool"


def test_preferences_pair_all_with_all_or_first_with_first():
    every = preference_dataset(ALL)
    assert every.column_names == ["prompt", "chosen", "rejected"]
    assert [(row["chosen"], row["rejected"]) for row in every] == [
        (safe, toxic) for safe in BOTH.safe for toxic in BOTH.toxic
    ]
    zipped = preference_dataset(ALL, pairing="zip")
    assert [(row["chosen"], row["rejected"]) for row in zipped] == [(" kind", " a fool"), (" fine", " an idiot")]


def test_one_sided_contrasts_are_skipped_or_named():
    with pytest.raises(InputError, match="'s' has no toxic continuation"):
        preference_dataset(ALL, one_sided="error")
    with pytest.raises(InputError, match="none of 2 contrasts has a safe and a toxic continuation"):
        preference_dataset([SAFE, TOXIC])
    with pytest.raises(InputError, match="a safe continuation"):
        sft_dataset([TOXIC])


@pytest.mark.parametrize(
    "call",
    [
        lambda: preference_dataset(ALL, pairing="zp"),
        lambda: preference_dataset(ALL, one_sided="skp"),
        lambda: sft_dataset(ALL, side="saef"),
    ],
)
def test_unknown_options_name_the_nearest(call):
    with pytest.raises(UnknownName, match=r"did you mean '(zip|skip|safe)'"):
        call()


def test_column_types_are_those_of_trl():
    from datasets import List, Value

    text = Value("string")
    assert dict(kto_dataset(ALL).features) == {"prompt": text, "completion": text, "label": Value("bool")}
    assert dict(preference_dataset(ALL).features) == dict.fromkeys(("prompt", "chosen", "rejected"), text)
    groups = group_dataset(ALL)
    assert groups.features["safe"] == List(text)
    assert groups.to_list()[0] == {
        "id": "b",
        "prompt": "You are",
        "safe": [" kind", " fine"],
        "toxic": [" a fool", " an idiot", " dumb"],
        "group": "g",
    }
    assert groups["group"][1:] == ["s", "t"]


@pytest.mark.slow  # importing trl takes seconds
def test_kto_is_what_trl_makes_of_the_preferences():
    from trl.data_utils import unpair_preference_dataset

    pairs = preference_dataset([BOTH], pairing="zip")
    theirs = unpair_preference_dataset(pairs).to_list()
    used = Contrast(id="b", prompt="You are", safe=BOTH.safe, toxic=BOTH.toxic[:2])
    ours = kto_dataset([used]).to_list()
    assert sorted(map(str, (sorted(row.items()) for row in theirs))) == sorted(
        map(str, (sorted(row.items()) for row in ours))
    )


@settings(max_examples=20, deadline=None)
@given(contrasts=contrast_lists().filter(bool))
def test_kto_rows_come_back(contrasts):
    rows = kto_dataset(contrasts)
    labels = defaultdict(set)
    for row in rows:
        labels[row["prompt"], row["completion"]].add(row["label"])
    assume(all(len(both) == 1 for (prompt, _), both in labels.items() if prompt))
    back = contrasts_from_kto(rows)

    def count(dataset):
        return sorted((row["prompt"], row["completion"], row["label"]) for row in dataset)

    assert count(kto_dataset(back)) == count(rows)
    prompts = [one.prompt for one in back if one.prompt]
    assert len(set(prompts)) == len(prompts)
    assert len({one.id for one in back}) == len(back)


@settings(max_examples=20, deadline=None)
@given(contrasts=contrast_lists().filter(lambda many: any(one.safe and one.toxic for one in many)))
def test_preference_rows_come_back(contrasts):
    rows = preference_dataset(contrasts)
    back = contrasts_from_preferences(rows, name="x")
    assert preference_dataset(back).to_list() == rows.to_list()
    for one in back:
        assert (one.group is None) == (one.prompt == "")
        assert {other.group for other in back if other.prompt == one.prompt} == {one.group}


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([{"chosen": "a"}], "x row 0: no column 'rejected'"),
        ([{"chosen": [{"role": "user", "content": "a"}], "rejected": "b"}], "x row 0: a list where text is expected"),
        ([{"chosen": "a", "rejected": "b"}, {"chosen": "a", "rejected": "a"}], "x row 1: contrast 'x-1'"),
        ([{"chosen": "a", "rejected": None}], "x row 0: a NoneType where text"),
    ],
)
def test_wrong_preference_rows_are_named(rows, says):
    with pytest.raises(DataError) as caught:
        contrasts_from_preferences(rows, name="x")
    assert says in str(caught.value)


def test_wrong_kto_rows_are_named():
    with pytest.raises(DataError, match="kto row 0: label is a str"):
        contrasts_from_kto([{"prompt": "p", "completion": "a", "label": "yes"}])
    with pytest.raises(DataError, match=r"kto row 0: .*both safe and toxic"):
        contrasts_from_kto([{"prompt": "p", "completion": "a", "label": flag} for flag in (True, False)])
    without = contrasts_from_kto([{"completion": "a", "label": True}, {"completion": "b", "label": False}])
    assert [(one.id, one.safe, one.toxic) for one in without] == [("kto-0", ("a",), ()), ("kto-1", (), ("b",))]
