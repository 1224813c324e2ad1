"""Risk labels in memory: sentences, bands, words, merging; against what the text says at each character."""

from __future__ import annotations

import itertools
import random

import pytest
import sentencex
from hypothesis import example, given
from hypothesis import strategies as st

from detox.data.records import Document, Span, middle_kind
from detox.errors import DataError, InputError, UnknownName
from detox.pretraining import (
    AnnotationCounts,
    SentenceAnnotator,
    SpanAnnotator,
    WordAnnotator,
    annotate,
    merge_spans,
    sentences,
)
from detox.scorers import Score, ScorerCard, WordListScorer


class Marks:
    """Scores a text by the marks in it: `9` .995, `5` .5, `0` exactly .0001, `?` missing; anything else 0."""

    card = ScorerCard(name="marks", revision="1", trained_on=(), max_length=None, beyond="all is read")

    def __init__(self):
        self.calls: list[list[str]] = []

    def score(self, texts):
        self.calls.append(list(texts))
        return [self.one(text) for text in texts]

    def one(self, text):
        if "?" in text:
            return Score.missing("a question")
        return Score(next((value for mark, value in (("9", 0.995), ("5", 0.5), ("0", 1e-4)) if mark in text), 0.0))


def document(text, *spans, id="d"):
    return Document(id=id, text=text, spans=tuple(spans))


# Sentences


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("Hello you. I am 😀 here! Ünï is.\n\nYes.", "en", ["Hello you.", "I am 😀 here!", "Ünï is.", "Yes."]),
        ("日本語です。もう一つ。", "ja", ["日本語です。", "もう一つ。"]),
        ("हिन्दी वाक्य है। दूसरा वाक्य।", "hi", ["हिन्दी वाक्य है।", "दूसरा वाक्य।"]),
        ("שלום. טוב.", "he", ["שלום.", "טוב."]),
        ("Mr. Smith went. 👩‍👩‍👧 too.", "en", ["Mr. Smith went.", "👩‍👩‍👧 too."]),
        ("  one \t\n\n two  ", "en", ["one", "two"]),
        ("\u200b\n\n \ufeff", "en", []),
        ("", "en", []),
        (" \n ", "en", []),
        ("It is so. Then\u3000two.", "xx", ["It is so.", "Then\u3000two."]),  # a language it does not know
    ],
)
def test_slices_of_the_text_are_the_sentences(text, language, expected):
    assert [text[start:end] for start, end in sentences(text, language=language)] == expected


def characters_outside(text, places):
    inside = {at for start, end in places for at in range(start, end)}
    return "".join(character for at, character in enumerate(text) if at not in inside)


_PIECES = [
    *"ab .!?。।\n\r\t\"'()“”«»…😀é日ש\u200b\ufeff\u2028\x850129,;:-[]{}A\u3000\xa0\u1680\x1c\x0b\ud83d\ude00\0",
    "Mr. ", "e.g. ", "\n\n", "\r\n\r\n", "[1]", "👩‍👩‍👧", "e\u0301", " U.S. ", "word ", "The end. ", "x" * 300,
]  # fmt: skip


@given(st.text(st.sampled_from("ab .!?。।\n\t\"'()😀é日9A")), st.sampled_from(["en", "de", "ja", "hi"]))
def test_sentences_are_those_of_the_segmenter(text, language):
    pieces = [piece.strip() for piece in sentencex.segment(language, text)]
    assert [text[start:end] for start, end in sentences(text, language=language)] == [one for one in pieces if one]


@given(st.lists(st.sampled_from(_PIECES)).map("".join) | st.text(), st.sampled_from(["en", "de", "ja", "hi", "ar", ""]))
@example("A\u2028.", "en")  # stops sentencex itself
@example("A\u3000.", "ja")
def test_sentences_leave_out_nothing_that_is_visible(text, language):
    places = sentences(text, language=language)
    assert all(0 <= start < end <= len(text) for start, end in places)
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(places))
    for start, end in places:
        assert text[start:end].strip() == text[start:end]
    assert not any(character.isalnum() or character in "😀.!?。।" for character in characters_outside(text, places))


@pytest.mark.parametrize("seed", range(12))
def test_long_texts_lose_no_character(seed):
    # Above 10,000 bytes sentencex cuts a text into parts and leaves out what is between them.
    rng = random.Random(seed)
    pieces = rng.sample([piece for piece in _PIECES if not piece.startswith(("\ud83d", "\ude00"))], rng.randint(3, 20))
    text = "".join(rng.choice(pieces) for _ in range(12_000))
    places = sentences(text, language=rng.choice(["en", "ja"]))
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(places))
    assert not any(character.isalnum() for character in characters_outside(text, places))


