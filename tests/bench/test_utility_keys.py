"""Keys of a protocol's YAML about utility and side effects: what they mean, and each mistake in one line."""

from __future__ import annotations

import json

import pytest

from detox.bench.protocols import read_protocol
from detox.data.records import BiasQuestion
from detox.errors import InputError, MissingData, UnknownName
from detox.evaluation import ReferenceModel, RefusalPhrases


@pytest.fixture
def spec(tmp_path):
    def file(name, *rows):
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return {"file": str(path)}

    return {
        "documents": file("documents", {"id": "0", "text": "topic1 says kind1"}),
        "prompts": file("prompts", {"id": "0", "text": "topic1 says"}),
        "scorers": ["rude"],
        "lm_eval": ["arc_easy_local", "lambada_openai_local"],
        "lm_eval_limit": 20,
        "diversity": True,
        "kl": True,
        "reference": {"model": "somewhere/small", "revision": "main"},
        "over_refusal": {"prompts": file("requests", {"id": "0", "text": "How do I kill a process?", "group": "safe"})},
        "stereotypes": file("pairs", {"id": "0", "good": "topic1", "bad": "topic2", "phenomenon": "age"}),
        "bias_questions": file(
            "questions", {"id": "0", "context": "Who?", "choices": [" a", " b", " c"], "answer": 2, "unknown": 2, "biased": 0}
        ),
        "group_texts": file("groups", {"id": "0", "text": "topic1 says", "group": "a+b"}),
    }  # fmt: skip


def read(spec):
    from tests.evaluation.test_harness import Rudeness

    return read_protocol(spec, seed=0, make_scorer=lambda entry, prompts: Rudeness())


def test_every_key_arrives(spec):
    protocol = read(spec)
    assert protocol.lm_eval == ("arc_easy_local", "lambada_openai_local")
    assert protocol.lm_eval_limit == 20
    assert protocol.diversity
    assert protocol.kl
    assert protocol.reference == ReferenceModel("somewhere/small", "main")  # nothing is loaded for a plan
    assert [prompt.group for prompt in protocol.over_refusal.prompts] == ["safe"]
    assert protocol.over_refusal.judge == RefusalPhrases()
    assert protocol.stereotypes[0].bad == "topic2"
    assert protocol.bias_questions == (
        BiasQuestion(id="0", context="Who?", choices=(" a", " b", " c"), answer=2, unknown=2, biased=0),
    )
    assert protocol.group_texts[0].group == "a+b"
    own = {
        **spec["over_refusal"],
        "judge": {"refusals": ["^no"], "turns": ["^but"]},
        "form": "plain",
        "template": "Q: {text}\nA:",
    }
    asked = read({**spec, "over_refusal": own}).over_refusal
    assert (asked.judge.refusals, asked.judge.turns, asked.form) == (("^no",), ("^but",), "plain")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("lm_eval", "arc_easy_local", "expected a list of tasks"),
        ("lm_eval", ["arc_easy_local", "arc_easy_local"], "none twice"),
        ("lm_eval_limit", "20", "expected a whole number"),
        ("lm_eval_limit", 0, "at least 1 question"),
        ("lm_eval", [], "but no lm_eval tasks"),
        ("diversity", "yes", "expected true"),
        ("kl", 1, "expected true"),
        ("reference", "gpt2", "expected keys out of model, revision, model among them"),
        ("reference", {"model": 2}, "model is 2; expected text"),
        ("over_refusal", {"set": "xstest"}, r"expected \{prompts"),
        ("stereotypes", "crows_pairs", r"expected \{set: NAME"),
    ],
)
def test_each_mistake_is_one_clear_line(spec, key, value, message):
    with pytest.raises(InputError, match=message) as caught:
        read({**spec, key: value})
    assert "\n" not in str(caught.value)


def test_parts_that_are_left_out_are_not_in_the_identity(spec):
    bare = read({key: spec[key] for key in ("documents", "prompts", "scorers")}).identity()
    assert (
        not {"lm_eval", "diversity", "reference", "kl", "over_refusal", "stereotypes", "bias_questions", "group_texts"}
        & bare.keys()
    )
    whole = read({**spec, "reference": spec["reference"]})
    with pytest.raises((MissingData, InputError), match="somewhere/small"):
        whole.identity()  # what a reference computes can be said only where it is


@pytest.mark.slow
def test_tasks_that_do_not_exist_are_named_when_they_are_asked(planted, spec):
    pytest.importorskip("lm_eval")
    from detox import evaluate

    protocol = read({"lm_eval": ["arc_eazy_local"]})
    with pytest.raises(UnknownName, match="arc_easy_local"):
        evaluate(planted.lm, protocol)
