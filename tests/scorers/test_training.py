import json

import numpy as np
import pytest

from detox.data.records import LabelledText
from detox.errors import InputError, OutputError
from detox.scorers import TrainedScorer, score_texts, scorer_quality, train_default, train_scorer
from detox.scorers.training import _calibration, _excluded, _fit, _folds, _logits
from tests.scorers.test_trained import forum


def train(texts, targets, **options):
    return train_scorer(texts, targets, **{"trained_on": ["forum"], "n_bootstrap": 100, **options})


def test_it_learns_and_says_how_well():
    texts, targets = forum(400)
    scorer, report = train(texts, targets)
    assert report["overall"]["roc_auc"] > 0.95
    assert report["overall"]["ece"] < 0.1
    fresh, wanted = forum(400, seed=5)
    measured = scorer_quality(score_texts(scorer, fresh), wanted, n_bootstrap=0)
    assert measured["roc_auc"] == pytest.approx(report["overall"]["roc_auc"], abs=0.04)
    assert measured["ece"] < 0.1
    assert scorer.card.quality == report
    assert scorer.card.trained_on == ("forum",)
    json.dumps(report, allow_nan=False)


def test_the_folds_calibrate_what_the_penalty_shrank():
    texts, targets = forum(100)
    fresh, wanted = forum(600, seed=9)
    shrunk, _ = _calibration(_logits(_fit(texts, np.array(targets)), fresh), np.array(wanted))
    calibrated, _ = _calibration(train(texts, targets)[0].logits(fresh), np.array(wanted))
    assert shrunk > 1.25
    assert calibrated == pytest.approx(1.0, abs=0.1)


def test_what_cannot_be_learned_is_reported_as_chance():
    rng = np.random.default_rng(0)
    texts, _ = forum(300)
    targets = rng.uniform(size=300)
    low, high = train(texts, targets)[1]["overall"]["roc_auc_interval"]
    assert low < 0.5 < high


def test_copies_of_a_text_do_not_leak_between_folds():
    rng = np.random.default_rng(0)
    texts, _ = forum(120)
    targets = np.repeat(rng.integers(0, 2, 120), 4).astype(float)
    copies = [form for text in texts for form in (text, text.upper(), f"  {text}!", text.replace(" ", "  "))]
    assert train(copies, targets)[1]["overall"]["roc_auc"] < 0.7
    folds = _folds(copies, 5, 0).reshape(120, 4)
    assert (folds == folds[:, :1]).all()
    assert set(folds.ravel()) == set(range(5))


def test_soft_targets_are_degrees():
    texts, targets = forum(600)
    scorer, _ = train(texts, targets)
    fresh, wanted = forum(600, seed=7)
    values = np.array([score.value for score in scorer.score(fresh)])
    wanted = np.array(wanted)
    groups = [
        values[(wanted > low) & (wanted <= high)].mean() for low, high in ((-1, 0), (0, 0.4), (0.4, 0.7), (0.7, 1))
    ]
    assert groups == sorted(groups)
    assert abs(values.mean() - wanted.mean()) < 0.05


def test_same_seed_same_scorer():
    texts, targets = forum(200)
    first, again = train(texts, targets), train(texts, targets)
    assert first[0].card.identity() == again[0].card.identity()
    assert first[1] == again[1]
    assert train(texts, targets, seed=1)[1] != first[1]


def test_what_is_excluded_is_never_seen():
    texts, targets = forum(200)
    texts[3], texts[4], texts[5] = "zebra zebra", "Walrus, walrus!", "ferret ferret"
    ids = [f"id-{index}" for index in range(200)]
    scorer, report = train(texts, targets, ids=ids, exclude=["id-3", "walrus  WALRUS", "not there"])
    vocabulary = set(scorer.weights.vocabularies["char"])
    assert report["n_excluded"] == 2
    assert report["n_texts"] == 198
    assert not vocabulary & {"zebr", "walr"}
    flags = _excluded(texts, ids, ["id-3", "walrus  WALRUS", "not there"])
    assert np.flatnonzero(flags).tolist() == [3, 4]
    with_them, _ = train([*texts, *["zebra zebra"] * 3], [*targets, 1, 1, 1])
    assert "zebr" in with_them.weights.vocabularies["char"]


def test_each_source_is_measured_by_itself():
    texts, targets = forum(300)
    noise = np.random.default_rng(0).uniform(size=300)
    _, report = train(
        [*texts, *(f"{text} hello" for text in texts)],
        [*targets, *noise],
        sources=["good"] * 300 + ["noise"] * 300,
    )
    assert report["by_source"]["good"]["roc_auc"] > report["by_source"]["noise"]["roc_auc"] + 0.2
    assert report["by_source"]["good"]["n"] + report["by_source"]["noise"]["n"] == report["overall"]["n"]


def test_empty_texts_are_dropped_and_counted():
    texts, targets = forum(100)
    _, report = train(["", " \u200b", *texts], [1, 1, *targets])
    assert (report["n_empty"], report["n_texts"]) == (2, 100)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"targets": [0.5]}, "100 texts but 1 targets"),
        ({"targets": [1.5] * 100}, "text 0: target 1.5"),
        ({"targets": [float("nan")] * 100}, "text 0: target nan"),
        ({"targets": [1.0] * 100}, "100 texts with a target of at least 0.5 and 0 below"),
        ({"ids": ["a"]}, "100 texts but 1 ids"),
        ({"sources": ["a"]}, "100 texts but 1 sources"),
        ({"texts": "abc"}, "one string"),
        ({"trained_on": []}, "trained_on is empty"),
    ],
)
def test_wrong_input_is_named(change, says):
    texts, targets = forum(100)
    options = {"texts": texts, "targets": targets, **change}
    with pytest.raises(InputError, match=says):
        train(options.pop("texts"), options.pop("targets"), **options)


def records(count, *, seed=0, labelled=False):
    texts, targets = forum(count, seed=seed)
    return [
        LabelledText(
            id=f"{seed}-{index}",
            text=text,
            label=int(target >= 0.5) if labelled else None,
            score=None if labelled else target,
        )
        for index, (text, target) in enumerate(zip(texts, targets, strict=True))
    ]


def test_the_recipe_trains_tests_and_saves(tmp_path):
    known, labelled = records(150), records(150, seed=1, labelled=True)
    shared = LabelledText(id="x", text=known[1].text, label=1)
    unjudged = LabelledText(id="y", text="zebra zebra zebra", label=None)
    scorer, report = train_default(
        tmp_path / "out",
        {"scored": [*known, unjudged], "labelled": labelled},
        exclude=[known[0].id],
        tests={"test": [*records(100, seed=2), shared, unjudged]},
    )
    loaded = TrainedScorer.from_directory(tmp_path / "out")
    assert loaded.card.to_dict() == json.loads(json.dumps(scorer.card.to_dict()))
    assert loaded.card.quality["tests"]["test"]["roc_auc"] > 0.9
    assert loaded.card.quality["tests"]["test"]["n"] == 101
    assert scorer.card.trained_on == ("scored", "labelled")
    assert set(report["by_source"]) == {"scored", "labelled"}
    assert report["n_excluded"] == 2
    assert report["n_texts"] == 298


def test_an_unwritable_place_is_found_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        train_default(tmp_path / "file" / "out", {"few": records(1)})