# Bands


def test_two_thresholds_make_three_bands():
    text = "Fine here. Bad 9 one! So so 5 this. Edge 0 one. Ünï 😀 9 too. Who? Fine."
    counts = AnnotationCounts()
    (found,) = annotate([document(text)], SentenceAnnotator(Marks()), counts=counts)
    assert [(text[span.start : span.end], span.kind) for span in found.spans] == [
        ("Bad 9 one!", "toxic"),
        ("So so 5 this.", "toxic:middle"),
        ("Ünï 😀 9 too.", "toxic"),
        ("Who?", "toxic:middle"),  # could not be scored
    ]
    assert counts.sentences == sum(counts.sentences_by_band.values()) == 7
    assert counts.sentences_by_band == {"risky": 2, "middle": 1, "safe": 3, "unscored": 1}
    assert counts.unscored == {"a question": 1}
    (example,) = counts.unscored_examples
    assert "'d'" in example
    assert "Who" not in example
    assert counts.characters_by_kind == {
        "toxic": len("Bad 9 one!Ünï 😀 9 too."),
        "toxic:middle": len("So so 5 this.Who?"),
    }
    assert (counts.documents, counts.characters) == (1, len(text))


@pytest.mark.parametrize("score", [0.0, 1e-4, 0.0002, 0.5, 0.99, 0.991, 1.0])
def test_a_threshold_itself_belongs_to_the_band_below(score):
    class Fixed(Marks):
        def one(self, text):
            return Score(score)

    (found,) = annotate([document("A text")], SentenceAnnotator(Fixed()))
    expected = ["toxic"] if score > 0.99 else [middle_kind("toxic")] if score > 1e-4 else []
    assert [span.kind for span in found.spans] == expected


def test_what_cannot_be_scored_is_what_one_says_and_is_always_counted():
    kinds = {"middle": ["x:middle"], "risky": ["x"], "safe": []}
    for missing, expected in kinds.items():
        counts = AnnotationCounts()
        (found,) = annotate([document("Who?")], SentenceAnnotator(Marks(), kind="x", missing=missing), counts=counts)
        assert [span.kind for span in found.spans] == expected
        assert counts.sentences_by_band["unscored"] == counts.unscored["a question"] == 1
    with pytest.raises(InputError, match=r"'d', characters \[4, 8\): scorer 'marks' could not .* \(a question\)"):
        list(annotate([document("No. Who?")], SentenceAnnotator(Marks(), missing="error")))


def test_sentences_of_many_documents_are_scored_at_once():
    scorer = Marks()
    documents = [document(f"One {i}. Two!", id=str(i)) for i in range(50)]
    assert [one.id for one in annotate(documents, SentenceAnnotator(scorer))] == [one.id for one in documents]
    assert [len(call) for call in scorer.calls] == [100]


def test_documents_come_as_they_are_needed():
    drawn = []

    def endless():
        while True:
            drawn.append(len(drawn))
            yield document("Some text that is fine. " * 1000)

    stream = annotate(endless(), SentenceAnnotator(Marks()))
    next(stream)
    assert len(drawn) < 100


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"toxic_above": 1.5}, "toxic_above is 1.5"),
        ({"toxic_above": float("nan")}, "toxic_above is nan"),
        ({"toxic_above": 0.1, "middle_above": 0.2}, "middle_above <= toxic_above"),
        ({"middle_above": -0.1}, "middle_above -0.1"),
        ({"missing": "saef"}, "did you mean 'safe'"),
        ({"kind": " "}, "kind is ' '"),
        ({"kind": "toxic:middle"}, "does not end in ':middle'"),
    ],
)
def test_wrong_settings_are_one_line(options, message):
    with pytest.raises(InputError, match=message) as error:
        SentenceAnnotator(Marks(), **options)
    assert "\n" not in str(error.value)


def test_equal_thresholds_leave_no_middle():
    (found,) = annotate([document("Bad 9. So 5.")], SentenceAnnotator(Marks(), toxic_above=0.6, middle_above=0.6))
    assert [span.kind for span in found.spans] == ["toxic"]


# Words and spans


