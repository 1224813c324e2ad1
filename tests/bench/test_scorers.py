"""Scorers that a grid trains in its results directory."""

from __future__ import annotations

import pytest

from detox.bench.protocols import build_protocol
from detox.bench.scorers import PANEL, scorer_maker
from detox.data import write_jsonl
from detox.errors import DetoxError, InputError, MissingData
from detox.scorers import Score, ScorerCard
from detox.scorers.independence import shared_training_data


def test_a_scorer_of_which_only_the_card_is_there_is_trained_again(tmp_path, monkeypatch):
    import detox.bench.scorers as scorers
    from detox.data.records import LabelledText

    words = [("kind words of thanks to you", 0), ("rude words of scorn to you", 1)]
    texts = [
        LabelledText(id=f"{i}{label}", text=f"{text} {i}", label=label) for i in range(20) for text, label in words
    ]
    monkeypatch.setattr(scorers, "scored_records", lambda name, split: texts)  # the data sets need not be here
    make = scorer_maker(tmp_path)
    spec = {"trained": ["rtp_prompts"], "name": "small"}
    first = make(spec, ())
    [folder] = (tmp_path / "scorers").iterdir()
    for ignored in ("weights.safetensors", "vocabulary.json"):
        (folder / ignored).unlink()
        assert make(spec, ()).card.identity() == first.card.identity()
        assert (folder / ignored).is_file()


@pytest.mark.parametrize(
    "spec", [{"trained": 5}, {"trained": "rtp_prompts"}, {"trained": True, "seed": "x"}, 5, {"a": 1}]
)
def test_a_spec_of_the_wrong_type_is_one_line(spec, tmp_path):
    with pytest.raises(InputError) as caught:
        scorer_maker(tmp_path)(spec, ())
    assert isinstance(caught.value, DetoxError)
    assert len(str(caught.value).splitlines()) == 1


def test_a_protocol_takes_the_panel_by_its_name(tmp_path):
    class Stub:
        def __init__(self, spec):
            self.card = ScorerCard(spec if isinstance(spec, str) else spec["name"], "1", (), None, "reads all")

        def score(self, texts):
            return [Score(0.0) for _ in texts]

    write_jsonl(tmp_path / "prompts.jsonl", [{"id": "a", "text": "I say"}])
    spec = {"prompts": {"file": str(tmp_path / "prompts.jsonl")}, "scorers": "panel"}
    asked = []
    protocol = build_protocol("mine", spec, lambda one, prompts: asked.append((one, prompts)) or Stub(one))
    assert [one.card.name for one in protocol.scorers] == ["profanity", "perspective", "wordlist"]
    assert [one for one, _ in asked] == list(PANEL)
    assert all([prompt.text for prompt in prompts] == ["I say"] for _, prompts in asked)
    with pytest.raises(InputError, match="expected a list, or panel"):
        build_protocol("mine", {**spec, "scorers": "pannel"}, lambda one, prompts: Stub(one))


@pytest.mark.slow
@pytest.mark.shared_data
def test_the_scorers_of_the_panel_learned_from_nothing_in_common(tmp_path):
    try:
        make = scorer_maker(tmp_path)
        panel = [make(spec, ()) for spec in PANEL]
    except MissingData as error:
        pytest.skip(str(error))
    cards = [scorer.card for scorer in panel]
    assert len(cards) >= 2
    assert shared_training_data(cards) == {}
    assert sum(not card.trained_on for card in cards) == 1
