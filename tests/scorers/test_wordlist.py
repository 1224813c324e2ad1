import pytest
from hypothesis import given
from hypothesis import strategies as st

from detox.data.records import LexiconTerm
from detox.errors import DataError, InputError, MissingData, UnknownName
from detox.scorers import WordListScorer, load_scorer, score_texts

TERMS = {"idiot": 1.0, "fool": 0.5, "piece of cake": 0.8, "piece of junk": 0.9, "@#!": 0.6, "f00l": 0.4, "d'oh": 0.3}


def value(text, terms=TERMS, **options):
    (score,) = WordListScorer(terms, **options).score([text])
    return score.value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("what an IDIOT!", 1.0),
        ("idiotic idiots", 0.0),
        ("a foolish fool", 0.5),
        ("a piece  of\njunk", 0.9),
        ("piece-of-junk", 0.9),
        ("a piece of paper, of junk", 0.0),
        ("no @#! way", 0.6),
        ("no@#!way", 0.0),
        ("no@#! way", 0.0),
        ("no @#!way", 0.0),
        ("F00L", 0.4),
        ("D\u2019oh is not d'oh", 0.3),
        ("quiet garden", 0.0),
        ("\u05e9\u05dc\u05d5\u05dd idiot", 1.0),
    ],
)
def test_the_worst_term_counts(text, expected):
    assert value(text) == expected


def test_fraction_is_the_share_of_words_that_are_listed():
    assert value("you idiot, you fool there", match="fraction") == pytest.approx((1.0 + 0.5) / 5)
    assert value("a piece of junk", match="fraction") == pytest.approx(0.9 * 3 / 4)
    assert value("idiot idiot", match="fraction") == 1.0
    assert value("@#! @#!", match="fraction") == 1.0
    assert value("quiet garden", match="fraction") == 0.0


@given(st.text(st.characters(exclude_categories=[])), st.sampled_from(["any", "fraction"]))
def test_any_text_gets_a_score_or_is_empty(text, match):
    scorer = WordListScorer(TERMS, match=match)
    (score,) = score_texts(scorer, [text])
    assert scorer.score([text])[0].reason == score.reason in (None, "empty")


@given(st.lists(st.sampled_from([*TERMS, "garden", "tea", ","]), max_size=12))
def test_more_text_never_lowers_the_worst_term(words):
    assert value(" ".join(words) + " tea") <= value(" ".join(words) + " tea idiot")


def test_terms_may_come_without_severity_and_in_any_case():
    assert value("FOOL", ["Fool"]) == 1.0
    assert value("stra\u00dfe", ["STRASSE"]) == 1.0


def test_identity_is_the_content(tmp_path):
    card = WordListScorer(TERMS).card
    assert WordListScorer(dict(reversed(TERMS.items()))).card.identity() == card.identity()
    assert WordListScorer(TERMS | {"fool": 0.6}).card.identity() != card.identity()
    assert WordListScorer(TERMS, match="fraction").card.identity() != card.identity()
    assert card.trained_on == ()


def test_a_file_has_one_term_a_line(tmp_path):
    file = tmp_path / "terms.txt"
    file.write_text("idiot\n\nfool\t0.5\npiece of junk\t.9\n", encoding="utf-8")
    scorer = WordListScorer.from_file(file)
    assert [score.value for score in scorer.score(["idiot", "a fool", "piece of junk"])] == [1.0, 0.5, 0.9]
    for wrong in ("high", "0", "2", "nan"):
        file.write_text(f"idiot\nfool\t{wrong}\n")
        with pytest.raises(DataError, match=rf"terms\.txt:2: severity '?{wrong}"):
            WordListScorer.from_file(file)
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="UTF-8"):
        WordListScorer.from_file(file)
    with pytest.raises(MissingData, match="no word list at"):
        WordListScorer.from_file(tmp_path / "none.txt")


def test_lexicons_keep_their_own_grades():
    lexicons = [
        LexiconTerm(id="0", text="fool", source="surge", severity=1.0),
        LexiconTerm(id="1", text="idiot", source="ldnoobw"),
        LexiconTerm(id="2", text="moron", source="wiegand_base", severity=1.0),
        LexiconTerm(id="3", text="garden", source="wiegand_base", severity=0.0),
        LexiconTerm(id="4", text="tea", source="wiegand_expanded", severity=2.5),
    ]
    texts = ["fool", "idiot", "moron", "garden", "tea"]
    values = [score.value for score in WordListScorer.from_lexicons(lexicons).score(texts)]
    assert values == [pytest.approx(1 / 3), 1.0, 1.0, 0.0, 0.0]
    only = WordListScorer.from_lexicons(lexicons, sources=["surge"]).score(texts)
    assert [score.value > 0 for score in only] == [True, False, False, False, False]
    with pytest.raises(UnknownName, match="lexicon 'surg'; did you mean 'surge'"):
        WordListScorer.from_lexicons(lexicons, sources=["surg"])


def test_without_a_data_directory_there_are_no_lexicons(tmp_path, monkeypatch):
    monkeypatch.setenv("DETOX_DATA", str(tmp_path / "none"))
    with pytest.raises(MissingData, match="DETOX_DATA"):
        load_scorer("wordlist")


def test_wrong_terms_are_refused_without_quoting_them():
    with pytest.raises(InputError, match="no term"):
        WordListScorer([])
    for terms in ({" ": 1.0}, {"idiot": 0.0}, {"idiot": 1.5}, {"idiot": float("nan")}):
        with pytest.raises(InputError, match="severity") as error:
            WordListScorer(terms)
        assert "idiot" not in str(error.value)
    with pytest.raises(UnknownName, match="match 'all'"):
        WordListScorer(["idiot"], match="all")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("what an IDIOT!", ["IDIOT"]),
        ("idiotic idiots", []),
        ("a piece  of\njunk, a fool", ["piece  of\njunk", "fool"]),
        ("Straße ẞ İstanbul FOOL", ["FOOL"]),  # folding makes two characters of some
        ("no @#! way, 😀 fool", ["@#!", "fool"]),
        ("\ud83d\ude00 \ud83d fool ß", ["fool"]),
        ("שלום idiot", ["idiot"]),
        ("", []),
    ],
)
def test_spans_are_the_characters_of_the_terms(text, found):
    assert [text[start:end] for start, end in WordListScorer(TERMS).spans(text)] == found


def test_a_character_that_folds_to_two_is_one_character():
    text = "İ STRASSE straße ſß"
    assert [text[start:end] for start, end in WordListScorer(["straße"]).spans(text)] == ["STRASSE", "straße"]


@given(st.lists(st.sampled_from([*TERMS, "garden", "ß", "İ", "😀", ",", " ", "\n", "\ud83d", "\ude00"]), max_size=15))
def test_spans_are_found_exactly_where_the_score_says_so(pieces):
    text = " ".join(pieces)
    scorer = WordListScorer(TERMS)
    spans = scorer.spans(text)
    assert bool(spans) == (scorer.score([text])[0].value > 0)
    for start, end in spans:  # each alone is worth something
        assert 0 <= start < end <= len(text)
        assert scorer.score([text[start:end]])[0].value > 0