def test_words_are_spans_of_their_kind():
    text = "Ask Ada Lovelace, 😀 Ada LOVELACE or ẞ@#!"
    (found,) = annotate([document(text)], WordAnnotator(WordListScorer(["ada lovelace", "@#!"]), "personal-name"))
    assert [(text[s.start : s.end], s.kind) for s in found.spans] == [
        ("Ada Lovelace", "personal-name"),
        ("Ada LOVELACE", "personal-name"),
    ]


def test_kinds_add_up_over_annotations():
    text = "Bad Ada 9. Fine."
    first = annotate([document(text, Span(14, 16, "copyrighted"))], SentenceAnnotator(Marks()))
    (found,) = annotate(first, WordAnnotator(WordListScorer(["ada"]), "personal-name"))
    assert found.spans == (Span(0, 10, "toxic"), Span(4, 7, "personal-name"), Span(14, 16, "copyrighted"))


def covered(spans):
    return {(span.kind, at) for span in spans for at in range(span.start, span.end)}


spans = st.builds(
    lambda start, length, kind: Span(start, start + length, kind),
    st.integers(0, 30),
    st.integers(1, 12),
    st.sampled_from(["toxic", "toxic:middle", "copyrighted"]),
)


@given(st.lists(spans, max_size=12))
def test_merging_keeps_every_character_and_its_kinds(given_spans):
    merged = merge_spans(given_spans)
    assert covered(merged) == covered(given_spans)
    assert list(merged) == sorted(merged)
    for kind in {span.kind for span in merged}:
        of_kind = [span for span in merged if span.kind == kind]
        assert all(before.end < after.start for before, after in itertools.pairwise(of_kind))
    assert merge_spans(merged) == merged
    assert merge_spans(reversed(given_spans)) == merged


@given(
    st.lists(st.sampled_from(["Bad 9 x. ", "So 5. ", "Fine! ", "😀. ", "\n\n", "日9。", "  "])),
    st.lists(spans, max_size=4),
)
def test_each_character_has_the_kind_of_its_sentence_or_had_it(parts, own):
    text = "".join(parts) + "x" * 50
    (found,) = annotate([document(text, *own)], SentenceAnnotator(Marks(), language="ja"))
    scorer = Marks()
    expected = covered(own)
    for start, end in sentences(text, language="ja"):
        value = scorer.one(text[start:end]).value
        if value > 1e-4:
            expected |= covered([Span(start, end, "toxic" if value > 0.99 else "toxic:middle")])
    assert covered(found.spans) == expected


def test_spans_alone_are_merged():
    given_spans = (Span(4, 6), Span(0, 5), Span(2, 3, "x"))
    (found,) = annotate([document("ten characters", *given_spans)], SpanAnnotator())
    assert found.spans == (Span(0, 6), Span(2, 3, "x"))


# What is not text


@pytest.mark.parametrize(("text", "problem"), [("a\0b", "NUL"), ("a\ud800b", "lone surrogate")])
def test_text_that_cannot_be_stored_is_refused_or_counted(text, problem):
    good = [document("Bad 9.", id="1"), document("", id="2")]
    with pytest.raises(DataError, match=f"'odd': a {problem}"):
        list(annotate([good[0], document(text, id="odd"), good[1]], SentenceAnnotator(Marks())))
    counts = AnnotationCounts()
    found = list(
        annotate(
            [good[0], document(text, id="odd"), good[1]], SentenceAnnotator(Marks()), invalid="skip", counts=counts
        )
    )
    assert [one.id for one in found] == ["1", "2"]
    assert (counts.documents, counts.empty_documents, counts.invalid) == (2, 1, 1)
    assert problem in counts.invalid_examples[0]


def test_what_is_passed_wrongly_is_said():
    with pytest.raises(UnknownName, match="invalid 'skp'"):
        annotate([], SpanAnnotator(), invalid="skp")
    with pytest.raises(InputError, match="got str; expected Document"):
        list(annotate(["text"], SpanAnnotator()))
    assert list(annotate([], SentenceAnnotator(Marks()))) == []


def test_counts_add_up_and_come_back_from_json():
    whole, parts = AnnotationCounts(), AnnotationCounts()
    documents = [document(f"Bad 9. Who {i}? So 5.", id=str(i)) for i in range(30)]
    list(annotate(documents, SentenceAnnotator(Marks()), counts=whole))
    for one in documents:
        part = AnnotationCounts()
        list(annotate([one], SentenceAnnotator(Marks()), counts=part))
        parts += AnnotationCounts.from_dict(part.to_dict())
    assert parts == whole
    assert len(whole.unscored_examples) == 10
