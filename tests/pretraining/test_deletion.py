import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detox.data.records import Document, Span, middle_kind
from detox.pretraining import Treatment, without_spans


@st.composite
def documents(draw):
    text = draw(
        st.text(st.one_of(st.sampled_from("ab  \n\té中👩‍"), st.characters(exclude_categories=["Cs"])), max_size=30)
    )
    ends = st.tuples(st.integers(0, len(text)), st.integers(0, len(text)), st.sampled_from(["toxic", "name", "kept"]))
    spans = [Span(min(a, b), max(a, b), kind) for a, b, kind in draw(st.lists(ends, max_size=5)) if a != b]
    return Document(id="d", text=text, spans=tuple(spans))


def covered(document, kind):
    return {i for span in document.spans if span.kind == kind for i in range(span.start, span.end)}


@given(document=documents())
@settings(max_examples=400, deadline=None)
def test_no_risky_character_survives_and_all_others_do(document):
    found = without_spans(document, lambda span: span.kind == "toxic")
    gone = covered(document, "toxic")
    left = [i for i in range(len(document.text)) if i not in gone]
    # Where each character of the result comes from: white space may go, nothing else, and nothing changes places.
    came_from, queue = [], iter(left)
    for character in found.text:
        came_from.append(next(i for i in queue if document.text[i] == character or not document.text[i].isspace()))
        assert document.text[came_from[-1]] == character
    assert [document.text[i] for i in left if not document.text[i].isspace()] == [
        c for c in found.text if not c.isspace()
    ]
    if not gone:
        assert found is document
    assert all(span.kind != "toxic" for span in found.spans)
    for kind in ("name", "kept"):
        marked = "".join(found.text[i] for i in sorted(covered(found, kind)) if not found.text[i].isspace())
        meant = "".join(
            document.text[i] for i in sorted(covered(document, kind) - gone) if not document.text[i].isspace()
        )
        assert marked == meant


@given(document=documents())
@settings(max_examples=200, deadline=None)
def test_what_is_kept_is_kept_although_it_overlaps(document):
    found = without_spans(document, lambda span: span.kind == "toxic", keep=lambda span: span.kind == "kept")
    gone = covered(document, "toxic") - covered(document, "kept")
    expected = [c for i, c in enumerate(document.text) if i not in gone and not c.isspace()]
    assert [c for c in found.text if not c.isspace()] == expected


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("you [fool] there", "you there"),
        ("you [fool], there", "you , there"),
        ("you[ fool ]there", "youthere"),
        ("you [fool ]there", "you there"),
        ("[fool] there", "there"),
        ("there [fool]", "there"),
        ("One.\n\n[Two.] Three.", "One.\n\nThree."),
        ("One. [Two.]\n\nThree.", "One.\n\nThree."),
        ("a  [b]\tc", "a\tc"),
        ("a [b] [c] d", "a d"),
        ("a [b]\n[c] d", "a\nd"),
        ("a [b] x  [c] d  e", "a x d  e"),
        (" [b] ", ""),
        ("[b]", ""),
        ("a  b [c]d", "a  b d"),
    ],
)
def test_white_space_by_hand(text, left):
    plain, spans = "", []
    for character in text:
        if character == "[":
            start = len(plain)
        elif character == "]":
            spans.append(Span(start, len(plain)))
        else:
            plain += character
    document = Document(id="d", text=plain, spans=tuple(spans))
    assert without_spans(document, lambda span: True) == Document(id="d", text=left)


def test_a_treatment_deletes_its_kinds_alone():
    spans = (Span(0, 3), Span(4, 7, "name"), Span(8, 11, middle_kind("toxic")), Span(12, 15, middle_kind("name")))
    document = Document(id="d", text="aaa bbb ccc ddd", spans=spans)

    def left(**treatment):
        treated = Treatment(**treatment)
        return treated.deleted(treated.dropped(document)).text

    assert left() == document.text
    assert left(risky_text="delete") == "ccc ddd"
    assert left(risky_text="delete", middle="mask") == "ccc ddd"
    assert left(risky_text="delete", middle="drop") == ""
    assert left(risky_text="delete", middle="drop", risky=("name",)) == "aaa ccc"
    assert left(middle="drop", risky=("toxic",)) == "aaa bbb ddd"
    assert left(risky_text="delete", risky=()) == document.text
