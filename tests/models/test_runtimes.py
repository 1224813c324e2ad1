"""The table of runtimes: complete, explained, shown in the docs as it is."""

from __future__ import annotations

import logging

import pytest

from detox.detoxifiers.planted import FAMILIES
from detox.models.architectures import ATTENTION_OUTPUT
from detox.models.runtimes import bias_warnings, markdown, row, table
from tests.conftest import REPOSITORY
from tests.models.test_export import export, model_of, shift_of


def test_every_family_has_a_row_in_known_words():
    families = table()["families"]
    assert families.keys() >= {family.partition(":")[0] for family in FAMILIES} | ATTENTION_OUTPUT.keys()
    for family, known in families.items():
        assert known["transformers"] in ("keeps", "re-homed", "none"), family
        for name in ("vllm", "llama.cpp"):
            state, where = known[name]
            assert state in table()["states"], family
            # A state is a claim about code: it names the file. Where nothing can be exported there is nothing to claim.
            assert (state == "-") == (known["transformers"] != "keeps"), family
            assert state == "-" or (".py" in where or ".cpp" in where or "not in" in where), family


def test_what_vllm_drops_is_warned_of_and_recorded(tmp_path, caplog):
    assert bias_warnings("llama") == []
    assert bias_warnings("gpt2") == []
    (said,) = bias_warnings("qwen3")
    assert "vLLM 0.33.0 drops" in said
    assert "--model-impl transformers" in said
    lm = model_of("qwen3")
    with lm.edited(shift_of(lm)) as safe, caplog.at_level(logging.WARNING):
        certificate = export(safe, tmp_path / "out")
    assert certificate["warnings"] == [said]
    assert said in caplog.text
    assert certificate["runtimes"] == row("qwen3")


def test_a_family_that_was_not_read_is_not_promised():
    assert row("another")["vllm"] == ["not verified", ""]
    assert len(bias_warnings("another")) == 2
    assert "was not verified" in bias_warnings("another")[0]


def test_the_docs_show_the_table():
    shown = (
        (REPOSITORY / "docs" / "export.md").read_text(encoding="utf-8").split("<!-- detox/models/runtimes.json -->\n")
    )
    assert len(shown) == 2
    if shown[1] != markdown():
        pytest.fail("docs/export.md is behind runtimes.json; put detox.models.runtimes.markdown() after the mark")
