from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from detox import ITI, Contrast, Sampling, evaluate
from detox.data.records import Document, LabelledText, MinimalPair, MultipleChoice, Prompt
from detox.errors import DataError, InputError, MissingData, StaleHandle, UnknownName
from detox.evaluation import ProbeTask, Protocol, Recognition, Scorecard
from detox.evaluation.toxicity import prompt_means, score_matrix, score_tables
from detox.scorers import Score, ScorerCard
from tests.models.reference import logprobs_one_by_one


class Rudeness:
    """Share of rude words; cannot score a text that holds "kind3"."""

    def __init__(self, name: str = "rudeness") -> None:
        self.card = ScorerCard(name, "1", ("nothing",), None, "read whole")

    def score(self, texts):
        return [
            Score.missing("kind3 in it")
            if "kind3" in t
            else Score(sum(w.startswith("rude") for w in t.split()) / len(t.split()))
            for t in texts
        ]


def protocol(planted, **changes) -> Protocol:
    openings = [c.prompt for c in planted.heldout]
    texts = [(c.id, c.prompt + (c.toxic if i % 2 else c.safe)[0], i % 2) for i, c in enumerate(planted.contrasts)]
    labelled = tuple(LabelledText(id=i, text=t, label=label) for i, t, label in texts)
    settings = {
        "name": "test",
        "prompts": tuple(Prompt(id=str(i), text=p, group="even" if i % 2 else "odd") for i, p in enumerate(openings)),
        "sampling": Sampling(max_new_tokens=6, num_return_sequences=3, seed=1),
        "scorers": (Rudeness(),),
        "documents": tuple(Document(id=str(i), text=c.prompt + c.safe[0]) for i, c in enumerate(planted.heldout)),
        "multiple_choice": {
            "tone": tuple(
                MultipleChoice(id=str(i), context=c.prompt + c.safe[0], choices=(" rude1", " kind1"), answer=1)
                for i, c in enumerate(planted.heldout)
            )
        },
        "minimal_pairs": (
            MinimalPair(id="0", good="topic1 topic2 topic3 says kind1", bad="says says says topic1 rude1"),
        ),
        "recognition": Recognition(items=labelled, toxic=" rude2", safe=" kind2"),
        "probe": ProbeTask(train=labelled[:32], test=labelled[32:]),
        "contrasts": tuple(planted.heldout),
    }
    return Protocol(**{**settings, **changes})


def test_everything_that_is_asked_is_measured_and_nothing_else(planted):
    card = evaluate(planted.lm, protocol(planted))
    assert {name.split("/")[0] for name in card.metrics} == {
        "toxicity",
        "clean",
        "choice",
        "minimal_pairs",
        "recognition",
        "probe",
        "margin",
    }
    assert card["recognition/auc"].value > 0.95
    assert card["probe/auc"].value > 0.95
    assert card["choice/tone/accuracy"].value > 0.95
    assert card["minimal_pairs/accuracy"].value == 1
    assert not any(math.isnan(e.value) for e in card.metrics.values())
    assert list(evaluate(planted.lm, Protocol(name="clean", documents=protocol(planted).documents)).metrics) == [
        "clean/cross_entropy", "clean/perplexity", "clean/bits_per_byte",
    ]  # fmt: skip


def test_a_detoxified_handle_is_measured_as_such(planted):
    asked = protocol(planted)
    base = evaluate(planted.lm, asked)
    with ITI(num_heads=4).fit(planted.lm, planted.contrasts).applied(planted.lm, strength=3.0) as safe:
        steered = evaluate(safe, asked)
        with pytest.raises(StaleHandle):
            evaluate(planted.lm, asked)
    assert steered["margin/nats_per_token"].value > base["margin/nats_per_token"].value
    assert steered["toxicity/rudeness/mean"].value < base["toxicity/rudeness/mean"].value
    assert steered.fingerprint != base.fingerprint
    assert steered.receipts[0]["tokens"]["generated"] > 0
    assert evaluate(planted.lm, asked).metrics == base.metrics


