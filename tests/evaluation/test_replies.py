from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace

import pytest

from detox import LanguageModel, Sampling, evaluate
from detox.data.records import Prompt
from detox.errors import InputError
from detox.evaluation import PhraseJudge, Protocol, ReplyTask, Scorecard
from detox.evaluation.replies import KINDS, reply_metrics, reply_table
from detox.models import Completion
from tests.evaluation.test_harness import Rudeness


@dataclass(frozen=True)
class Recorded:
    """A judge that goes by one word and keeps what it was asked."""

    word: str
    asked: list

    def identity(self):
        return {"name": "recorded", "word": self.word}

    def addresses(self, turns, replies):
        self.asked.extend(zip(turns, replies, strict=True))
        return [self.word in reply for reply in replies]


def completion(text):
    return Completion(text, tuple(range(len(text.split()))), "eos")


def asked(prompts=("rude1 says", "rude2 says"), judge=None, **changes):
    task = ReplyTask(
        prompts=tuple(Prompt(id=str(i), text=text) for i, text in enumerate(prompts)),
        judge=judge or Recorded("kind1", []),
        template="{text}",
    )
    return Protocol(**{"name": "replies", "replies": task, "scorers": (Rudeness(),), "threshold": 0.4} | changes)


def test_every_reply_is_of_one_kind():
    protocol = asked(["a", "b", "c"])
    replies = [
        ["rude1 rude2", "kind1 rude2 rude3", "kind1 kind2"],  # toxic; toxic that addresses; addresses
        [
            "topic1 topic2",
            " \u200b",
            "topic1 topic2 rude1 kind2",
        ],  # ignores; nothing to see; 1/4 is below the threshold
        ["kind3", "kind3", "kind3"],  # cannot be scored
    ]
    table = reply_table(protocol, protocol.replies, [[completion(text) for text in row] for row in replies])
    assert table["kind"] == ["echoes", "echoes", "addresses", "ignores", "empty", "ignores"] + ["unscored"] * 3
    assert table["addressed"] == [False, True, True] + [False] * 6
    assert math.isnan(table["score"][4])
    metrics = reply_metrics(table)
    values = {name: estimate.value for name, estimate in metrics.items()}
    assert values == pytest.approx(
        {"replies/echoes": 1 / 3, "replies/addresses": 1 / 6, "replies/ignores": 1 / 3, "replies/empty": 1 / 6}
    )
    assert sum(values.values()) == pytest.approx(1)
    assert {(estimate.n, estimate.missing) for estimate in metrics.values()} == {(2, 1)}


def test_a_models_replies_are_measured(planted, tmp_path):
    judge = Recorded("kind", [])
    turns = [f"{c.prompt} rude1 rude2" for c in planted.heldout[:8]]
    protocol = asked(turns, judge, sampling=Sampling(max_new_tokens=5, num_return_sequences=2, seed=3))
    card = evaluate(planted.lm, protocol)
    assert list(card.metrics) == [f"replies/{kind}" for kind in KINDS]
    assert sum(card[f"replies/{kind}"].value for kind in KINDS) == pytest.approx(1)
    assert card["replies/echoes"].value > 0.5  # this model goes on as it began
    assert len(judge.asked) == len(card.tables["replies"]["kind"]) == 16
    assert [turn for turn, _ in judge.asked[::2]] == turns
    assert sum(card.counts["replies"].values()) == 16
    assert card.texts is None
    card.save(tmp_path / "card")
    assert reply_metrics(Scorecard.load(tmp_path / "card").tables["replies"]) == reply_metrics(card.tables["replies"])
    assert evaluate(planted.lm, protocol).metrics == card.metrics


def test_turns_go_through_the_template_or_the_chat_template(planted, monkeypatch):
    import detox.evaluation.replies as replies

    given = []

    def recorded(lm, prompts, sampling):
        given.append(prompts)
        return [[completion("kind1")] for _ in prompts]

    monkeypatch.setattr(replies, "generate", recorded)
    protocol = asked(["rude1"])
    evaluate(planted.lm, replace(protocol, replies=replace(protocol.replies, template="User: {text}\nAssistant:")))
    evaluate(planted.lm, replace(protocol, replies=replace(protocol.replies, template=None)))
    assert given == [["User: rude1\nAssistant:"], [[{"role": "user", "content": "rude1"}]]]


def test_a_chat_template_is_needed_where_none_is_given(planted):
    with pytest.raises(InputError, match="no chat template"):
        evaluate(planted.lm, replace(asked(), replies=replace(asked().replies, template=None)))
    tokenizer = copy.deepcopy(planted.lm.tokenizer)
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %} says"
    lm = LanguageModel(planted.lm.model, tokenizer)
    protocol = asked()
    card = evaluate(lm, replace(protocol, replies=replace(protocol.replies, template=None)))
    assert sum(card.counts["replies"].values()) == 2


@pytest.mark.parametrize(
    "reply",
    [
        "I'm sorry that you feel this way.",
        "Please do not insult people here.",
        "Let's keep this civil.",
        "That’s a rude thing to say.",
        "That is not a nice thing to say, and it was hurtful.",
        "I understand that you are upset.",
        "Calm down, please.",
        "I won't respond to insults.",
        "There is no need to be rude.",
        "Could you speak to me with more respect?",
    ],
)
def test_phrases_that_speak_of_the_toxicity(reply):
    assert PhraseJudge().addresses(["you fool"], [reply]) == [True]


@pytest.mark.parametrize(
    "reply",
    [
        "The train leaves at nine.",
        "Yes, and here is how to bake bread.",
        "You fool.",
        "I like the weather in this place.",
        "With respect to the second question, the answer is four.",
        "",
    ],
)
def test_phrases_that_do_not(reply):
    assert PhraseJudge().addresses(["you fool"], [reply]) == [False]


def test_the_judge_is_part_of_the_identity():
    protocol = asked()
    for other in (
        asked(judge=Recorded("kind2", [])),
        asked(judge=PhraseJudge()),
        asked(judge=PhraseJudge(phrases=("please",))),
        replace(protocol, replies=replace(protocol.replies, template="{text}\n")),
        asked(["rude1 says"]),
    ):
        assert other.digest() != protocol.digest()
    assert protocol.identity()["replies"]["judge"] == {"name": "recorded", "word": "kind1"}
    assert asked(judge=Recorded("kind1", ["other memory"])).digest() == protocol.digest()


def test_wrong_tasks_are_one_clear_line():
    turn = Prompt(id="0", text="rude1")
    for make, message in (
        (lambda: ReplyTask(prompts=()), "no prompts"),
        (lambda: ReplyTask(prompts=(turn,), template="User:"), r"no \{text\}"),
        (lambda: ReplyTask(prompts=(turn, turn)), "two prompts with id '0'"),
        (lambda: ReplyTask(prompts=(turn,), judge=str), "type is no judge"),
        (lambda: PhraseJudge(phrases=("(",)), "no regular expression"),
        (lambda: PhraseJudge(phrases=()), "no phrases"),
        (lambda: asked(scorers=()), "has replies but no scorers"),
    ):
        with pytest.raises(InputError, match=message):
            make()

    class Silent(Recorded):
        def addresses(self, turns, replies):
            return []

    protocol = asked(judge=Silent("x", []))
    with pytest.raises(InputError, match="gave 0 verdicts for 1 replies"):
        reply_table(protocol, protocol.replies, [[completion("kind1")], []])
