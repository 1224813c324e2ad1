"""Every recipe runs as its docstring says: a real process, offline, on the miniature."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

pytestmark = pytest.mark.slow


def run(name: str, *flags: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(REPOSITORY / "recipes" / f"{name}.py"), *flags], capture_output=True, text=True, cwd=cwd
    )


def test_pretrain_smoke_leaves_a_plain_checkpoint_with_its_card(tmp_path):
    started = time.monotonic()
    done = run("pretrain", "--smoke", "--output_dir", "base", "--toxic_share", "0.2", "--arm", "masked", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - started < 60
    card = json.loads((tmp_path / "base" / "pretraining.json").read_text())
    assert (card["arm"], card["recipe"]["objective"]) == ("masked", "masked")
    assert (tmp_path / "base" / "README.md").is_file()
    from detox import LanguageModel

    assert LanguageModel.from_pretrained(tmp_path / "base").generate(["ada: hello"])[0][0].token_ids


def test_flags_come_from_a_file_and_the_command_line_wins(tmp_path):
    (tmp_path / "flags.yaml").write_text(
        "smoke: true\nobjective: unlikelihood\noutput_dir: base\ntoxic_share: 0.2\nseed: 3\n"
    )
    done = run("pretrain", "--config", "flags.yaml", "--objective", "masked", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    recipe = json.loads((tmp_path / "base" / "pretraining.json").read_text())["recipe"]
    assert (recipe["objective"], recipe["seed"]) == ("masked", 3)


@pytest.mark.parametrize("method", ["iti", "prompting"])
def test_detoxify_saves_what_can_be_loaded(method, tmp_path):
    flags = ["--num_heads", "2", "--strength", "2"] if method == "iti" else ["--text", "rules: be kind.\n"]
    done = run("detoxify", method, "--smoke", "--output_dir", "out", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "continuations differ" in done.stdout
    from detox import load

    assert load(tmp_path / "out").capabilities.needs_fit == (method == "iti")
    assert not list(tmp_path.glob("tmp*"))


def test_compose_says_what_was_fitted_on_what(tmp_path):
    done = run("compose", "--smoke", "--output_dir", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    arms = {one["arm"]: one for one in json.loads((tmp_path / "out" / "compose.json").read_text())["arms"]}
    base = arms["dpo"]["fitted_on"]["dpo"]
    assert arms["iti"]["fitted_on"]["iti"] == arms["dpo, iti of the base"]["fitted_on"]["iti carried over"] == base
    assert arms["dpo, iti of it"]["fitted_on"]["iti of dpo"] != base
    assert {name: arm["allow_base_mismatch"] for name, arm in arms.items() if arm.get("allow_base_mismatch")} == {
        "dpo, iti of the base": ["iti carried over"]
    }
    assert len(arms["dpo, iti of it"]["receipts"]) == 2
    assert arms["dpo"]["changes"]["bare"]["cross_entropy"]["value"] != 0
    assert set(arms["dpo, iti of it"]["changes"]) == {"bare", "dpo"}


def test_rewrite_writes_texts_and_what_became_of_them(tmp_path):
    done = run("rewrite", "--smoke", "--output_dir", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    arms = json.loads((tmp_path / "out" / "rewriting.json").read_text())["arms"]
    assert list(arms) == ["bare", "detoxified"]
    assert arms["bare"]["metrics"]["rewriting/toxicity_before"]["value"] == 0.5  # every other text is abuse
    rows = [json.loads(line) for line in (tmp_path / "out" / "rewritten.jsonl").read_text().splitlines()]
    assert len(rows) == 40
    assert all(row["text"] and ("rewritten" in row) != ("problem" in row) for row in rows)


def test_one_text_of_several_lines_is_said_again_and_recorded(tmp_path):
    import detox.miniature as miniature

    miniature.train_base("full", tmp_path / "base", size="test", progress=False)
    (tmp_path / "texts.jsonl").write_text(json.dumps({"id": "a", "text": "you are a cook.\nthe soup is good."}) + "\n")
    flags = [
        "--texts_file",
        "texts.jsonl",
        "--model_name_or_path",
        "base",
        "--max_new_tokens",
        "5",
        "--output_dir",
        "out",
    ]
    done = run("rewrite", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out" / "rewriting.json").read_text())["arms"]
    assert list(found) == ["bare"]
    assert found["bare"]["metrics"]["rewriting/toxicity_before"]["n"] == 1
    (row,) = [json.loads(line) for line in (tmp_path / "out" / "rewritten.jsonl").read_text().splitlines()]
    assert row["text"] == "you are a cook. the soup is good."


def test_evaluate_writes_a_scorecard(tmp_path):
    done = run("evaluate", "--smoke", "--output_dir", "card", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "miniature-truth" in done.stdout
    from detox.evaluation import Scorecard

    metrics = Scorecard.load(tmp_path / "card").metrics
    assert metrics["clean/cross_entropy"].value > 0


def test_compare_prints_the_table_and_draws_the_picture(tmp_path):
    done = run("compare", "--smoke", "--output_dir", "out", "--strengths", "1", "3", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for row in ("base", "iti @ 1", "iti @ 3", "prompting"):
        assert row in done.stdout
    assert (tmp_path / "out" / "pareto.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["pretrain", "--smoke", "--output_dir", "x", "--objectiv", "masked"], "objective"),
        (["pretrain", "--smoke", "--output_dir", "x", "--objective", "maskd"], "masked"),
        (["pretrain", "--smoke", "--output_dir", "x", "--arm", "maskd"], "masked"),
        (
            ["pretrain", "--smoke", "--output_dir", "x", "--arm", "masked", "--objective", "full"],
            "leave out --objective",
        ),
        (["pretrain", "--smoke", "--output_dir", "x", "--middle", "omit"], "policy for the middle band"),
        (["pretrain", "--output_dir", "x", "--dry_run", "--gpu", "H10"], "did you mean 'H100'"),
        (["detoxify", "itti", "--smoke", "--output_dir", "x"], "iti"),
        (["detoxify", "--smoke"], "the first word must be a method"),
        (["compose", "--output_dir", "x"], "give --model_name_or_path, --miniature or --smoke"),
        (["rewrite", "--output_dir", "x"], "give --model_name_or_path, or --smoke"),
        (
            ["rewrite", "--output_dir", "x", "--model_name_or_path", "m"],
            "give either --texts_file or --writer_name_or_path",
        ),
        (["evaluate", "--output_dir", "x"], "--model_name_or_path"),
        (["compare", "--smoke", "--output_dir", "x", "--methods", "promting"], "prompting"),
        (["pretrain", "--config", "no.yaml"], "no file no.yaml"),
    ],
)
def test_what_is_wrong_is_one_line(command, said, tmp_path):
    name, *flags = command
    done = run(name, *flags, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert len([line for line in done.stderr.splitlines() if "error:" in line]) == 1
    assert not (tmp_path / "x").exists() or not list((tmp_path / "x").iterdir())


def test_the_commands_of_pretrain_train_models_of_one_size():
    import re
    import runpy

    from detox.cli.flags import parse
    from detox.pretraining import PretrainingRecipe

    script = runpy.run_path(str(REPOSITORY / "recipes" / "pretrain.py"))
    commands = re.findall(r"python recipes/pretrain.py (.*)", script["__doc__"].replace("\\\n", " "))
    recipes, arms = [], []
    for command in commands:
        words = command.replace("recipes/", f"{REPOSITORY}/recipes/").split()
        arguments, recipe = parse([script["ScriptArguments"], PretrainingRecipe], words)
        recipes.append(recipe)
        arms.append((recipe.steps, arguments.arm, arguments.toxic_share))
    assert arms == [
        (2152, None, 0.0), (2869, "full", 0.25), (2869, "masked", 0.25), (2869, "unlikelihood", 0.25),
    ]  # fmt: skip
    for recipe in recipes:
        assert recipe.sizes() == recipes[0].sizes()
        assert (recipe.hidden_size, recipe.num_hidden_layers, recipe.num_attention_heads) == (192, 6, 6)
        assert (recipe.sequence_length, recipe.batch_size, recipe.precision) == (128, 32, "bf16")


@pytest.mark.parametrize("command", [["pretrain"], ["detoxify", "prompting", "--model_name_or_path", "nowhere"]])
def test_a_place_that_cannot_be_written_is_found_before_any_work(command, tmp_path):
    (tmp_path / "file").write_text("in the way")
    name, *flags = command
    done = run(name, *flags, "--output_dir", "file/out", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: cannot write to file")


def test_probe_heads_measures_three_bases_and_compares_them(tmp_path):
    done = run("probe_heads", "--smoke", "--limit", "120", "--show", "2", "--output_dir", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "out" / "probing.json").read_text())
    assert list(record["bases"]) == ["clean", "toxic mix", "masked"]
    assert [(one["a"], one["b"]) for one in record["comparisons"]] == [("clean", "toxic mix"), ("clean", "masked")]
    assert (tmp_path / "out" / "probing.html").is_file()


def test_entanglement_leaves_a_record_with_every_seed(tmp_path):
    done = run("entanglement", "--smoke", "--output_dir", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "out" / "entanglement.json").read_text())
    assert record["bounds"]["welch"] == pytest.approx((8 / (4 * 11)) ** 0.5, abs=1e-5)
    for model, kinds in (("transformer", {"residual stream", "output head"}), ("autoencoder", {"columns of W"})):
        found = record["models"][model]["entanglement"]
        assert set(found) == kinds
        for groups in found.values():
            assert [len(share["seeds"]) for share in groups["rare"]] == [2, 2]
    assert (tmp_path / "out" / "entanglement.png").is_file()
    wrong = run("entanglement", "--smoke", "--model", "mamba", "--output_dir", "out", cwd=tmp_path)
    assert wrong.returncode == 2
    assert len(wrong.stderr.splitlines()) == 1
