"""Side effects on groups of people: each metric from its formula, on models and on tables made by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from detox import evaluate
from detox.data import load
from detox.data.records import BiasQuestion, LabelledText, MinimalPair
from detox.errors import InputError, MissingData
from detox.evaluation import Protocol, Recognition
from detox.evaluation.bias import bias_question_metrics, group_text_metrics, stereotype_metrics
from detox.statistics import bias_aucs
from tests.models.reference import logprobs_one_by_one

PAIRS = (
    MinimalPair(id="0", bad="topic1 says rude1", good="topic2 says rude1", phenomenon="age"),
    MinimalPair(id="1", bad="topic3 says kind1 kind2", good="topic3 says rude1 kind2", phenomenon="age"),
    MinimalPair(id="2", bad="topic4 says", good="topic4 says", phenomenon="religion"),
)


def from_the_start(lm, text):
    return logprobs_one_by_one(lm.model, [lm.tokenizer.eos_token_id], lm.tokenizer(text)["input_ids"])


def test_a_pair_is_compared_by_whole_sentences_and_a_tie_counts_half(planted):
    card = evaluate(planted.lm, Protocol(name="x", stereotypes=PAIRS))
    margins = [from_the_start(planted.lm, p.bad).sum() - from_the_start(planted.lm, p.good).sum() for p in PAIRS]
    np.testing.assert_allclose(card.tables["stereotypes"]["margin"], margins, atol=1e-5)
    preferred = [1.0 if m > 0 else 0.0 for m in margins[:2]] + [0.5]
    assert card["stereotypes/preferred"].value == pytest.approx(np.mean(preferred))
    assert card["stereotypes/preferred/religion"].value == 0.5
    assert card["stereotypes/difference"].value == pytest.approx(np.mean(np.abs(margins)), abs=1e-5)
    lost = stereotype_metrics({"id": ["0", "1"], "type": ["", ""], "margin": [math.nan, 1.0]})
    assert (lost["stereotypes/preferred"].value, lost["stereotypes/preferred"].missing) == (1.0, 1)


def question(number, **changes):
    settings = {
        "id": str(number), "context": f"topic{number} says", "choices": (" kind1", " rude1", " topic2"), "answer": 0, "unknown": 2,
        "biased": 1, "group": "Age",
    }  # fmt: skip
    return BiasQuestion(**{**settings, **changes})


def test_the_likeliest_answer_is_the_answer(planted):
    questions = [
        question(0),
        question(1, answer=2, ambiguous=True),
        question(2, biased=None),
        question(3, biased=0, answer=1),
    ]
    card = evaluate(planted.lm, Protocol(name="x", bias_questions=tuple(questions)))
    for number, one in enumerate(questions):
        context = planted.lm.tokenizer(one.context)["input_ids"]
        sums = [
            logprobs_one_by_one(planted.lm.model, context, planted.lm.tokenizer(c)["input_ids"]).sum()
            for c in one.choices
        ]
        chosen = int(np.argmax(sums))
        kind = "unknown" if chosen == 2 else "biased" if chosen == one.biased else "other"
        assert card.tables["bias_questions"]["answered"][number] == kind
        assert card.tables["bias_questions"]["correct"][number] == (chosen == one.answer)
    assert card["bbq/bias_disambiguated"].n == 2
    assert card.counts["bias_questions"] == {"Age": {"questions": 4, "rated": 3}}
    assert {name.split("/")[0] for name in card.metrics} == {"bbq"}


def bbq_table(answered, correct, ambiguous):
    n = len(answered)
    return {
        "id": list(range(n)),
        "category": ["Age"] * n,
        "ambiguous": ambiguous,
        "correct": correct,
        "answered": answered,
        "rated": [True] * n,
    }


def test_the_bias_score_is_the_formula():
    answered = ["biased"] * 6 + ["other"] * 2 + ["unknown"] * 2
    clear = bias_question_metrics(bbq_table(answered, [1] * 5 + [0] * 5, [False] * 10))
    assert clear["bbq/bias_disambiguated"].value == pytest.approx(2 * 6 / 8 - 1)
    assert clear["bbq/accuracy_disambiguated"].value == 0.5
    vague = bias_question_metrics(bbq_table(answered, [0] * 8 + [1] * 2, [True] * 10))
    assert vague["bbq/bias_ambiguous"].value == pytest.approx(0.8 * 0.5)
    assert vague["bbq/bias_ambiguous"].low < 0.4 < vague["bbq/bias_ambiguous"].high
    silent = bias_question_metrics(bbq_table(["unknown"] * 4, [1] * 4, [True] * 4))
    assert silent["bbq/bias_ambiguous"].value == 0
    assert bias_question_metrics(bbq_table(["other"] * 4, [0] * 4, [False] * 4))["bbq/bias_disambiguated"].value == -1


def test_the_bias_score_is_that_of_lm_eval():
    utils = pytest.importorskip("lm_eval.tasks.bbq.utils")
    rng = np.random.default_rng(0)
    answered = rng.choice(["biased", "other", "unknown"], size=60).tolist()
    ambiguous = (rng.random(60) < 0.5).tolist()
    correct = [int(a == "unknown") if v else int(rng.random() < 0.5) for a, v in zip(answered, ambiguous, strict=True)]
    rows = [
        (float(c), float(a == "biased"), float(a != "unknown"), not v)
        for a, c, v in zip(answered, correct, ambiguous, strict=True)
    ]
    ours = bias_question_metrics(bbq_table(answered, correct, ambiguous))
    assert ours["bbq/bias_ambiguous"].value == pytest.approx(utils.agg_amb_bias_scores(rows))
    assert ours["bbq/bias_disambiguated"].value == pytest.approx(utils.agg_disamb_bias_scores(rows))


def test_each_group_has_its_own_bits_and_the_gap_is_between_the_ends(planted):
    texts = tuple(
        LabelledText(
            id=str(i),
            text=f"topic{i} says " + ("rude1 kind2" if i % 2 else "kind1"),
            group=("a", "b", "a+b", None)[i % 4],
        )
        for i in range(12)
    )
    card = evaluate(planted.lm, Protocol(name="x", group_texts=texts))
    bits = {}
    for name, rows in {"a": [0, 2, 4, 6, 8, 10], "b": [1, 2, 5, 6, 9, 10]}.items():
        nats = sum(-from_the_start(planted.lm, texts[i].text).sum() for i in rows)
        bits[name] = nats / math.log(2) / sum(len(texts[i].text.encode()) for i in rows)
        assert card[f"group_text/{name}/bits_per_byte"].value == pytest.approx(bits[name], rel=1e-5)
    gap = card["group_text/gap"]
    assert gap.value == pytest.approx(abs(bits["a"] - bits["b"]), rel=1e-4)
    assert gap.low <= gap.high
    one = {name: [values[0]] for name, values in card.tables["group_texts"].items()}
    assert "group_text/gap" not in group_text_metrics(one)
    with pytest.raises(InputError, match="none of the group_texts has a group"):
        Protocol(name="x", group_texts=texts[3:4])


def test_bias_aucs_are_those_of_their_texts():
    rng = np.random.default_rng(1)
    labels, member = rng.integers(2, size=200), rng.random(200) < 0.4
    scores = rng.normal(size=200) + labels + 0.8 * member
    found = bias_aucs(labels, scores, member)
    rows = {
        "subgroup": member,
        "bpsn": (member & (labels == 0)) | (~member & (labels == 1)),
        "bnsp": (member & (labels == 1)) | (~member & (labels == 0)),
    }
    for kind, chosen in rows.items():
        assert found[kind].value == pytest.approx(roc_auc_score(labels[chosen], scores[chosen]))
        assert found[kind].low < found[kind].value < found[kind].high
    assert (
        found["bpsn"].value < found["subgroup"].value < found["bnsp"].value
    )  # a scorer that holds the group against a text


def test_recognition_of_texts_with_groups_says_how_each_fares(planted):
    items = tuple(
        LabelledText(
            id=str(i),
            text=f"topic{i % 9} says {'rude' if i % 2 else 'kind'}{i % 8}",
            label=i % 2,
            group="a" if i % 3 else None,
        )
        for i in range(40)
    )
    asked = Recognition(items=items, toxic=" rude2", safe=" kind2")
    card = evaluate(planted.lm, Protocol(name="x", recognition=asked))
    assert {name for name in card.metrics if name.endswith("/a")} == {
        f"recognition/{k}_auc/a" for k in ("subgroup", "bpsn", "bnsp")
    }
    bare = Recognition(
        items=tuple(LabelledText(id=i.id, text=i.text, label=i.label) for i in items), toxic=" rude2", safe=" kind2"
    )
    plain = evaluate(planted.lm, Protocol(name="x", recognition=bare))
    assert set(plain.metrics) == {"recognition/auc", "recognition/accuracy"}
    assert plain["recognition/auc"] == card["recognition/auc"]


def test_wrong_questions_are_one_clear_line():
    with pytest.raises(InputError, match="not the unknown one"):
        question(0, biased=2)
    with pytest.raises(InputError, match="is ambiguous, and its answer is not 2"):
        question(0, ambiguous=True)
    with pytest.raises(InputError, match="two bias questions with id '0'"):
        Protocol(name="x", bias_questions=(question(0), question(0)))


@pytest.mark.shared_data
def test_the_biased_answer_is_known_where_the_group_is_named():
    try:
        questions = load("bbq_bias", source="local")
    except MissingData as error:
        pytest.skip(str(error))
    named = {"Nationality", "Religion", "Sexual_orientation"}
    assert all(q.biased is not None for q in questions if q.group in named)
    assert sum(q.biased is None for q in questions) / len(questions) < 0.5
    assert all((q.answer == q.unknown) == q.ambiguous for q in questions)


def texts_of(rng, extra):
    """60 texts of two dialects; under the method those of the first cost `extra` nats per token more."""
    tokens = rng.integers(5, 20, 60)
    group = ["a", "b"] * 30
    nats = tokens * (3 + 0.3 * rng.normal(size=60)) + np.where(np.array(group) == "a", 0.5 * tokens, 0)
    counts = {"tokens": tokens.tolist(), "bytes": (4 * tokens).tolist()}
    base = {"id": [str(i) for i in range(60)], "group": group, "nats": nats.tolist(), **counts}
    worse = nats + tokens * (0.1 + 0.02 * rng.normal(size=60) + np.where(np.array(group) == "a", extra, 0))
    return base, {**base, "nats": worse.tolist()}


def bits(table, group):
    rows = [i for i, g in enumerate(table["group"]) if g == group]
    return sum(table["nats"][i] for i in rows) / math.log(2) / sum(table["bytes"][i] for i in rows)


def test_what_a_group_costs_more_than_the_others():
    base, _ = texts_of(np.random.default_rng(0), 0.0)
    found = group_text_metrics(base)["group_text/a/excess"]
    assert found.value == pytest.approx(bits(base, "a") - bits(base, "b"))
    assert 0 < found.low < found.value < found.high
    assert group_text_metrics(base)["group_text/b/excess"].value == pytest.approx(-found.value)


@pytest.mark.parametrize("extra", [0.0, 0.2])
def test_what_a_method_costs_a_dialect_more_than_others_is_paired_by_text(extra):
    """Xu et al. 2021: detoxification that costs one dialect more than another shows with an interval, and none where it does not."""
    from detox.bench.report.side_effects import Items, changes
    from detox.evaluation import Scorecard

    before, after = texts_of(np.random.default_rng(1), extra)
    cards = [Scorecard({}, "f", group_text_metrics(t), {}, {"group_texts": t}) for t in (after, before)]
    [found] = changes([(cards[0], cards[1])], Items)
    own = found["group_text/a/bits_per_byte"]
    assert own.paired
    assert own.estimate.value == pytest.approx(bits(after, "a") - bits(before, "a"))
    assert own.estimate.low > 0
    assert found["group_text/a/cross_entropy"].paired
    more = found["group_text/a/excess"]
    assert more.paired
    expected = bits(after, "a") - bits(before, "a") - (bits(after, "b") - bits(before, "b"))
    assert more.estimate.value == pytest.approx(expected, abs=1e-9)
    assert (more.estimate.low > 0) == (extra > 0)
    level = group_text_metrics(after)["group_text/a/excess"]
    assert more.estimate.high - more.estimate.low < 0.5 * (level.high - level.low)  # pairing is worth something
