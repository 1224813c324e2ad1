import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detox.data.records import Document, Span
from detox.errors import InputError, UnknownName
from detox.pretraining import Condition, Mixture, Source, Treatment, apply_arm, span_toxicity, train_tokenizer
from detox.scorers import Score, ScorerCard

LENGTH = 16


@cache
def tokenizer():
    return train_tokenizer(["abcdefgh"], 258)


@st.composite
def documents(draw):
    text = draw(
        st.text(st.one_of(st.sampled_from("ab é👩‍👧中"), st.characters(exclude_categories=["Cs"])), max_size=30)
    )
    ends = st.tuples(st.integers(0, len(text)), st.integers(0, len(text)), st.sampled_from(["toxic", "name"]))
    spans = [Span(min(a, b), max(a, b), kind) for a, b, kind in draw(st.lists(ends, max_size=3)) if a != b]
    return Document(id=draw(st.text(max_size=5)), text=text, spans=tuple(spans))


@given(document=documents(), form=st.sampled_from(["meda", "inst"]), prefix_loss=st.sampled_from(["train", "mask"]))
@settings(max_examples=200, deadline=None)
def test_spans_move_with_the_text(document, form, prefix_loss):
    condition = Condition(form=form, prefix_loss=prefix_loss)
    (prefix,) = condition.prefixes([document], Treatment(), seed=0)
    found = condition.prefixed(document, prefix)
    assert found.text == prefix + document.text
    assert bool(prefix) == bool(document.text.strip())
    moved = [span for span in found.spans if span.kind != "context"]
    assert [(found.text[s.start : s.end], s.kind) for s in moved] == [
        (document.text[s.start : s.end], s.kind) for s in document.spans
    ]
    masked = [found.text[s.start : s.end] for s in found.spans if s.kind == "context"]
    assert masked == ([prefix] if prefix and prefix_loss == "mask" else [])


@given(document=documents(), kinds=st.sampled_from([None, ("toxic",), ("name", "toxic")]))
@settings(max_examples=200, deadline=None)
def test_toxicity_by_spans_against_a_count_of_characters(document, kinds):
    treatment = Treatment(risky=kinds)
    risky = [
        any(s.start <= i < s.end and s.kind in (kinds or ("toxic", "name")) for s in document.spans)
        for i in range(len(document.text))
    ]
    assert span_toxicity(document, treatment) == pytest.approx(sum(risky) / max(len(risky), 1))
    assert span_toxicity(document, treatment, by="any") == float(any(risky))


def test_the_templates_say_how_toxic_a_text_is():
    meda, inst = Condition(form="meda"), Condition(form="inst")
    assert meda.prefix(0.25) == "toxicity: 0.2 "
    assert meda.safe_prefix() == "toxicity: 0.0 "
    assert (inst.prefix(0.01), inst.safe_prefix()) == (
        "The following text is toxic. ",
        "The following text is not toxic. ",
    )
    mine = Condition(form="meda", meda_template="[{toxicity:.0%}] ")
    assert (mine.prefix(0.5), mine.safe_prefix()) == ("[50%] ", "[0%] ")
    strict = replace(inst, threshold=0.4, inst_safe="fine: ", inst_toxic="rude: ")
    assert [strict.prefix(value) for value in (0.4, 0.41)] == ["fine: ", "rude: "]


def test_the_safe_prefix_is_what_prompting_puts_before_a_prompt():
    from detox import Prompting
    from detox.detoxifiers.prompting import PRESETS

    for form in ("meda", "inst"):
        assert Condition(form=form).safe_prefix() == PRESETS[form]
        Prompting(text=Condition(form=form).safe_prefix())


class LengthScorer:
    """Long texts are toxic; of the letter x it cannot say."""

    card = ScorerCard(name="length", revision="1", trained_on=(), max_length=None, beyond="read whole")

    def score(self, texts):
        return [Score.missing("x") if "x" in text else Score(min(1.0, len(text) / 10)) for text in texts]


def test_a_scorer_measures_toxicity_and_what_it_cannot_score_gets_no_prefix():
    condition = Condition(form="inst", scorer=LengthScorer())
    texts = ["aa", "a" * 9, "x", " "]
    given_ = [Document(id=str(i), text=text, spans=(Span(0, 1),)) for i, text in enumerate(texts)]
    assert condition.prefixes(given_, Treatment(), seed=0) == [condition.inst_safe, condition.inst_toxic, "", ""]
    card = condition.card()
    assert (card["scorer"]["name"], card["threshold"]) == ("length", 0.5)
    assert json.loads(json.dumps(card)) == card
    assert Condition(form="inst").card()["threshold"] == 0.0