def test_cross_entropy_and_margins_are_the_formulas(planted):
    card = evaluate(planted.lm, protocol(planted))
    tokenizer, model = planted.lm.tokenizer, planted.lm.model
    nats, tokens = 0.0, 0
    for contrast in planted.heldout:
        ids = tokenizer(contrast.prompt + contrast.safe[0])["input_ids"]
        nats -= logprobs_one_by_one(model, [tokenizer.eos_token_id], ids).sum()
        tokens += len(ids)
    assert card["clean/cross_entropy"].value == pytest.approx(nats / tokens, abs=1e-5)
    assert card["clean/perplexity"].value == pytest.approx(math.exp(nats / tokens), rel=1e-4)
    differences = []
    for c in planted.heldout:
        means = [
            np.mean(
                [
                    logprobs_one_by_one(model, tokenizer(c.prompt)["input_ids"], tokenizer(t)["input_ids"]).mean()
                    for t in side
                ]
            )
            for side in (c.safe, c.toxic)
        ]
        differences.append(means[0] - means[1])
    assert card["margin/nats_per_token"].value == pytest.approx(np.mean(differences), abs=1e-5)


def test_what_cannot_be_scored_is_missing_never_zero(planted):
    asked = protocol(planted)
    texts = [["", "rude1 rude2", "kind3"]] + [["kind1", "kind1", "kind1"]] * (len(asked.prompts) - 1)
    table = score_tables(asked, texts)["scores"]
    matrix = score_matrix(table, "rudeness", [p.id for p in asked.prompts])
    assert np.isnan(matrix[0]).tolist() == [True, False, True]
    assert prompt_means(matrix)[0] == 1.0
    reasons = [r for p, r in zip(table["prompt"], table["reason"], strict=True) if p == "0"]
    assert reasons == ["empty", None, "kind3 in it"]


def test_accounting_adds_up(planted):
    card = evaluate(planted.lm, protocol(planted))
    scored = card.counts["scorers"]["rudeness"]
    assert card.counts["requested"] == len(planted.heldout) * 3 == scored["scored"] + sum(scored["missing"].values())
    assert card["toxicity/rudeness/mean"].n + card["toxicity/rudeness/mean"].missing == len(planted.heldout)
    assert len(list(card.rows())) == card.counts["requested"]


def test_prompt_and_completion_are_scored_together_only_when_asked(planted):
    asked = protocol(planted, prompts=tuple(Prompt(id=str(i), text="rude1 rude2 says") for i in range(1)))
    texts = [["kind1 kind2 kind4"]]
    alone = score_tables(replace(asked), texts)["scores"]["value"]
    joined = score_tables(replace(asked, scored="prompt+completion"), [[" kind1 kind2 kind4"]])["scores"]["value"]
    assert alone == [0.0]
    assert joined == [pytest.approx(2 / 6)]


def test_a_record_comes_back_as_it_was_and_no_text_is_needed(planted, tmp_path):
    card = evaluate(planted.lm, protocol(planted))
    card.save(tmp_path / "card")
    again = Scorecard.load(tmp_path / "card")
    assert again.protocol == card.protocol
    assert again.counts == card.counts
    assert again.texts == card.texts
    for name, estimate in card.metrics.items():
        assert again[name].value == pytest.approx(estimate.value, rel=1e-5)
    assert again.tables.keys() == card.tables.keys()
    replace(card, texts=None).save(tmp_path / "bare")
    assert Scorecard.load(tmp_path / "bare").texts is None
    assert not (tmp_path / "bare" / "texts.json.gz").exists()


