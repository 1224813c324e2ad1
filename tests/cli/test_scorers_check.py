"""`detox scorers check`, as a user runs it."""

from __future__ import annotations

import json

import pytest

from detox.cli import main
from detox.data import write_jsonl
from tests.bench.conftest import SCORER


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "rudeness.py").write_text(SCORER.replace("return [Score(sum", "return [Score(1.0 - 0.9 * (not sum").replace(
        "/ len(t.split()))", "))"
    ))  # fmt: skip
    rows = [{"id": str(i), "text": f"{'rude' if i % 2 else 'kind'} word {i}", "label": i % 2} for i in range(30)]
    write_jsonl(tmp_path / "labelled.jsonl", rows)
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("DETOX_DATA", str(tmp_path / "empty"))
    return tmp_path


def test_a_plugin_is_checked_on_a_file(folder, capsys):
    scorer, file, out = f"{folder / 'rudeness.py'}:Rudeness", str(folder / "labelled.jsonl"), folder / "out"
    asked = ["scorers", "check", scorer, "--dataset_name", file, "madlibs_bias", "--output_dir", str(out)]
    assert main(asked) == 0
    said = capsys.readouterr().out
    assert "rudeness (1), trained on nothing; toxic at or above 0.5" in said
    assert "1.000 [1.000, 1.000]" in said
    assert "not here: madlibs_bias: madlibs_bias: no madlibs_bias.jsonl.gz in" in said
    record = json.loads((out / "rudeness.json").read_text())
    assert record["sets"][file]["sensitivity"] == [15, 15]
    assert record["sets"][file]["specificity"] == [15, 15]
    assert record["provenance"]["packages"]["detox"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["profanity"], "no set to check on"),
        (["profanitty"], "did you mean 'profanity'"),
        (["{name"], "is not JSON"),
        (["profanity", "--threshold", "0"], "--threshold is 0.0"),
        (["profanity", "--limit", "-1"], "--limit is -1"),
        (["profanity", "--dataset_name", "nowhere.jsonl"], "nowhere.jsonl"),
    ],
)
def test_what_is_wrong_is_one_line(folder, capsys, words, says):
    assert main(["scorers", "check", *words]) == 2
    captured = capsys.readouterr()
    assert says in captured.err
    assert captured.err.count("\n") == 1
