"""The parts of a protocol that measure understanding against generation, as a grid writes them."""

from __future__ import annotations

import pytest

from detox.bench.protocols import read_protocol
from detox.data import write_jsonl
from detox.errors import DetoxError
from detox.evaluation import PhraseJudge
from tests.evaluation.test_harness import Rudeness


@pytest.fixture
def spec(tmp_path):
    labelled = [{"id": i, "text": f"text {i}", "label": i % 2} for i in range(8)]
    write_jsonl(tmp_path / "labelled.jsonl", labelled)
    write_jsonl(tmp_path / "turns.jsonl", [{"id": str(i), "text": f"you fool {i}"} for i in range(3)])
    write_jsonl(tmp_path / "toxic.jsonl", [{"id": "0", "text": "you fool", "spans": [[4, 8]]}])
    files = {name: {"file": str(tmp_path / f"{name}.jsonl")} for name in ("labelled", "turns", "toxic")}
    return {
        "prompts": files["turns"],
        "sampling": {"max_new_tokens": 50, "top_k": 50, "num_return_sequences": 1},
        "scorers": ["rudeness"],
        "scored": "both",
        "toxic_documents": files["toxic"],
        "probe": {"items": files["labelled"], "train_size": 6, "test_size": 2, "subsamples": 2, "regression": "paper"},
        "head_probes": {"items": files["labelled"], "heldout": 0.25, "C": 0.5, "seed": 3},
        "replies": {"prompts": files["turns"], "judge": "phrases", "template": "{text}"},
        "safety_score": {"items": {**files["labelled"], "limit": 6}, "significance": 0.1},
        "rewriting": {"texts": {**files["labelled"], "limit": 4}, "instruction": "{sentence}?", "form": "plain"},
    }


def read(spec, asked=None):
    def make_scorer(entry, prompts):
        if asked is not None:
            asked.append([prompt.text for prompt in prompts])
        return Rudeness()

    return read_protocol(spec, seed=4, make_scorer=make_scorer)


def test_every_key_arrives(spec):
    asked = []
    protocol = read(spec, asked)
    assert protocol.scored == "both"
    assert protocol.sampling.top_k == 50
    assert protocol.sampling.seed == 4
    assert protocol.toxic_documents[0].spans[0].start == 4
    probe = protocol.probe
    assert (len(probe.items), probe.train_size, probe.test_size, probe.subsamples, probe.regression) == (
        8,
        6,
        2,
        2,
        "paper",
    )
    assert (len(protocol.head_probes.items), protocol.head_probes.heldout, protocol.head_probes.C) == (8, 0.25, 0.5)
    assert protocol.head_probes.seed == 3
    assert protocol.replies.judge == PhraseJudge()
    assert protocol.replies.template == "{text}"
    assert (len(protocol.safety_score.items), protocol.safety_score.significance) == (6, 0.1)
    rewriting = protocol.rewriting
    assert (len(rewriting.texts), rewriting.instructions.safe, rewriting.form) == (4, "{sentence}?", "plain")
    assert rewriting.embedder.identity()["name"] == "minilm"
    # A trained scorer must not have seen the turns either, nor what is to be said again.
    assert asked == [[f"you fool {i}" for i in range(3)] * 2 + [one.text for one in rewriting.texts]]


def test_replies_alone_need_no_prompts_and_a_judge_may_be_written_out(spec):
    alone = {key: spec[key] for key in ("scorers", "replies")}
    alone["replies"] = {**spec["replies"], "judge": {"name": "short", "phrases": ["please", "sorry"]}}
    judge = read(alone).replies.judge
    assert judge == PhraseJudge(name="short", phrases=("please", "sorry"))
    del alone["replies"]["judge"]
    assert read(alone).replies.judge == PhraseJudge()


@pytest.mark.parametrize(
    ("part", "values", "message"),
    [
        ("scored", "prompt", r"scored is 'prompt'; expected .* or 'both'"),
        ("toxic_documents", {"set": "nothing-like-it"}, "unknown .*'nothing-like-it'"),
        ("probe", {"items": None}, r"probe.items is None; expected \{set: NAME"),
        ("probe", {"train_sise": 3}, "did you mean 'train_size'"),
        ("probe", {"train_size": "many"}, "probe: train_size is 'many'; expected int"),
        ("probe", {"train_size": 5}, "train_size is 5; expected an even number"),
        ("probe", {"train": {"set": "x"}}, "unknown .*probe key 'train'"),
        ("probe", {"regression": "ridge"}, "unknown regression of the probe 'ridge'"),
        ("head_probes", {"held_out": 0.5}, "did you mean 'heldout'"),
        ("head_probes", {"heldout": 2}, "heldout is 2; expected a share"),
        ("replies", {"judge": "phrase"}, "did you mean 'phrases'"),
        ("replies", {"judge": {"phrases": "please"}}, "phrases is 'please'; expected a list"),
        ("replies", {"judge": {"phrases": ["("]}}, "no regular expression"),
        ("replies", {"template": "User:"}, r"no \{text\}"),
        ("replies", {"template": 5}, "template is 5; expected str"),
        ("replies", {"prompt": {}}, "did you mean 'prompts'"),
        ("safety_score", {"significanse": 0.1}, "did you mean 'significance'"),
        ("safety_score", {"significance": "high"}, "significance is 'high'; expected float"),
        ("safety_score", {"significance": 2}, "significance is 2; expected a number in"),
        ("rewriting", {"instructions": "again"}, "did you mean 'instruction'"),
        ("rewriting", {"instruction": "again"}, r"expected \{sentence\} somewhere in it"),
        ("rewriting", {"frame": 5}, "frame is 5; expected text"),
        ("rewriting", {"form": "talk"}, "unknown form of asking 'talk'"),
        ("rewriting", {"embedder": "./nowhere"}, "no folder nowhere; expected a model of sentence-transformers"),
    ],
)
def test_each_mistake_is_one_clear_line(spec, part, values, message):
    changed = {**spec, part: {**spec[part], **values} if isinstance(values, dict) and "set" not in values else values}
    with pytest.raises(DetoxError, match=message) as raised:
        read(changed)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("probe", "probe has no train"),
        ("head_probes", "has no items"),
        ("replies", "has no prompts"),
        ("safety_score", "has no items"),
        ("rewriting", "has no texts"),
    ],
)
def test_an_empty_part_says_what_it_needs(spec, part, message):
    with pytest.raises(DetoxError, match=message):
        read({**spec, part: {}})
