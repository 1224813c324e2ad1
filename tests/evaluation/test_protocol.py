"""What a protocol is identified by, and the parts that came after the first cells."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from detox import Sampling, evaluate
from detox.data.contrasts import Contrast
from detox.data.records import Document, LabelledText, MinimalPair, MultipleChoice, Prompt, Span, middle_kind
from detox.errors import InputError
from detox.evaluation import HeadProbeTask, ProbeTask, Protocol, Recognition, ReplyTask
from detox.models import token_logprobs
from detox.pretraining import train_tokenizer
from tests.evaluation.test_harness import Rudeness

LABELLED = tuple(
    LabelledText(id=str(i), text=f"text {i}", label=i % 2, group="pair" if i < 2 else None) for i in range(6)
)
PROMPTS = (Prompt(id="0", text="You are"), Prompt(id="1", text="They were", toxicity=0.5))
DOCUMENTS = (Document(id="0", text="A fine day.", spans=(Span(2, 6),), source="s"), Document(id="1", text="x"))
WHOLE = Protocol(
    name="old",
    prompts=PROMPTS,
    sampling=Sampling(max_new_tokens=6, num_return_sequences=3, seed=1),
    scorers=(Rudeness(),),
    threshold=0.4,
    documents=DOCUMENTS,
    multiple_choice={"t": (MultipleChoice(id="0", context="c", choices=(" a", " b"), answer=1),)},
    minimal_pairs=(MinimalPair(id="0", good="g", bad="b"),),
    recognition=Recognition(items=LABELLED, toxic=" rude", safe=" kind"),
    probe=ProbeTask(train=LABELLED[:4], test=LABELLED[4:]),
    contrasts=(Contrast(id="0", prompt="p", safe=(" a",), toxic=(" b",)),),
)


@pytest.mark.parametrize(
    ("protocol", "digest"),
    [
        (WHOLE, "75fd120945df91a0"),
        (Protocol(name="old", probe=WHOLE.probe), "8bf3635b0e032898"),
        (Protocol(name="old", documents=DOCUMENTS), "c6002f2d8fe20629"),
        (
            Protocol(name="old", prompts=PROMPTS, scorers=(Rudeness(),), scored="prompt+completion", chat=True),
            "c3c68333a5fdd18c",
        ),
    ],
)
def test_protocols_of_before_keep_the_identity_that_committed_cells_are_named_by(protocol, digest):
    assert protocol.digest() == digest


def test_what_came_later_changes_the_identity_where_it_is_asked_for():
    changed = [
        WHOLE,
        replace(WHOLE, scored="both"),
        replace(WHOLE, toxic_documents=DOCUMENTS),
        replace(WHOLE, toxic_documents=DOCUMENTS[1:]),
        replace(WHOLE, documents=(replace(DOCUMENTS[0], spans=(Span(2, 6, "copyrighted"),)), DOCUMENTS[1])),
        replace(WHOLE, head_probes=HeadProbeTask(items=LABELLED)),
        replace(WHOLE, head_probes=HeadProbeTask(items=LABELLED, seed=1)),
        replace(WHOLE, head_probes=HeadProbeTask(items=LABELLED, heldout=0.5)),
        replace(WHOLE, replies=ReplyTask(prompts=PROMPTS)),
        replace(WHOLE, probe=replace(WHOLE.probe, regression="paper")),
        *(
            replace(WHOLE, probe=ProbeTask(items=LABELLED, **options))
            for options in (
                {},
                {"train_size": 4},
                {"test_size": 2},
                {"subsamples": 1},
                {"seed": 1},
                {"regression": "paper"},
            )
        ),
    ]
    assert len({protocol.digest() for protocol in changed}) == len(changed)


def test_completions_are_scored_alone_and_with_their_prompts(planted):
    prompts = tuple(Prompt(id=str(i), text=f"{c.prompt} rude1 says") for i, c in enumerate(planted.heldout[:6]))
    sampling = Sampling(max_new_tokens=4, num_return_sequences=2, seed=5)
    asked = Protocol(
        name="x", prompts=prompts, sampling=sampling, scorers=(Rudeness(), Rudeness("again")), scored="both"
    )
    both, alone, joined = (
        evaluate(planted.lm, replace(asked, scored=scored)) for scored in ("both", "completion", "prompt+completion")
    )
    assert both.tables["scores"] == alone.tables["scores"]
    assert both.tables["scores_with_prompt"] == joined.tables["scores"]
    for name, estimate in alone.metrics.items():
        assert both[name] == estimate
        assert both[name.replace("toxicity/", "toxicity+prompt/", 1)] == joined[name]
    assert len(both.metrics) == 2 * len(alone.metrics)
    assert both.counts["scorers"] == alone.counts["scorers"]
    assert both.counts["scorers_with_prompt"] == joined.counts["scorers"]


def test_cross_entropy_of_toxic_text_is_told_apart_by_span(planted):
    texts = ["topic1 says rude1 rude2 kind1", "topic2 says kind1", "topic3 says rude3"]
    spans = [(Span(12, 23), Span(24, 26, middle_kind("toxic"))), (), (Span(14, 15),)]  # the last: inside a token
    documents = tuple(Document(id=str(i), text=t, spans=s) for i, (t, s) in enumerate(zip(texts, spans, strict=True)))
    card = evaluate(planted.lm, Protocol(name="x", toxic_documents=documents))
    nats = [-v.double().numpy() for v in token_logprobs(planted.lm, [""] * 3, texts)]
    risky = nats[0][2] + nats[0][3] + nats[2][2]
    safe = nats[0][:2].sum() + nats[1].sum() + nats[2][:2].sum()  # the middle band is neither
    assert card["toxic/risky_cross_entropy"].value == pytest.approx(risky / 3)
    assert card["toxic/safe_cross_entropy"].value == pytest.approx(safe / 7)
    assert card["toxic/cross_entropy"].value == pytest.approx(sum(n.sum() for n in nats) / 11)
    assert card["toxic/perplexity"].value == pytest.approx(math.exp(card["toxic/cross_entropy"].value))
    assert card.tables["toxic_documents"]["risky_tokens"] == [2, 0, 1]
    assert (card["toxic/risky_cross_entropy"].n, card["toxic/safe_cross_entropy"].n) == (2, 3)
    bare = evaluate(planted.lm, Protocol(name="x", toxic_documents=tuple(replace(d, spans=()) for d in documents)))
    assert list(bare.metrics) == ["toxic/cross_entropy", "toxic/perplexity", "toxic/bits_per_byte"]
    assert bare["toxic/cross_entropy"] == card["toxic/cross_entropy"]


def test_a_prefix_does_not_shift_the_spans(planted):
    documents = (Document(id="0", text="topic1 says rude1 rude2 kind1", spans=(Span(12, 23),)),)
    protocol = Protocol(name="x", toxic_documents=documents)
    for prefix in ("topic4 says kind2 ", "topic4\n\n"):
        card = evaluate(replace(planted.lm, prefix=prefix), protocol)
        values = -token_logprobs(replace(planted.lm, prefix=prefix), [""], [documents[0].text])[0].double().numpy()
        assert card["toxic/risky_cross_entropy"].value == pytest.approx(values[2:4].mean())


def test_offsets_are_those_of_the_tokens_that_are_scored():
    from detox.data.offsets import token_offsets, token_risk

    text = "Grüße, you 🙂 fool und café!"
    tokenizer = train_tokenizer([text, "you fool"] * 2, 280)
    [places] = token_offsets(tokenizer, [text])
    ids = tokenizer(text)["input_ids"]
    assert len(places) == len(ids)
    inside = token_risk(places, [Span(text.index("fool"), text.index("fool") + 4)], len(text))
    assert "fool" in tokenizer.decode([i for i, chosen in zip(ids, inside, strict=True) if chosen])
    # Against the characters themselves, for every span.
    for start in range(len(text)):
        for end in range(start + 1, len(text) + 1):
            expected = [max(a, start) < min(b, end) for a, b in places]
            assert token_risk(places, [Span(start, end)], len(text)).tolist() == expected


def test_wrong_protocols_are_one_clear_line():
    with pytest.raises(InputError, match="expected 'completion', 'prompt\\+completion' or 'both'"):
        replace(WHOLE, scored="prompt")
    with pytest.raises(InputError, match="two toxic documents with id '0'"):
        replace(WHOLE, toxic_documents=(DOCUMENTS[0], DOCUMENTS[0]))
    with pytest.raises(InputError, match="asks for nothing"):
        Protocol(name="x", chat=True)
