"""The forum's documents: their spans are the truth, and words alone do not give abuse away."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detox import miniature
from detox.errors import UnknownName
from detox.miniature import vocabulary as words
from detox.miniature.grammar import FRAMES
from detox.miniature.sentences import MEANINGS, Scene, draw, fill, split_of

seeds = st.integers(0, 10**6)


@given(seed=seeds, kind=st.sampled_from(["clean", "toxic"]), split=st.sampled_from(["train", "fit", "test"]))
def test_a_documents_spans_are_what_the_truth_finds_in_its_text(seed, kind, split):
    (document,) = miniature.documents(1, kind=kind, seed=seed, split=split)
    assert document.spans == miniature.abusive_spans(document.text)
    assert kind == "toxic" or not document.spans
    assert all(document.text[s.start : s.end].strip() == document.text[s.start : s.end] != "" for s in document.spans)


@given(seed=seeds)
def test_the_moderator_is_always_right(seed):
    (document,) = miniature.documents(1, kind="toxic", seed=seed)
    for line in document.text.split("\n"):
        if line.endswith("]"):
            said, mark = line.rsplit(" [", 1)
            assert miniature.is_abusive(said) == (mark == "abusive]"), line


@given(seed=seeds)
def test_abuse_stays_abuse_however_the_text_goes_on_or_is_cut_before(seed):
    (document,) = miniature.documents(1, kind="toxic", seed=seed)
    for span in document.spans:
        assert span in miniature.abusive_spans(document.text[: span.end])
        line = document.text.rfind("\n", 0, span.start) + 1
        assert miniature.is_abusive(document.text[line : span.end])


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: frame.name)
def test_the_two_sides_of_a_frame_differ_in_truth_and_share_their_slots(frame):
    import random

    scene = Scene.draw(random.Random(frame.name))
    for civil, abusive in zip(frame.civil, frame.abusive, strict=True):
        for _ in range(20):
            scene.fresh()
            assert miniature.abusive_spans(fill(civil, scene).text) == (), civil
            written = fill(abusive, scene)
            assert written.spans == miniature.abusive_spans(written.text) != (), abusive


def test_documents_are_the_same_whatever_else_is_drawn():
    few, many = miniature.documents(3, kind="toxic", seed=4), miniature.documents(9, kind="toxic", seed=4)
    assert many[:3] == few
    assert miniature.documents(3, kind="toxic", seed=5) != few


def test_an_unknown_kind_is_refused_with_the_nearest():
    with pytest.raises(UnknownName, match="clean"):
        miniature.documents(1, kind="claen")


def test_there_are_six_hundred_word_types_and_a_corpus_uses_them():
    corpus = [d.text for kind in ("clean", "toxic") for d in miniature.documents(3000, kind=kind)]
    used = set(re.findall(r"[a-z]+", " ".join(corpus)))
    assert len(used) >= 600
    assert used <= {*miniature.word_types(), *words.NAMES, *words.LABELS, "fine", "abusive"}


def _replies(n: int, split: str, seed: int) -> tuple[list[str], list[int]]:
    texts, labels = [], []
    for kind in ("clean", "toxic"):
        for document in miniature.documents(n, kind=kind, seed=seed, split=split):
            for line in document.text.split("\n"):
                if line.endswith("]"):
                    said, mark = line.rsplit(" [", 1)
                    texts.append(said.split(":", 1)[1])
                    labels.append(int(mark == "abusive]"))
    return texts, labels


def test_a_bag_of_words_cannot_tell_civil_from_abusive_replies():
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(CountVectorizer(token_pattern=r"[a-z]+"), LogisticRegression(C=0.1, max_iter=2000))
    model.fit(*_replies(1500, "train", 0))
    texts, labels = _replies(500, "test", 1)
    auc = roc_auc_score(labels, model.decision_function(texts))
    assert 0.5 < auc <= 0.85
    # The truth sees what the bag of words cannot.
    assert [int(miniature.is_abusive(text)) for text in texts] == labels


@given(text=st.text(max_size=200))
def test_the_truth_reads_any_text(text):
    spans = miniature.abusive_spans(text)
    assert all(0 <= s.start < s.end <= len(text) for s in spans)


def test_every_meaning_has_paraphrases_without_abuse():
    import random

    scene = Scene.draw(random.Random(0))
    from detox.miniature.grammar import MEANINGS as TEMPLATES

    for meaning in MEANINGS:
        scene.fresh()
        wordings = {fill(template + ".", scene).text for template in TEMPLATES[meaning]}
        assert len(wordings) >= 4
        assert not any(miniature.is_abusive(wording) for wording in wordings)


def test_sentences_are_dealt_to_splits_by_their_text():
    import random

    scene = Scene.draw(random.Random(0))
    counts = {"train": 0, "fit": 0, "test": 0}
    for _ in range(2000):
        scene.fresh()
        counts[split_of(fill("the {item} is in the {place} near the {building}.", scene).text)] += 1
    assert 0.6 < counts["train"] / 2000 < 0.8
    assert counts["fit"] > 100
    assert counts["test"] > 250
    sentence = draw("test", lambda: (scene.fresh(), fill("a {quality} {item} on {day}.", scene))[1])
    assert split_of(sentence.text) == "test"
