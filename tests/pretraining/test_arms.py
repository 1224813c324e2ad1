from functools import cache

import pytest

from detox.data.records import Document, Span
from detox.errors import UnknownName
from detox.losses import OBJECTIVES
from detox.pretraining import ARMS, Mixture, Source, apply_arm, objective_of, train_tokenizer


@cache
def tokenizer():
    return train_tokenizer(["abc"], 258)


def mixture(**options):
    clean = [Document(id=f"p{i}", text="p" * 19) for i in range(30)]
    toxic = [Document(id=f"t{i}", text="qqqq TTTTT qqqqqqqq", spans=(Span(5, 10),)) for i in range(20)]
    sources = (Source(name="clean", documents=clean), Source(name="toxic", documents=toxic, share=0.25))
    return Mixture(sources=sources, seed=1, **options)


def read(arm, **options):
    packed = apply_arm(arm, mixture(**options)).pack(tokenizer(), sequence_length=16)
    return packed, tokenizer().decode(packed.tokens.reshape(-1).tolist())


def test_every_arm_has_an_objective():
    assert {arm: objective_of(arm) for arm in ARMS} == {
        "full": "full",
        "masked": "masked",
        "unlikelihood": "unlikelihood",
        "filtered": "full",
        "clean": "full",
    }
    assert set(map(objective_of, ARMS)) == set(OBJECTIVES)


def test_the_selective_arms_read_the_very_same_data():
    full, _ = read("full")
    assert full.risk.any()
    assert read("masked")[0].digest == read("unlikelihood")[0].digest == full.digest


def test_the_clean_arm_reads_the_base_alone():
    packed, text = read("clean")
    assert [source.name for source in packed.sources] == ["clean"]
    assert set(text.replace("<|endoftext|>", "")) == {"p"}


def test_the_filtered_arm_reads_nothing_risky_and_loses_nothing_else():
    packed, text = read("filtered")
    full, full_text = read("full")
    assert "T" not in text
    assert not packed.risk.any()
    whole = [d for d in text.split("<|endoftext|>") if d.startswith("q")]
    assert len(whole) >= len([d for d in full_text.split("<|endoftext|>") if d.startswith("q")]) - 1
    assert "qqqq qqqqqqqq" in whole
    assert full.sources[0].tokens == packed.sources[0].tokens  # clean text is held


@pytest.mark.parametrize("call", [objective_of, lambda arm: apply_arm(arm, None)])
def test_an_unknown_arm_names_the_nearest(call):
    with pytest.raises(UnknownName, match="did you mean 'masked'"):
        call("maskd")
