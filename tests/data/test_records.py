from __future__ import annotations

import pytest

from detox.data.records import (
    Document,
    LabelledText,
    MultipleChoice,
    Prompt,
    Span,
    is_middle,
    middle_kind,
    span_from_json,
    span_to_json,
)
from detox.errors import InputError


@pytest.mark.parametrize(
    "make",
    [
        lambda: Prompt(id="p", text="t", toxicity=1.01),
        lambda: Prompt(id="p", text="t", toxicity=float("nan")),
        lambda: LabelledText(id="l", text="t", label=2),
        lambda: LabelledText(id="l", text="t", label=1, score=-0.1),
        lambda: Document(id="d", text="abc", spans=(Span(1, 4),)),
        lambda: Document(id="d", text="abc", spans=(Span(2, 2),)),
        lambda: MultipleChoice(id="m", context="", choices=("a",), answer=0),
        lambda: MultipleChoice(id="m", context="", choices=("a", ""), answer=0),
        lambda: MultipleChoice(id="m", context="", choices=("a", "b"), answer=2),
        lambda: MultipleChoice(id="m", context="", choices=("a", "b"), answer=0, contexts=("c",)),
    ],
)
def test_a_record_refuses_what_it_cannot_hold(make):
    with pytest.raises(InputError, match="expected"):
        make()


def test_what_is_unknown_is_none():
    assert LabelledText(id="l", text="t", label=None).score is None
    assert Prompt(id="p", text="t").toxicity is None


@pytest.mark.parametrize(
    ("value", "span"),
    [
        ([1, 3], Span(1, 3)),
        ([1, 3, "personal-name"], Span(1, 3, "personal-name")),
        ({"start": 1, "end": 3}, Span(1, 3, "toxic")),
        ({"start": 1, "end": 3, "kind": middle_kind("toxic")}, Span(1, 3, "toxic:middle")),
        ((1, 3), Span(1, 3)),
        ([1], None),
        ([1, 3, " "], None),
        ([1, 3, 5], None),
        ([1, 3, "a", "b"], None),
        ([True, 3], None),
        ([1.0, 3], None),
        ({"start": 1}, None),
        ({"start": 1, "end": 3, "sort": "toxic"}, None),
        ("13", None),
        (None, None),
    ],
)
def test_spans_are_read_from_json(value, span):
    assert span_from_json(value) == span
    assert span is None or span_from_json(span_to_json(span)) == span


def test_a_span_without_a_kind_is_toxic_and_written_as_before():
    assert Span(1, 3) == Span(1, 3, "toxic")
    assert span_to_json(Span(1, 3)) == [1, 3]
    assert span_to_json(Span(1, 3, "copyrighted")) == [1, 3, "copyrighted"]
    assert sorted([Span(2, 3), Span(1, 3, "b"), Span(1, 3, "a")]) == [Span(1, 3, "a"), Span(1, 3, "b"), Span(2, 3)]
    assert middle_kind("toxic") == "toxic:middle"
    assert is_middle("toxic:middle")
    assert not is_middle("toxic")
