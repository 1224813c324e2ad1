from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detox import LanguageModel, Sampling, evaluate
from detox.data.making.prompts import Instructions
from detox.data.records import LabelledText
from detox.errors import InputError, UnknownName
from detox.evaluation import Protocol, RewriteTask, Scorecard
from detox.evaluation.rewriting import rewrite_counts, rewrite_metrics, rewrite_table
from detox.models import Completion
from tests.evaluation.test_harness import Rudeness


class Words:
    """Texts are as near as their words: a dimension a word."""

    def __init__(self):
        self.place = {}

    def identity(self):
        return {"name": "words"}

    def embed(self, texts):
        rows = np.zeros((len(texts), 64), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in text.split():
                row[self.place.setdefault(word, len(self.place))] = 1.0
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


AGAIN = Instructions(safe="{sentence} again:", closing="", frame="{instruction}")


def asked(texts, labels=None, **changes):
    marks = labels or [None] * len(texts)
    task = RewriteTask(
        texts=tuple(
            LabelledText(id=str(i), text=t, label=m) for i, (t, m) in enumerate(zip(texts, marks, strict=True))
        ),
        embedder=Words(),
        instructions=AGAIN,
    )
    return Protocol(**{"name": "rewriting", "rewriting": task, "scorers": (Rudeness(),), "threshold": 0.5} | changes)


def answer(text, finish_reason="eos"):
    return Completion(text, tuple(range(len(text.split()))), finish_reason)


def measured(protocol, answers):
    table = rewrite_table(protocol, protocol.rewriting, [[answer(*_pair(one)) for one in row] for row in answers])
    return table, rewrite_metrics(protocol, protocol.rewriting, table)


def _pair(one):
    return one if isinstance(one, tuple) else (one,)


def test_paraphrases_are_scored_and_compared_with_what_they_say_again():
    protocol = asked(["rude1 topic1", "topic2 topic3"], [1, 0])
    answers = [
        [
            '"kind1 topic1"',
            " Rude1  TOPIC1\nand more of it",
        ],  # unquoted, half of the words; copied, and the first line alone
        [
            "I cannot paraphrase that.",
            ("topic2. rude1 and", "length"),
        ],  # refused; never ended, so what was to come is unknown
    ]
    table, metrics = measured(protocol, answers)
    assert table["kind"] == ["paraphrase", "paraphrase", "refused", "unfinished"]
    assert table["copied"] == [False, True, False, False]
    assert table["similarity"][0] == pytest.approx(0.5)
    assert all(math.isnan(value) for value in table["similarity"][2:] + table["score"][2:])
    assert rewrite_counts(table) == {"paraphrase": 2, "empty": 0, "refused": 1, "unfinished": 1, "unscored": 0}
    # The second text has no paraphrase: it is missing from what is said of paraphrases, never harmless.
    assert (metrics["rewriting/toxicity"].n, metrics["rewriting/toxicity"].missing) == (1, 1)
    assert metrics["rewriting/answered"].value == pytest.approx(0.5)
    assert metrics["rewriting/copied"].value == pytest.approx(0.5)
    assert metrics["rewriting/toxicity_before"].value == pytest.approx(0.25)
    assert metrics["rewriting/fraction_before"].value == pytest.approx(0.5)
    assert metrics["rewriting/fraction_before/toxic texts"].value == 1.0
    assert metrics["rewriting/toxicity/safe texts"].missing == 1


def test_a_thought_that_does_not_end_is_no_paraphrase():
    table, metrics = measured(asked(["topic1"]), [[("<think>\nthe user wants kind1", "length")]])
    assert table["kind"] == ["unfinished"]
    assert metrics["rewriting/toxicity"].missing == 1
    table, _ = measured(asked(["topic1"]), [["<think>\nwell\n</think>\n\nkind1 topic1"]])
    assert table["similarity"][0] == pytest.approx(1 / math.sqrt(2))


def test_a_paraphrase_that_cannot_be_scored_is_missing():
    table, metrics = measured(asked(["topic1 topic2"]), [["kind3 topic1"]])
    assert rewrite_counts(table)["unscored"] == 1
    assert metrics["rewriting/toxicity"].missing == 1
    assert metrics["rewriting/similarity"].value == pytest.approx(0.5)


WORDS = st.lists(st.sampled_from(["rude1", "rude2", "topic1", "topic2", "kind1"]), min_size=1, max_size=5).map(" ".join)


@given(st.lists(st.tuples(WORDS, st.lists(WORDS, min_size=2, max_size=2)), min_size=1, max_size=6))
def test_estimates_are_those_of_the_formula(rows):
    protocol = asked([text for text, _ in rows])
    _, metrics = measured(protocol, [answers for _, answers in rows])

    def toxicity(text):
        return sum(word.startswith("rude") for word in text.split()) / len(text.split())

    def cosine(a, b):
        a, b = set(a.split()), set(b.split())
        return len(a & b) / math.sqrt(len(a) * len(b))

    expected = {
        "toxicity": np.mean([np.mean([toxicity(a) for a in answers]) for _, answers in rows]),
        "fraction": np.mean([np.mean([toxicity(a) >= 0.5 for a in answers]) for _, answers in rows]),
        "toxicity_before": np.mean([toxicity(text) for text, _ in rows]),
        "similarity": np.mean([np.mean([cosine(text, a) for a in answers]) for text, answers in rows]),
        "copied": np.mean([np.mean([text == a for a in answers]) for text, answers in rows]),
        "answered": 1.0,
    }
    for name, value in expected.items():
        assert metrics[f"rewriting/{name}"].value == pytest.approx(value, abs=1e-6), name


def test_a_model_says_texts_again(planted, tmp_path):
    texts = [(c.prompt + c.toxic[0]).strip() for c in planted.heldout[:6]]
    protocol = asked(texts, sampling=Sampling(max_new_tokens=5, num_return_sequences=2, seed=3))
    protocol = replace(protocol, rewriting=replace(protocol.rewriting, form="plain"))
    card = evaluate(planted.lm, protocol)
    assert card.tables["rewriting"]["kind"] == ["unfinished"] * 12  # this model never ends a text, nor a sentence
    assert card["rewriting/toxicity"].missing == 6
    assert card["rewriting/toxicity_before"].value > 0.4
    assert card.texts is None
    assert evaluate(planted.lm, protocol).tables["rewriting"]["tokens"] == card.tables["rewriting"]["tokens"]
    card.save(tmp_path / "card")
    table = Scorecard.load(tmp_path / "card").tables["rewriting"]
    again = rewrite_metrics(protocol, protocol.rewriting, table)
    assert {name: one.value for name, one in again.items()} == pytest.approx(
        {name: one.value for name, one in card.metrics.items()}, abs=1e-5, nan_ok=True
    )


def test_the_request_is_a_turn_where_there_is_a_chat_template(planted, monkeypatch):
    import copy

    import detox.evaluation.rewriting as rewriting

    given = []

    def recorded(lm, prompts, sampling):
        given.append(prompts)
        return [[answer("kind1")] for _ in prompts]

    monkeypatch.setattr(rewriting, "generate", recorded)
    tokenizer = copy.deepcopy(planted.lm.tokenizer)
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %} says"
    evaluate(planted.lm, asked(["rude1"]))
    evaluate(LanguageModel(planted.lm.model, tokenizer), asked(["rude1"]))
    assert given == [["rude1 again:"], [[{"role": "user", "content": "rude1 again:"}]]]


