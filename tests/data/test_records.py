from __future__ import annotations

import pytest

from detox.data.records import Document, LabelledText, MultipleChoice, Prompt, Span
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