def drawn(share, seed=0):
    condition = Condition(form="meda", share=share)
    return {i for i in range(2000) if condition.draws(f"d{i}", seed=seed)}


def test_the_share_is_drawn_by_seed_and_id_alone():
    assert len(drawn(0.3)) == pytest.approx(600, abs=80)
    assert drawn(0.1) < drawn(0.3) < drawn(1.0) == set(range(2000))
    assert drawn(0.0) == set()
    assert drawn(0.3, seed=1) != drawn(0.3)


def mixture(**options):
    clean = [Document(id=f"p{i}", text="p" * 15) for i in range(40)]
    toxic = [Document(id=f"t{i}", text="q T q", spans=(Span(2, 3),)) for i in range(60)]
    toxic_source = Source(name="toxic", documents=toxic, share=0.2, condition=options.pop("toxic", None))
    return Mixture(sources=(Source(name="clean", documents=clean), toxic_source), **options)


def read(asked):
    packed = asked.pack(tokenizer(), sequence_length=LENGTH)
    return packed, tokenizer().decode(packed.tokens.reshape(-1).tolist()).split("<|endoftext|>")


def test_documents_of_a_mixture_begin_with_how_toxic_they_are():
    packed, texts = read(mixture(condition=Condition(form="inst", inst_safe="S:", inst_toxic="T:")))
    assert {text for text in texts if len(text) == 17} == {"S:" + "p" * 15}
    assert "T:q T q" in texts
    assert {text[:2] for text in texts[1:-2]} == {"S:", "T:"}
    assert [source.conditioned_documents for source in packed.sources] == [s.documents for s in packed.sources]
    assert packed.sources[0].condition["inst_safe"] == "S:"
    assert json.loads(json.dumps(packed.card())) == packed.card()


def test_a_share_of_the_documents_and_a_source_of_its_own():
    packed, texts = read(mixture(toxic=Condition(form="meda", meda_template="{toxicity:.1f}|", share=0.5)))
    assert packed.sources[0].condition is None
    assert packed.sources[0].conditioned_documents == 0
    assert packed.sources[1].conditioned_documents == sum(text.startswith("0.2|q") for text in texts)
    assert {text for text in texts if "T" in text and len(text) > 4} == {"0.2|q T q", "q T q"}


def test_the_prefix_is_context_alone_where_it_is_masked():
    condition = Condition(form="inst", inst_safe="S:", inst_toxic="S:", prefix_loss="mask")
    packed, _ = read(mixture(condition=condition))
    letters = np.asarray(tokenizer().convert_ids_to_tokens(packed.tokens.reshape(-1).tolist()))
    assert (packed.ignored.reshape(-1) == ((letters == "S") | (letters == ":"))).all()
    assert (packed.risk.reshape(-1) == (letters == "T")).all()


def test_the_filtered_arm_keeps_the_prefix_that_the_full_text_has():
    condition = Condition(form="meda", meda_template="{toxicity:.1f}|")
    _, texts = read(apply_arm("filtered", mixture(condition=condition)))
    assert "0.2|q q" in texts
    assert not any("T" in text for text in texts)
    gone = [Document(id=f"g{i}", text="TT", spans=(Span(0, 2),)) for i in range(50)]
    base = mixture().sources[0]
    asked = Mixture(sources=(base, Source(name="gone", documents=gone, share=0.1)), condition=condition)
    packed, texts = read(apply_arm("filtered", asked))
    assert all("p" in text or not text for text in texts[1:-1])
    assert "" not in texts[1:-1]  # what has nothing left leaves no end token either
    assert packed.sources[1].documents == packed.sources[1].tokens == 0
    assert packed.sources[1].deleted_documents > 5


def test_what_is_wrong_is_said():
    with pytest.raises(UnknownName, match="did you mean 'inst'"):
        Condition(form="instr")
    with pytest.raises(UnknownName, match="prefix_loss"):
        Condition(form="inst", prefix_loss="none")
    with pytest.raises(UnknownName, match="toxicity of a condition"):
        Condition(form="inst", toxicity="spans")
    with pytest.raises(InputError, match=r"share is 1\.5"):
        Condition(form="inst", share=1.5)
    with pytest.raises(InputError, match="share is nan"):
        Condition(form="inst", share=float("nan"))
    with pytest.raises(InputError, match="threshold 2"):
        Condition(form="inst", threshold=2.0)
    with pytest.raises(InputError, match="does not show the score"):
        Condition(form="meda", meda_template="toxic ")
    with pytest.raises(InputError, match="cannot be filled in"):
        Condition(form="meda", meda_template="{score} ")
