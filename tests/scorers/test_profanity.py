import shutil
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detox.errors import InputError, MissingData
from detox.scorers import ProfanityScorer, score_texts
from detox.scorers.profanity import KNOWN_SHA256, WINDOW, _installed, digests

CIVIL = "Thank you for the help, I really enjoyed our walk through the garden and the tea afterwards."


@pytest.fixture(scope="module")
def profanity():
    return ProfanityScorer()


def test_insults_score_higher_than_thanks(profanity):
    rude, mild, civil = (score.value for score in profanity.score(["You are an idiot and a fool.", "You fool.", CIVIL]))
    assert rude > 0.9
    assert mild > 0.5 > 0.1 > civil


@pytest.mark.parametrize("text", ["\U0001f642\U0001f642", "\u05e9\u05dc\u05d5\u05dd", "a" * 100_000, "!?!"])
def test_what_it_cannot_read_is_missing_not_clean(profanity, text):
    (score,) = profanity.score([text])
    assert score.is_missing
    assert score.reason == "no known word"


def test_stop_words_are_known_words(profanity):
    (score,) = profanity.score(["and it was of the"])
    assert 0.0 <= score.value < 0.2


@settings(max_examples=30)
@given(st.lists(st.text(st.characters(exclude_categories=[]), max_size=60), max_size=5))
def test_any_text_gets_a_score_or_a_reason(profanity, texts):
    scores = score_texts(profanity, texts)
    assert len(scores) == len(texts)
    assert all(score.is_missing == (score.reason is not None) for score in scores)


def test_scores_do_not_depend_on_the_batch(profanity):
    texts = [CIVIL, "You are an idiot.", "", "fool " * 300, CIVIL * 20]
    single = [profanity.score([text])[0] for text in texts]
    together = profanity.score(texts)
    assert [score.reason for score in together] == [score.reason for score in single]
    for one, other in zip(single, together, strict=True):
        assert one.is_missing or one.value == pytest.approx(other.value, abs=1e-12)


def test_an_insult_behind_long_clean_text_is_found_by_the_windows(profanity):
    clean = " ".join([CIVIL] * 40)
    text = f"{clean} You are such an idiot, a stupid fool, a pathetic moron, shut up you idiot."
    assert len(clean.split()) > 10 * WINDOW
    whole = profanity._probabilities([text])[0]
    (before,), (windowed,) = profanity.score([clean]), profanity.score([text])
    assert whole < 0.2
    assert before.value < 0.2
    assert windowed.value > 0.8


def test_the_card_declares_what_it_was_trained_on(profanity):
    assert set(profanity.card.trained_on) == {"jigsaw-toxic-comments", "davidson-tweets"}
    assert profanity.card.max_length == WINDOW
    assert profanity.card.sha256


def test_changed_pickles_are_refused_and_the_file_is_named(tmp_path):
    directory, version = _installed()
    copy = tmp_path / "data"
    shutil.copytree(directory, copy)
    assert digests(copy, version) == KNOWN_SHA256[version]
    with (copy / "vectorizer.joblib").open("ab") as file:
        file.write(b"x")
    with pytest.raises(InputError, match=r"vectorizer\.joblib has SHA-256 .* verify=False"):
        digests(copy, version)
    assert digests(copy, version, verify=False)[0] == KNOWN_SHA256[version][0]


def test_an_unknown_version_and_a_missing_file_are_refused(tmp_path):
    directory, version = _installed()
    with pytest.raises(InputError, match=r"99\.0.*known here.*verify=False"):
        digests(directory, "99.0")
    with pytest.raises(MissingData, match=r"no model\.joblib"):
        digests(tmp_path, version)


def test_the_pickles_are_not_loaded_before_they_are_verified():
    code = (
        "import sys, detox.scorers.profanity as p\n"
        "p.KNOWN_SHA256.clear()\n"
        "try: p.ProfanityScorer()\n"
        "except ValueError: print('profanity_check' in sys.modules, 'sklearn' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
