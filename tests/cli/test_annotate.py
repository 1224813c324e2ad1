"""`detox data annotate`: what it prints, and what is wrong in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from detox.cli import main
from detox.pretraining import read_annotated


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [
        {"key": 1, "body": "Thank you for the fine garden. You are a stupid fool!", "marks": [[0, 5]]},
        {"key": 2, "body": "", "marks": []},
        {"key": 3, "body": "日本語です。", "marks": []},
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "words.txt").write_text("fine garden\n")
    return [
        "data",
        "annotate",
        "--input",
        "a.jsonl",
        "--output_dir",
        "out",
        "--text_column",
        "body",
        "--id_column",
        "key",
    ]


def test_a_scorer_of_sentences_labels_them_and_says_how_many(corpus, capsys):
    words = [*corpus, "--scorer", "profanity", "--toxic_above", ".5", "--middle_above", ".3", "--kind", "rude"]
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert err == ""
    found = list(read_annotated("out"))
    assert [one.id for one in found] == ["1", "2", "3"]
    assert [(found[0].text[s.start : s.end], s.kind) for s in found[0].spans] == [("You are a stupid fool!", "rude")]
    assert [span.kind for span in found[2].spans] == ["rude:middle"]  # could not be scored
    assert "3 documents (1 empty), 59 characters" in out
    assert "rude: 22 characters" in out
    assert "3 sentences: 1 risky, 1 safe, 1 unscored" in out
    assert "could not be scored (no known word): 1" in out
    assert main(words) == 0  # done already
    assert capsys.readouterr().out == out


def test_words_and_spans_of_the_data(corpus):
    assert main([*corpus, "--wordlist", "words.txt", "--from_spans", "marks", "--format", "jsonl"]) == 0
    first = json.loads(Path("out/shard-000000.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert first["spans"] == [[0, 5], [18, 29]]
    corpus[corpus.index("out")] = "again"
    assert main([*corpus, "--from_spans", "marks", "--kind", "copyrighted", "--num_workers", "1"]) == 0
    assert [len(one.spans) for one in read_annotated("again")] == [1, 0, 0]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], "nothing to annotate with"),
        (["--scorer", "profanty"], "did you mean 'profanity'"),
        (["--scorer", "profanity", "--wordlist", "words.txt"], "a scorer and a word list"),
        (["--wordlist", "none.txt"], "no word list at none.txt"),
        (["--wordlist", "words.txt", "--toxic_above", ".5"], "--toxic_above is about scores of sentences"),
        (["--scorer", "profanity", "--toxic_above", ".2", "--middle_above", ".3"], "middle_above <= toxic_above"),
        (["--scorer", "profanity", "--missing", "saef"], "did you mean 'safe'"),
        (["--wordlist", "words.txt", "--format", "arow"], "did you mean 'arrow'"),
        (["--wordlist", "words.txt", "--invalid", "ignore"], "unknown invalid 'ignore'"),
        (["--wordlist", "words.txt", "--kind", " "], "kind is ' '"),
        (
            ["--from_spans", "marks", "--text_column", "txt"],
            "a.jsonl:1: column 'txt' is not there (saw key, body, marks)",
        ),
        (["--from_spans", "spans"], "a.jsonl:1: no column 'spans'"),
        (["--wordlist", "words.txt", "--input", "b.jsonl"], "no file b.jsonl"),
        (["--wordlist", "words.txt", "--input", "nobody/nothing"], "the hub has no such data set"),
        (["--wordlist", "words.txt", "--output_dir", "a.jsonl"], "a.jsonl is a file"),
        (["--wordlist", "words.txt", "--output_dir", "."], "give a new or empty folder"),
    ],
)
def test_what_is_wrong_is_one_line(flags, said, corpus, capsys, tmp_path):
    before = sorted(path.name for path in tmp_path.iterdir())
    assert main([*corpus, *flags]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == before