def test_a_damaged_record_is_named(planted, tmp_path):
    evaluate(planted.lm, Protocol(name="clean", documents=protocol(planted).documents)).save(tmp_path)
    raw = (tmp_path / "items.json.gz").read_bytes()
    (tmp_path / "items.json.gz").write_bytes(raw[: len(raw) // 2])
    with pytest.raises(DataError, match=r"items\.json\.gz:1: damaged"):
        Scorecard.load(tmp_path)
    with pytest.raises(MissingData, match=r"no scorecard\.json"):
        Scorecard.load(tmp_path / "absent")


def test_identity_follows_what_changes_numbers(planted):
    asked = protocol(planted)
    assert asked.digest() == replace(asked, name="another name").digest()
    assert asked.digest() == replace(asked, sampling=replace(asked.sampling, batch_size=1)).digest()
    for changed in (
        replace(asked, sampling=replace(asked.sampling, seed=2)),
        replace(asked, prompts=asked.prompts[1:]),
        replace(asked, scorers=(Rudeness("another"),)),
        replace(asked, documents=asked.documents[1:]),
        replace(asked, recognition=None),
        replace(asked, threshold=0.6),
        replace(asked, contrasts=(*asked.contrasts[1:], Contrast(id="x", prompt="topic1", safe=(" kind1",), toxic=()))),
    ):
        assert changed.digest() != asked.digest()


def test_wrong_protocols_are_one_clear_line(planted):
    asked = protocol(planted)
    with pytest.raises(InputError, match="prompts but no scorers"):
        replace(asked, scorers=())
    with pytest.raises(InputError, match="two prompts with id '0'"):
        replace(asked, prompts=(*asked.prompts, asked.prompts[0]))
    with pytest.raises(InputError, match="names a scorer twice"):
        replace(asked, scorers=(Rudeness(), Rudeness()))
    with pytest.raises(InputError, match=r"no \{text\}"):
        Recognition(items=(), template="x")
    with pytest.raises(InputError, match="only one class"):
        evaluate(planted.lm, Protocol(name="x", probe=ProbeTask(train=asked.probe.train[::2], test=asked.probe.test)))
    with pytest.raises(UnknownName, match="did you mean 'clean/cross_entropy'"):
        evaluate(planted.lm, Protocol(name="x", documents=asked.documents))["clean/crossentropy"]


def test_a_scorer_that_raises_ends_the_measurement_with_its_name(planted):
    class Broken(Rudeness):
        def score(self, texts):
            raise ConnectionError("no answer")

    with pytest.raises(InputError, match="scorer 'rudeness' raised ConnectionError: no answer"):
        evaluate(planted.lm, protocol(planted, scorers=(Broken(),)))


def test_the_harness_leaves_the_model_alone(planted):
    before = planted.lm.fingerprint(rehash=True)
    state = torch.get_rng_state()
    evaluate(planted.lm, protocol(planted))
    assert planted.lm.fingerprint(rehash=True) == before
    assert torch.equal(torch.get_rng_state(), state)


def test_a_protocol_that_asks_for_nothing_cannot_be_made():
    for empty in ({}, {"multiple_choice": {"task": ()}}, {"chat": True}):
        with pytest.raises(InputError, match="asks for nothing"):
            Protocol(name="nothing", **empty)


def test_several_right_answers_share_their_probability(planted):
    one = MultipleChoice(id="0", context="topic1 says", choices=(" kind1", " rude1", " kind2 says"), answer=0)
    several = replace(one, id="1", right=(0, 2))
    card = evaluate(planted.lm, Protocol(name="x", multiple_choice={"plain": (one,), "several": (several, one)}))
    context = planted.lm.tokenizer(one.context)["input_ids"]
    sums = [
        logprobs_one_by_one(planted.lm.model, context, planted.lm.tokenizer(c)["input_ids"]).sum() for c in one.choices
    ]
    mass = card["choice/several/probability_mass"]
    assert mass.value == pytest.approx(np.exp([sums[0], sums[2]]).sum() / np.exp(sums).sum(), abs=1e-5)
    assert (mass.n, mass.missing) == (1, 1)
    assert "choice/plain/probability_mass" not in card.metrics
    plain = Protocol(name="x", multiple_choice={"plain": (one,)})
    assert "mass" not in evaluate(planted.lm, plain).tables["multiple_choice"]
    # A question with one right answer has the hash that it had before there were several.
    assert plain.identity()["multiple_choice"] == {"plain": "98e4b2f50836a244"}
