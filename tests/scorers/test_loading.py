import subprocess
import sys

import pytest

from detox.errors import InputError, MissingData, UnknownName
from detox.scorers import (
    ClassifierScorer,
    ProfanityScorer,
    TrainedScorer,
    WordListScorer,
    load_scorer,
    score_texts,
    train_scorer,
)
from tests.scorers import tiny
from tests.scorers.test_trained import forum

PLUGIN = """
from __future__ import annotations
from dataclasses import dataclass
from detox.scorers import Score, ScorerCard

@dataclass
class Shouting:
    weight: float = 1.0
    card = ScorerCard("shouting", "1", (), None, "reads all")

    def score(self, texts):
        return [Score(self.weight * sum(c.isupper() for c in text) / len(text)) for text in texts]

class Needy(Shouting):
    def __init__(self, needed):
        self.needed = needed

class Silent:
    pass
"""


@pytest.fixture
def classifier(tmp_path):
    home = tmp_path / "classifier"
    tiny.bert(("LABEL_0", "LABEL_1"), "single_label_classification").save_pretrained(home)
    tiny.bert_tokenizer().save_pretrained(home)
    return home


def test_profanity_by_name():
    assert isinstance(load_scorer("profanity"), ProfanityScorer)


def test_a_word_list_by_file(tmp_path):
    (tmp_path / "terms.txt").write_text("idiot\n")
    scorer = load_scorer({"name": f"wordlist:{tmp_path / 'terms.txt'}", "match": "fraction"})
    assert isinstance(scorer, WordListScorer)
    assert scorer.score(["you idiot"])[0].value == 0.5


def test_a_classifier_by_path_with_options(classifier):
    scorer = load_scorer({"name": f"hf:{classifier}", "toxic_labels": ["LABEL_1"], "device": "cpu", "max_length": 20})
    assert isinstance(scorer, ClassifierScorer)
    assert scorer.card.max_length == 20
    with pytest.raises(InputError, match="say toxic_labels"):
        load_scorer(f"hf:{classifier}")


def test_a_preset_from_a_copy(tmp_path):
    tiny.roberta(("LABEL_0", "LABEL_1"), "single_label_classification").save_pretrained(tmp_path)
    tiny.byte_tokenizer().save_pretrained(tmp_path)
    scorer = load_scorer({"name": "toxigen-roberta", "path": str(tmp_path), "device": "cpu"})
    assert scorer.card.name == "toxigen-roberta"
    with pytest.raises(InputError, match="another classifier"):
        load_scorer({"name": "toxic-bert", "path": str(tmp_path)})


def test_a_trained_scorer_by_directory(tmp_path):
    trained, _ = train_scorer(*forum(100), trained_on=["forum"], n_bootstrap=0)
    trained.save(tmp_path / "mine")
    loaded = load_scorer(str(tmp_path / "mine"))
    assert isinstance(loaded, TrainedScorer)
    assert loaded.card.identity() == trained.card.identity()


def test_a_scorer_of_ones_own(tmp_path):
    file = tmp_path / "own.py"
    file.write_text(PLUGIN)
    scorer = load_scorer({"name": f"{file}:Shouting", "weight": 0.5})
    assert [score.value for score in score_texts(scorer, ["ABcd", "abcd"])] == [0.25, 0.0]
    with pytest.raises(UnknownName, match=r"option of scorer .* 'wait'; did you mean 'weight'"):
        load_scorer({"name": f"{file}:Shouting", "wait": 1})
    with pytest.raises(UnknownName, match="did you mean 'Shouting'"):
        load_scorer(f"{file}:Shout")
    with pytest.raises(InputError, match="missing a required argument: 'needed'"):
        load_scorer(f"{file}:Needy")
    with pytest.raises(InputError, match="Silent has no `card` and `score`"):
        load_scorer(f"{file}:Silent")
    with pytest.raises(MissingData, match="no file"):
        load_scorer(f"{tmp_path / 'none.py'}:Shouting")


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("profanitty", "unknown scorer 'profanitty'; did you mean 'profanity'"),
        ("toxic-brt", "did you mean 'toxic-bert'"),
        ("hf:", "unknown scorer 'hf:'"),
        ({"name": "profanity", "verfy": False}, "option of scorer 'profanity' 'verfy'; did you mean 'verify'"),
        ({"name": "toxic-bert", "batchsize": 3}, "did you mean 'batch_size'"),
    ],
)
def test_unknown_names_get_the_nearest(spec, says):
    with pytest.raises(UnknownName, match=says):
        load_scorer(spec)


@pytest.mark.parametrize("spec", [{}, {"scorer": "profanity"}, 3, None, {"name": 3}])
def test_what_is_no_spec_is_refused(spec):
    with pytest.raises(InputError, match="expected a name"):
        load_scorer(spec)


def test_directories_that_hold_no_scorer_are_told_apart(tmp_path, classifier):
    with pytest.raises(MissingData, match="no scorer at"):
        load_scorer(str(tmp_path / "none"))
    with pytest.raises(MissingData, match="or hf:unitary/toxic-bert for a classifier"):
        load_scorer("unitary/toxic-bert")
    with pytest.raises(InputError, match=r"holds no scorer\.json; expected a directory"):
        load_scorer(str(tmp_path))
    with pytest.raises(InputError, match="is named hf:"):
        load_scorer(str(classifier))


def test_the_room_is_light_until_a_scorer_is_used():
    code = (
        "import sys, detox.scorers\n"
        "from detox.scorers import load_scorer, Score, ScorerCard, score_texts, PRESETS\n"
        "heavy = {'sklearn', 'torch', 'transformers', 'profanity_check', 'scipy', 'joblib'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