def test_identity_hangs_on_all_that_changes_a_number():
    protocol = asked(["rude1"])
    task = protocol.rewriting

    class Other(Words):
        def identity(self):
            return {"name": "others"}

    changes = [
        {"form": "plain"},
        {"embedder": Other()},
        {"texts": (LabelledText(id="0", text="rude2"),)},
        {"instructions": replace(AGAIN, safe="{sentence} once more:")},
        {"instructions": replace(AGAIN, frame="> {instruction}")},
    ]
    digests = {replace(protocol, rewriting=replace(task, **change)).digest() for change in changes}
    assert len({protocol.digest(), *digests}) == len(changes) + 1
    # What is asked on the toxic side is no part of this.
    same = replace(task, instructions=replace(AGAIN, toxic="worse: {sentence}"))
    assert replace(protocol, rewriting=same).digest() == protocol.digest()


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"texts": ()}, InputError, "rewriting has no texts"),
        ({"texts": (LabelledText(id="a", text=" "),)}, InputError, "text 'a' has 0 lines; expected one"),
        ({"texts": (LabelledText(id="a", text="b\nc"),)}, InputError, "text 'a' has 2 lines; expected one"),
        ({"texts": (LabelledText(id="a", text="b"),) * 2}, InputError, "two texts with id 'a'"),
        ({"form": "chatt"}, UnknownName, "did you mean 'chat'"),
        ({"embedder": object()}, InputError, "object is no embedder"),
    ],
)
def test_wrong_tasks_are_refused(change, error, says):
    with pytest.raises(error, match=says):
        replace(asked(["rude1"]).rewriting, **change)


def test_rewriting_needs_a_scorer():
    with pytest.raises(InputError, match="has rewriting but no scorers"):
        asked(["rude1"], scorers=())
