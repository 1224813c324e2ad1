"""Bias by term: against definitions counted pair by pair, and a scorer that is biased on purpose."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from detox.errors import InputError
from detox.scorers.identity_bias import MADLIBS_TERMS, identity_bias, terms_in

RNG = np.random.default_rng(0)
TERMS = ("deaf", "gay", "african", "african american", "old")
TEXTS = [f"{name} is {term}" for term in TERMS for name in ("Ann", "Bob", "Cid", "Dot", "Eve", "Fay") for _ in range(4)]
LABELS = [index % 2 for index in range(len(TEXTS))]


def by_pairs(values, positive, negative):
    """The share of pairs in which the positive is above, ties half."""
    pairs = [(values[i], values[j]) for i, j in product(np.flatnonzero(positive), np.flatnonzero(negative))]
    return float(np.mean([(a > b) + 0.5 * (a == b) for a, b in pairs]))


def test_the_longest_term_is_the_one_that_is_mentioned():
    assert terms_in(["An African  American, deaf", "deafening", "OLD"], TERMS) == [
        {"african american", "deaf"},
        frozenset(),
        {"old"},
    ]
    with pytest.raises(InputError, match="no identity terms"):
        terms_in(["a"], ())


def test_areas_are_those_of_their_definition():
    scores = np.round(RNG.random(len(TEXTS)), 1)
    scores[[3, 50]] = np.nan
    found = identity_bias(TEXTS, LABELS, scores, terms=TERMS)
    toxic, known = np.array(LABELS) == 1, ~np.isnan(scores)
    for term in TERMS:
        inside = np.array([term in one for one in terms_in(TEXTS, TERMS)])
        mine, others = inside & known, ~inside & known
        entry = found["terms"][term]
        assert entry["subgroup_auc"]["value"] == pytest.approx(by_pairs(scores, mine & toxic, mine & ~toxic))
        assert entry["bpsn_auc"]["value"] == pytest.approx(by_pairs(scores, others & toxic, mine & ~toxic))
        assert entry["bnsp_auc"]["value"] == pytest.approx(by_pairs(scores, mine & toxic, others & ~toxic))
        assert entry["false_positives"] == [int((scores[mine & ~toxic] >= 0.5).sum()), int((mine & ~toxic).sum())]
        assert entry["bpsn_auc"]["low"] <= entry["bpsn_auc"]["value"] <= entry["bpsn_auc"]["high"]
    assert (found["n"], found["missing"]) == (len(TEXTS) - 2, 2)


def test_a_scorer_that_flags_a_term_shows():
    scores = [0.9 if "gay" in text else 0.8 if label else 0.1 for text, label in zip(TEXTS, LABELS, strict=True)]
    found = identity_bias(TEXTS, LABELS, scores, terms=TERMS)
    assert found["worst"]["bpsn_auc"] == {"term": "gay", "value": 0.0}
    assert found["worst"]["subgroup_auc"] == {"term": "gay", "value": 0.5}
    assert found["worst"]["gap"]["term"] == "gay"
    assert found["worst"]["gap"]["value"] == pytest.approx(1 - 12 / 60)
    fair = identity_bias(TEXTS, LABELS, [0.8 if label else 0.1 for label in LABELS], terms=TERMS)
    assert all(entry[kind]["value"] == 1.0 for entry in fair["terms"].values() for kind in ("bpsn_auc", "bnsp_auc"))
    assert fair["worst"]["gap"]["value"] == 0.0


def test_few_sentences_have_no_area():
    found = identity_bias(["a deaf man", "a man"], [1, 0], [0.9, 0.1], terms=TERMS)
    assert list(found["terms"]) == ["deaf"]
    assert found["terms"]["deaf"]["subgroup_auc"] is None
    assert found["terms"]["deaf"]["gap"] is None
    assert found["worst"] == {}
    nothing = identity_bias([], [], [])
    assert (nothing["n"], nothing["roc_auc"], nothing["false_positives"]) == (0, None, [0, 0])


def test_lengths_must_fit():
    with pytest.raises(InputError, match="2 texts, 1 labels, 2 scores"):
        identity_bias(["a", "b"], [1], [0.1, 0.2])


@pytest.mark.shared_data
def test_the_terms_are_those_of_the_templates():
    from detox.data import load
    from detox.errors import MissingData

    try:
        records = load("madlibs_bias", source="local")
    except MissingData as error:
        pytest.skip(str(error))
    mentioned = terms_in([one.text for one in records])
    assert sum(len(one) == 1 for one in mentioned) > 0.98 * len(records)
    assert not any(len(one) > 1 for one in mentioned)
    assert set().union(*mentioned) == set(MADLIBS_TERMS)
