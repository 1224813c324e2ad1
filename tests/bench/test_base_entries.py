"""Bases of a grid: one an entry, or one for every combination of values."""

from __future__ import annotations

import pytest

from detox.bench.base_entries import read_bases
from detox.bench.cells import base_identity
from detox.errors import InputError, UnknownName
from tests.models.test_likelihood import tiny


def test_every_combination_is_a_base_with_its_factors():
    bases = read_bases(
        {
            "{arm} {share} s{seed}": {
                "for": {"arm": ["full", "masked"], "share": [0.1, 0.25], "seed": [0, 1]},
                "factors": {"stage": "pretrained"},
                "pretrain": {"data": "miniature", "arm": "{arm}", "share": "{share}", "seed": "{seed}"},
            },
            "plain": {"model": "some/id"},
        }
    )
    assert [base.name for base in bases][:3] == ["full 0.1 s0", "full 0.1 s1", "full 0.25 s0"]
    assert len(bases) == 9
    assert bases[3].factors == {"arm": "full", "share": 0.25, "seed": 1, "stage": "pretrained"}
    assert (bases[3].corpus.arm, bases[3].corpus.share, bases[3].corpus.seed) == ("full", 0.25, 1)  # numbers, not texts
    assert bases[-1].factors == {}


@pytest.mark.slow
def test_an_instructed_base_comes_after_the_one_that_it_instructs():
    spec = {"dialogues": {"set": "miniature", "limit": 4}}
    entries = {
        "full s{seed}": {"for": {"seed": [0, 1]}, "pretrain": {"data": "miniature", "arm": "full", "seed": "{seed}"}},
        "full s{seed} +it": {"for": {"seed": [0, 1]}, "instruct": {"base": "full s{seed}", **spec}},
    }
    bases = {base.name: base for base in read_bases(entries)}
    assert bases["full s1 +it"].corpus.base is bases["full s1"]
    assert bases["full s1 +it"].root == "full s1"
    assert bases["full s0 +it"].corpus.identity() != bases["full s1 +it"].corpus.identity()
    with pytest.raises(UnknownName, match=r"instructs \(it must stand before it\) 'fall'; did you mean 'full s"):
        read_bases({**entries, "other": {"instruct": {"base": "fall", **spec}}})


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"a": {"for": {"seed": [0, 1]}, "model": "x"}}, r"its name lacks \{seed\}"),
        ({"{seed}": {"for": {"seed": 0}, "model": "x"}}, r"expected \{NAME: \[VALUE"),
        ({"{seed}": {"for": {"seed": [0, 0]}, "model": "x"}}, "two bases '0'"),
        ({"a": {"model": "x", "factors": [1]}}, r"factors is \[1\]"),
        ({"a": {"model": "x", "attention_output": 3}}, "attention_output is 3; expected a path"),
        (
            {"a": {"pretrain": {"data": "miniature", "arm": "full"}, "attention_output": "layers.{}.out"}},
            "beside model",
        ),
        ({"a": {"model": "x", "pretrain": {}}}, "must have either"),
        ({"a": {"factors": {}}}, "must have either"),
        ({"a": {"modle": "x"}}, "did you mean 'model'"),
        ({"a": {"pretrain": {"data": "miniature", "arm": "maskd"}}}, "did you mean 'masked'"),
        ({"a": {"pretrain": {"data": "miniature", "arm": "full", "share": "1/4"}}}, "share is '1/4'"),
        ({"a": {"pretrain": {"arm": "full", "recipe": {"objective": "masked"}}}}, "arm decides the recipe's objective"),
        ({"a": {"pretrain": {"passes": 1.0, "recipe": {"steps": 3}}}}, "passes decides the recipe's steps"),
    ],
)
def test_what_is_wrong_is_said(entries, said):
    with pytest.raises(InputError, match=said):
        read_bases(entries)


def test_where_heads_are_told_is_part_of_what_a_base_is(tmp_path):
    lm = tiny("llama")
    lm.model.save_pretrained(tmp_path)
    entry = {"model": str(tmp_path)}
    plain, told = read_bases({"a": entry, "b": {**entry, "attention_output": "model.layers.{}.self_attn.o_proj"}})
    assert told.attention_output == "model.layers.{}.self_attn.o_proj"
    identities = [base_identity(base, str(tmp_path)) for base in (plain, told)]
    assert "attention_output" not in identities[0]
    assert identities[1] == {**identities[0], "attention_output": told.attention_output}
