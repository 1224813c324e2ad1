"""`detox contrasts lint`: exit codes, what is printed, what is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from detox.cli import main
from detox.data import Contrast, digest, write_contrasts, write_jsonl
from tests.data.test_linting import changed, fair


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    contrasts = fair()
    write_contrasts("fair.jsonl", contrasts)
    write_contrasts("other.jsonl.gz", fair(30, seed=9))
    write_contrasts("contrary.jsonl", changed(contrasts, 7, safe=contrasts[2].toxic))
    write_contrasts("again.jsonl", changed(contrasts, 7, safe=contrasts[2].safe))
    write_jsonl("prompts.jsonl", [{"id": "p", "prompt": contrasts[3].safe[0]}, {"text": "Good morning to you all"}])
    return contrasts


def lint(*words):
    return main(["contrasts", "lint", *words])


def test_the_exit_code_says_whether_there_is_an_error(files, capsys):
    assert lint("fair.jsonl") == 0
    out = capsys.readouterr().out
    assert "fair.jsonl: 60 contrasts, 60 safe and 60 toxic texts" in out
    assert "0 errors, 0 warnings, 0 notes" in out
    assert lint("again.jsonl") == 0
    assert "warning  duplicate" in capsys.readouterr().out
    assert lint("contrary.jsonl") == 3
    assert "error    contradiction" in capsys.readouterr().out


def test_splits_and_evaluation_prompts_are_looked_at_for_leaks(files, capsys):
    assert lint("fair.jsonl", "other.jsonl.gz") == 0
    assert lint("fair.jsonl", "other.jsonl.gz", "--against", "prompts.jsonl") == 3
    out = capsys.readouterr().out
    assert "error    leak: same text" in out
    assert "3 ~ p" in out
    assert lint("fair.jsonl", "again.jsonl") == 3
    assert lint("again.jsonl", "--against", "fair.jsonl") == 3
    assert lint("fair.jsonl", "--against", "other.jsonl.gz") == 0


def test_no_text_is_printed_or_written_and_the_record_holds_every_finding(files, capsys, tmp_path):
    assert lint("contrary.jsonl", "--against", "prompts.jsonl", "--json", "out/record.json") == 3
    out = capsys.readouterr().out
    written = (tmp_path / "out" / "record.json").read_text()
    for one in files:
        for text in (*one.safe, *one.toxic):
            assert text not in out
            assert text not in written
    record = json.loads(written)
    assert record["asked"]["against"] == ["prompts.jsonl"]
    found = record["files"][0]
    assert found["digest"] == digest(changed(files, 7, safe=files[2].toxic))
    assert {"contradiction", "leak: same text"} <= {one["check"] for one in found["findings"]}
    assert set(found["findings"][0]) == {"check", "severity", "count", "of", "detail", "examples", "advice"}
    assert 0 < found["confounds"]["words"]["all_texts"]["value"] < 1


def test_the_limits_can_be_moved(files, capsys):
    assert lint("contrary.jsonl", "--above", "0.99", "--words", "3", "--near", "1") == 3
    Path("terms.txt").write_text("dune\n\nfern\n")
    assert lint("fair.jsonl", "--terms", "terms.txt") == 0


def test_tokens_are_looked_at_with_a_tokenizer(files, capsys, shared_models):
    where = str(shared_models / "stories260K")
    assert lint("fair.jsonl", "--tokenizer", where) == 0
    assert lint("fair.jsonl", "--tokenizer", where, "--context", "5") == 3
    assert "context 5" in capsys.readouterr().out
    assert lint("fair.jsonl", "--tokenizer", where, "--expect_eos") == 3
    assert "error    no EOS" in capsys.readouterr().out
    long = Contrast(id="long", prompt="", safe=("word " * 600,), toxic=("short.",))
    write_contrasts("long.jsonl", [long])
    assert lint("long.jsonl", "--tokenizer", where) == 3  # the context of the model beside it
    assert "context 512" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nothing.jsonl"], "no file nothing.jsonl"),
        (["paradetux"], "paradetox"),
        (["paradetox:trian"], "did you mean 'train'"),
        (["fair.jsonl", "fair.jsonl"], "named twice"),
        (["fair.jsonl", "--expect_eos"], "give it with --tokenizer"),
        (["fair.jsonl", "--context", "5"], "give it with --tokenizer"),
        (["fair.jsonl", "--tokenizer", "./nothing"], "no tokenizer at ./nothing"),
        (["fair.jsonl", "--words", "1"], "expected at least 2"),
        (["fair.jsonl", "--above", "7"], "above 7.0"),
        (["fair.jsonl", "--terms", "none.txt"], "no file none.txt"),
        (["fair.jsonl", "--json", "."], "is a folder"),
        (["fair.jsonl", "--against", "bad.jsonl"], "bad.jsonl:1: no text under prompt or text"),
        (["empty.jsonl"], "no contrasts"),
        (["broken.jsonl"], "broken.jsonl:1: not JSON"),
    ],
)
def test_what_is_wrong_is_one_line(files, words, said, capsys, tmp_path):
    write_jsonl("bad.jsonl", [{"id": "1", "word": "x"}])
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "broken.jsonl").write_text("{\n")
    if words[1:2] == ["--words"]:
        words = [*words, "--against", "prompts.jsonl"]
    assert lint(*words) == 2
    err = capsys.readouterr().err
    assert said in err
    assert len(err.splitlines()) == 1
