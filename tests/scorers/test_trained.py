import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detox.errors import DataError, InputError, MissingData
from detox.scorers import TrainedScorer, score_texts, train_scorer
from detox.scorers.trained import WINDOW, Weights
from tests.scorers.tiny import CIVIL, RUDE

ODD = ["", "\u200b", "\ud800", "x\0y", "\U0001f642", "\u05e9\u05dc\u05d5\u05dd", "a" * 100_000, "idiot " * 20_000]


def forum(count, *, seed=0):
    """Sentences of civil words, half of them with rude ones; the target is the share of rude words, doubled."""
    rng = np.random.default_rng(seed)
    texts, targets = [], []
    for index in range(count):
        length = int(rng.integers(4, 12))
        rude = int(rng.integers(1, 4)) if index % 2 else 0
        words = [*rng.choice(CIVIL, length), *rng.choice(RUDE, rude)]
        rng.shuffle(words)
        texts.append(" ".join(map(str, words)))
        targets.append(min(1.0, 3 * rude / len(words)))
    return texts, targets


@pytest.fixture(scope="module")
def trained():
    return train_scorer(*forum(300), trained_on=["forum"], name="mine", n_bootstrap=50)[0]


def test_loaded_equals_saved(trained, tmp_path):
    loaded = TrainedScorer.from_directory(trained.save(tmp_path / "scorer"))
    texts = [*forum(50, seed=1)[0], *ODD]
    for one, other in zip(trained.score(texts), loaded.score(texts), strict=True):
        assert one.reason == other.reason
        assert one.is_missing or one.value == pytest.approx(other.value, abs=1e-6)
    assert loaded.card.identity() == trained.card.identity()
    assert loaded.card.to_dict() == json.loads(json.dumps(trained.card.to_dict()))


def test_the_directory_holds_json_and_safetensors_only(trained, tmp_path):
    home = trained.save(tmp_path / "scorer")
    assert {file.name for file in home.iterdir()} == {
        "scorer.json",
        "vocabulary.json",
        "weights.safetensors",
        "README.md",
    }
    assert "forum" in (home / "README.md").read_text()
    assert all(file.stat().st_mode & 0o044 == 0o044 for file in home.iterdir())


def test_identity_follows_the_content_not_the_place(trained, tmp_path):
    weights = trained.weights
    other = Weights(weights.vocabularies, weights.idf, weights.coefficients, weights.intercept + 1e-9)
    assert TrainedScorer(other, name="mine", trained_on=["forum"]).card.identity() != trained.card.identity()


def test_a_changed_directory_is_refused(trained, tmp_path):
    home = trained.save(tmp_path / "scorer")
    words = json.loads((home / "vocabulary.json").read_text())
    words["word"] = words["word"][::-1]
    (home / "vocabulary.json").write_text(json.dumps(words))
    with pytest.raises(DataError, match=r"not those that scorer\.json names"):
        TrainedScorer.from_directory(home)
    words["word"] = words["word"][1:]
    (home / "vocabulary.json").write_text(json.dumps(words))
    with pytest.raises(DataError, match="different sizes"):
        TrainedScorer.from_directory(home)


@pytest.mark.parametrize("file", ["scorer.json", "vocabulary.json", "weights.safetensors"])
@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_damaged_directory_names_the_file(trained, tmp_path, file, damage):
    home = trained.save(tmp_path / "scorer")
    if damage == "missing":
        (home / file).unlink()
    else:
        (home / file).write_bytes((home / file).read_bytes()[:-20])
    with pytest.raises(DataError, match=file):
        TrainedScorer.from_directory(home)


def test_another_format_and_no_directory_are_told_apart(trained, tmp_path):
    home = trained.save(tmp_path / "scorer")
    about = json.loads((home / "scorer.json").read_text())
    (home / "scorer.json").write_text(json.dumps(about | {"format": 99}))
    with pytest.raises(DataError, match="another version"):
        TrainedScorer.from_directory(home)
    with pytest.raises(MissingData, match="no scorer at"):
        TrainedScorer.from_directory(tmp_path / "none")


def test_odd_texts_get_a_score_or_a_reason(trained):
    scores = score_texts(trained, ODD)
    unread = "no known feature"
    assert [score.reason for score in scores] == ["empty", "empty", unread, None, unread, unread, None, None]
    assert scores[7].value > 0.9


@settings(max_examples=30)
@given(st.lists(st.text(st.characters(exclude_categories=[]), max_size=40), max_size=5))
def test_any_text_gets_a_score_or_a_reason(trained, texts):
    for score in score_texts(trained, texts):
        assert math.isnan(score.value) == (score.reason is not None)


def test_scores_do_not_depend_on_the_batch(trained):
    texts = forum(20, seed=2)[0]
    single = [trained.score([text])[0].value for text in texts]
    assert [score.value for score in trained.score(texts)] == pytest.approx(single, abs=1e-12)


def test_toxicity_in_the_tail_is_found(trained):
    civil = " ".join(CIVIL * 50)
    assert len(civil.split()) > 9 * WINDOW
    tail = f"{civil} idiot fool moron " + "idiot fool moron " * 3
    (low,), (high,) = trained.score([civil]), trained.score([tail])
    assert high.value > low.value + 0.2
    assert trained.probabilities([tail])[0] < high.value


def test_training_data_must_be_named(trained):
    with pytest.raises(InputError, match="trained_on is empty"):
        TrainedScorer(trained.weights, name="x", trained_on=[])
