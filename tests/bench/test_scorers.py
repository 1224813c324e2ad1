"""Scorers that a grid trains in its results directory."""

from __future__ import annotations

import pytest

from detox.bench.scorers import scorer_maker
from detox.errors import DetoxError, InputError


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
