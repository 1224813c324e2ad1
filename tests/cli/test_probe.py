"""`detox probe`: mistakes in one line; the command itself on a tiny base."""

from __future__ import annotations

import json

import pytest

from detox.cli import main
from detox.cli.probe import named_models
from detox.data import write_contrasts
from detox.errors import InputError


def test_bases_are_named_by_their_folder_or_by_their_user():
    assert named_models(["runs/clean", "org/model"]) == {"clean": ["runs/clean"], "model": ["org/model"]}
    assert named_models(["25 %=a,b/c", "x=y=z"]) == {"25 %": ["a", "b/c"], "x": ["y=z"]}
    assert named_models(["runs/share=0.1"]) == {"share=0.1": ["runs/share=0.1"]}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["a/m", "b/m"], "two bases are called 'm'"),
        (["=x"], "expected MODEL"),
        (["x="], "expected MODEL"),
        (["x=a,,b"], "expected MODEL"),
    ],
)
def test_wrong_names_are_told(values, message):
    with pytest.raises(InputError, match=message):
        named_models(values)


@pytest.fixture
def files(planted, tmp_path):
    planted.lm.model.save_pretrained(tmp_path / "base")
    planted.lm.tokenizer.save_pretrained(tmp_path / "base")
    write_contrasts(tmp_path / "pairs.jsonl", [*planted.contrasts, *planted.heldout])
    return tmp_path


@pytest.mark.slow
def test_a_base_is_probed_and_kept(files, capsys):
    flags = [
        "probe", "--model", f"planted={files / 'base'}", "--contrasts", str(files / "pairs.jsonl"),
        "--output_dir", str(files / "out"), "--heldout", "0.3", "--show", "2",
    ]  # fmt: skip
    assert main(flags) == 0
    out = capsys.readouterr().out
    assert "planted: best head" in out
    assert "probing.html" in out
    card = json.loads((files / "out" / "probing.json").read_text())["bases"]["planted"][0]
    assert card["data"]["groups"] == 64
    assert card["heads"]["best"]["accuracy"]["value"] > 0.9
    assert main(flags) == 0
    assert "planted: measured before, kept" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--heldout", "1.5"], "heldout is 1.5"),
        (["--contrasts", "nothing.jsonl"], "nothing.jsonl"),
        (["--model", "./nowhere"], "no model folder at ./nowhere"),
        (["--show", "-1"], "--show is -1"),
    ],
)
def test_mistakes_are_one_line(files, change, message, capsys):
    flags = {
        "--contrasts": str(files / "pairs.jsonl"),
        "--output_dir": str(files / "out"),
        "--model": str(files / "base"),
    }
    flags |= {change[0]: change[1]}
    assert main(["probe", *(word for pair in flags.items() for word in pair)]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len([line for line in error if line.startswith("error:")]) == 1
    assert message in error[-1]
