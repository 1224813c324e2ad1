"""`detox scorers check`, as a user runs it."""

from __future__ import annotations

import json

import pytest

from detox.cli import main
from detox.cli.scorers_check import trust
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
    assert f"1.000 [{0.025 ** (1 / 15):.3f}, 1.000]" in said  # of 15 against 15 texts, perfectly told apart
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


def test_it_says_in_words_where_a_scorer_can_be_trusted():
    def one(auc, low, high, *, n=200, toxic=100, overlap=()):
        return {"n": n, "n_toxic": toxic, "roc_auc": auc, "roc_auc_interval": [low, high], "overlap": list(overlap)}

    said = trust(
        {
            "sets": {
                "good": one(0.9, 0.85, 0.95),
                "wide": one(0.9, 0.75, 1.0),
                "bad": one(0.6, 0.55, 0.65),
                "tiny": one(1.0, 1.0, 1.0, toxic=19),
                "learned": one(0.99, 0.98, 1.0, overlap=["jigsaw"]),
                "silent": {"n": 0, "n_missing": 5},
            }
        }
    )
    assert [line.rpartition(": ")[2] for line in said] == ["good", "wide", "bad", "tiny", "learned"]
    assert said[0].startswith("trust its ranking")
    assert said[2].startswith("do not use it")
    assert said[4].startswith("only an upper bound")
