from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from detox import LanguageModel
from detox.bench import compare
from detox.bench.cells import Store, read_records
from detox.cli import main
from tests.conftest import hear_ctrl_c


def run(path, output, *more) -> int:
    return main(["bench", "run", str(path), "--output_dir", str(output), *more])


def cells(output) -> dict[str, float]:
    return {p.name: (p / "scorecard.json").stat().st_mtime_ns for p in (output / "cells").iterdir()}


def test_a_grid_from_file_to_picture(grid, tmp_path, capsys):
    _, write = grid
    output = tmp_path / "results"
    assert run(write(tmp_path / "grid.yaml"), output) == 0
    out, err = capsys.readouterr()
    assert "4 cells computed, 0 were there, 0 failed" in err
    assert "min left" in err
    for line in ("planted  -", "planted  prompting", "planted  iti @ 0.3", "planted  iti @ 3"):
        assert line in out
    assert (output / "pareto.png").read_bytes()[:4] == b"\x89PNG"
    table = (output / "comparison.csv").read_text().splitlines()
    assert len(table) == 5
    assert table[0].startswith("base,method,strength,protocol,seed,toxicity/rudeness/mean,")
    comparison = compare(output)
    base, one, three = (
        next(r for r in comparison.rows if (r.method, r.strength) == k)
        for k in ((None, None), ("iti", 0.3), ("iti", 3))
    )
    assert base.toxicity_change is None
    assert three.toxicity.value < one.toxicity.value < base.toxicity.value
    assert three.toxicity_change.value == pytest.approx(three.toxicity.value - base.toxicity.value)
    assert three.toxicity_change.high < 0
    record = json.loads((output / "cells" / three_folder(output) / "cell.json").read_text())
    assert record["provenance"]["packages"]["torch"]
    assert record["fit"]["learned"]["heads"]
    assert (
        json.loads((output / "cells" / three_folder(output) / "scorecard.json").read_text())["receipts"][0]["tokens"][
            "generated"
        ]
        > 0
    )


@pytest.mark.slow
def test_a_method_is_held_against_its_controls(grid, tmp_path, capsys):
    raw, write = grid
    methods = copy.deepcopy(raw["detoxifiers"])
    methods["iti"] |= {"controls": {"names": ["random", "flipped"], "strengths": [3]}}
    path, output = write(tmp_path / "grid.yaml", detoxifiers=methods), tmp_path / "results"
    assert run(path, output) == 0
    out, err = capsys.readouterr()
    assert "6 cells computed" in err
    comparison = compare(output)
    assert {row.method for row in comparison.rows} == {None, "iti", "prompting"}  # a control is no method
    assert {(row.method, row.strength) for row in comparison.control_rows} == {
        ("iti (random)", 3),
        ("iti (flipped)", 3),
    }
    assert comparison.controls == {"iti (random)": "iti", "iti (flipped)": "iti"}
    flipped = next(row for row in comparison.control_rows if row.method == "iti (flipped)")
    assert flipped.toxicity_change.value > 0
    assert "Against controls, at equal cross-entropy" in out
    lines = [line for line in out.splitlines() if "iti (flipped)" in line]
    assert lines
    assert all(line.endswith("beats") for line in lines)
    assert "iti (random)" in (output / "comparison.csv").read_text()
    assert (output / "controls.md").read_text().count("| beats |") >= 1
    # By default a method comes with all controls, at its own strengths.
    del methods["iti"]["controls"]
    write(path, detoxifiers=methods)
    assert run(path, output) == 0
    assert "4 cells computed, 6 were there" in capsys.readouterr().err


def three_folder(output) -> str:
    return next(p.name for p in (output / "cells").iterdir() if "iti@3" in p.name)


def test_a_finished_cell_is_never_computed_again_and_what_matters_makes_another(grid, tmp_path, capsys):
    raw, write = grid
    output = tmp_path / "results"
    run(write(tmp_path / "grid.yaml"), output)
    first = cells(output)
    assert run(tmp_path / "grid.yaml", output) == 0
    assert cells(output) == first
    assert "0 cells computed, 4 were there" in capsys.readouterr().err

    changed = copy.deepcopy(raw)
    changed["detoxifiers"]["iti"]["strengths"] = [0.3, 2]
    run(write(tmp_path / "more.yaml", **changed), output)
    second = cells(output)
    assert {k: second[k] for k in first} == first
    assert len(second) == 5
    assert {r.strength for r in compare(output).rows} == {None, 0.3, 2}  # the last grid says which cells are meant

    for change in (
        lambda g: g["protocols"]["main"]["sampling"].update(max_new_tokens=5),
        lambda g: g["detoxifiers"]["iti"]["settings"].update(num_heads=3),
        lambda g: g.update(seeds=[7]),
    ):
        other = copy.deepcopy(raw)
        change(other)
        before = set(cells(output))
        run(write(tmp_path / "other.yaml", **other), output)
        assert set(cells(output)) > before

    renamed = copy.deepcopy(raw)
    renamed["bases"] = {"another name": renamed["bases"]["planted"]}
    before = set(cells(output))
    run(write(tmp_path / "renamed.yaml", **renamed), output)
    assert set(cells(output)) == before


def test_the_fit_is_shared_by_the_strengths(grid, tmp_path):
    _, write = grid
    run(write(tmp_path / "grid.yaml"), tmp_path / "results")
    assert len(list((tmp_path / "results" / "fits").iterdir())) == 1


def test_other_weights_under_the_same_path_make_other_cells(grid, tmp_path, planted):
    import shutil

    raw, write = grid
    model = tmp_path / "model"
    shutil.copytree(raw["bases"]["planted"]["model"], model)
    path = write(tmp_path / "grid.yaml", bases={"planted": {"model": str(model)}}, detoxifiers={})
    run(path, tmp_path / "results")
    import torch
    from safetensors.torch import load_file, save_file

    tensors = load_file(model / "model.safetensors")
    tensors["model.norm.weight"] += torch.ones(())
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})
    run(path, tmp_path / "results")
    assert len(cells(tmp_path / "results")) == 2


def test_a_failing_cell_is_a_named_hole_and_the_others_finish(grid, grid_files, tmp_path, capsys):
    raw, write = grid
    methods = {
        "failing": {"method": f"{grid_files / 'methods.py'}:Failing"},
        "damaging": {"method": f"{grid_files / 'methods.py'}:Damaging"},
        **raw["detoxifiers"],
    }
    path = write(tmp_path / "grid.yaml", detoxifiers=methods)
    assert run(path, tmp_path / "results") == 3
    out, err = capsys.readouterr()
    assert "RuntimeError: this method always fails" in err
    assert "weights changed" in err
    assert "no record" in out
    assert "Traceback" not in err
    assert len(cells(tmp_path / "results")) == 4
    [note] = [json.loads(p.read_text()) for p in (tmp_path / "results" / "failures").glob("*failing*")]
    assert "this method always fails" in note["reason"]
    assert "Traceback" in note["details"]
    # What came after the damage was measured on the model as it is on disk.
    assert run(write(tmp_path / "sound.yaml"), tmp_path / "sound") == 0
    sound = {r.method_label: r.toxicity for r in compare(tmp_path / "sound").rows}
    assert all(r.toxicity == sound[r.method_label] for r in compare(tmp_path / "results").rows)


def test_a_missing_base_is_a_hole_too(grid, tmp_path, capsys):
    raw, write = grid
    bases = {"absent": {"model": str(tmp_path / "nowhere" / "model")}, **raw["bases"]}
    assert run(write(tmp_path / "grid.yaml", bases=bases), tmp_path / "results") == 3
    err = capsys.readouterr().err
    assert "] absent + iti @ 0.3: no base" in err
    assert "4 cells computed, 0 were there, 4 failed" in err
    assert "already there" not in err
    for name in ("absent, main", "absent + prompting, main", "absent + iti @ 0.3, main", "absent + iti @ 3, main"):
        assert f"error: no record of {name}, seed 0: no base: MissingData: " in err
    assert len(cells(tmp_path / "results")) == 4


def test_whatever_breaks_while_a_base_is_made_is_a_hole_and_an_interrupt_is_none(grid_files, tmp_path):
    from dataclasses import replace

    from detox.bench import read_grid, run_grid
    from detox.bench.bases import Base
    from detox.bench.scorers import scorer_maker

    class Corpus:
        def __init__(self, error):
            self.error = error

        def identity(self):
            return {}

        def build(self, folder, progress):
            raise self.error

    raw = {"name": "g", "bases": {"planted": {"model": str(grid_files / "model")}},
           "protocols": {"main": {"documents": {"file": str(grid_files / "documents.jsonl")}}}}  # fmt: skip
    (tmp_path / "grid.yaml").write_text(json.dumps(raw))
    grid = read_grid(tmp_path / "grid.yaml", make_scorer=scorer_maker(tmp_path))
    broken = replace(grid, bases=(Base(name="b", corpus=Corpus(RuntimeError("out of luck"))), *grid.bases))
    outcome = run_grid(broken, tmp_path / "out", say=lambda line: None)
    assert outcome.holes == {"b, main, seed 0": "no base: RuntimeError: out of luck"}
    assert outcome.computed == 1
    assert "Traceback" in (tmp_path / "out" / "failures" / "b--base.json").read_text()
    stopped = replace(grid, bases=(Base(name="b", corpus=Corpus(KeyboardInterrupt())),))
    with pytest.raises(KeyboardInterrupt):
        run_grid(stopped, tmp_path / "out", say=lambda line: None)


def test_texts_are_kept_apart_and_can_be_dropped(grid, tmp_path):
    _, write = grid
    run(write(tmp_path / "grid.yaml", detoxifiers={}), tmp_path / "kept")
    run(tmp_path / "grid.yaml", tmp_path / "dropped", "--drop_texts")
    assert list((tmp_path / "kept").glob("cells/*/texts.json.gz"))
    assert not list((tmp_path / "dropped").glob("cells/*/texts.json.gz"))
    assert compare(tmp_path / "kept").rows[0].toxicity == compare(tmp_path / "dropped").rows[0].toxicity


def test_a_second_runner_is_kept_out(grid, tmp_path, capsys):
    from detox.bench.cells import sole_runner

    _, write = grid
    (tmp_path / "results").mkdir()
    with sole_runner(tmp_path / "results"):
        assert run(write(tmp_path / "grid.yaml"), tmp_path / "results") == 2
    assert "another runner is at work" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_killed_it_goes_on_where_it_was(grid, tmp_path, how):
    raw, write = grid
    many = copy.deepcopy(raw)
    many["detoxifiers"]["iti"]["strengths"] = [round(0.1 * i, 1) for i in range(1, 40)]
    path, output = write(tmp_path / "grid.yaml", **many), tmp_path / "results"
    command = [sys.executable, "-m", "detox", "bench", "run", str(path), "--output_dir", str(output)]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=hear_ctrl_c,
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and len(list(output.glob("cells/*/cell.json"))) < 3:
        time.sleep(0.05)
    process.send_signal(how)
    _, err = process.communicate(timeout=60)
    assert process.returncode == (130 if how == signal.SIGINT else -how)
    assert "Traceback" not in err
    done = cells(output)
    assert 3 <= len(done) < 41
    whole = [r.folder.name for r in read_records(output)]
    assert set(whole) == {n for n in done if not n.startswith(".")}
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"{41 - len(whole)} cells computed, {len(whole)} were there, 0 failed" in finished.stderr
    after = cells(output)
    assert all(after[name] == done[name] for name in whole)
    assert not [n for n in os.listdir(output / "cells") if n.startswith(".") and how == signal.SIGINT]


def test_store_reads_what_it_wrote(grid, tmp_path):
    _, write = grid
    run(write(tmp_path / "grid.yaml", detoxifiers={}), tmp_path / "results")
    [record] = read_records(tmp_path / "results")
    assert record.names["base"] == "planted"
    assert Store(tmp_path / "results").directory.is_dir()


@pytest.mark.slow
def test_weights_damaged_before_an_exception_or_in_a_fit_reach_no_other_cell(grid, grid_files, tmp_path, capsys):
    raw, write = grid
    methods = {
        "breaking": {"method": f"{grid_files / 'methods.py'}:Breaking"},
        "learning": {"method": f"{grid_files / 'methods.py'}:Learning", "settings": {"num_heads": 4}},
        "iti": raw["detoxifiers"]["iti"],
    }
    assert run(write(tmp_path / "grid.yaml", detoxifiers=methods), tmp_path / "damaged") == 3
    assert "weights changed in the fit" in capsys.readouterr().err
    assert not list((tmp_path / "damaged" / "fits").glob("*learning*"))
    assert run(write(tmp_path / "sound.yaml", detoxifiers={"iti": methods["iti"]}), tmp_path / "sound") == 0
    cards = [{c.name: measured(c) for c in (tmp_path / f / "cells").glob("*iti*")} for f in ("damaged", "sound")]
    assert len(cards[0]) == 2
    assert cards[0] == cards[1]


def measured(cell) -> tuple[str, dict]:
    card = json.loads((cell / "scorecard.json").read_text())
    return card["fingerprint"], card["metrics"]


def test_another_text_of_a_method_file_makes_other_cells(grid, tmp_path):
    _, write = grid
    file = tmp_path / "mine.py"
    file.write_text(
        "from dataclasses import dataclass\nfrom detox.detoxifiers import ITI\n"
        "@dataclass(kw_only=True)\nclass Mine(ITI):\n    num_heads: int = 4\n"
    )
    path = write(
        tmp_path / "grid.yaml", detoxifiers={"mine": {"method": f"{file}:Mine", "strengths": [1], "controls": False}}
    )
    assert run(path, tmp_path / "results") == 0
    assert run(path, tmp_path / "results") == 0
    assert len(cells(tmp_path / "results")) == 2
    file.write_text(file.read_text() + "# edited\n")
    assert run(path, tmp_path / "results") == 0
    assert len(cells(tmp_path / "results")) == 3
    assert len(list((tmp_path / "results" / "fits").iterdir())) == 2


def test_a_renamed_base_or_protocol_is_compared_under_its_new_name(grid, tmp_path, capsys):
    raw, write = grid
    output = tmp_path / "results"
    few = {"prompting": raw["detoxifiers"]["prompting"]}
    assert run(write(tmp_path / "grid.yaml", detoxifiers=few), output) == 0
    model, main_protocol = raw["bases"]["planted"], raw["protocols"]["main"]
    renamed = {"bases": {"a": model, "b": model}, "protocols": {"p": main_protocol}, "detoxifiers": few}
    assert run(write(tmp_path / "renamed.yaml", **renamed), output) == 0
    assert "0 cells computed, 4 were there" in capsys.readouterr().err
    comparison = compare(output, protocol="p")
    assert [(r.base, r.method, r.protocol) for r in comparison.rows] == [
        ("a", None, "p"), ("a", "prompting", "p"), ("b", None, "p"), ("b", "prompting", "p"),
    ]  # fmt: skip
    assert comparison.rows[1].toxicity_change == comparison.rows[3].toxicity_change is not None
    (output / "grid.json").unlink()  # records alone are compared by the names that they were written with
    assert {(r.base, r.protocol) for r in compare(output).rows} == {("planted", "main")}


def test_a_protocol_without_any_record_is_shown_as_holes(grid, tmp_path, capsys):
    raw, write = grid
    failing = {**raw["protocols"]["main"], "chat": True}  # the model has no chat template
    protocols = {"failing": failing, "main": raw["protocols"]["main"]}
    assert run(write(tmp_path / "grid.yaml", detoxifiers={}, protocols=protocols), tmp_path / "results") == 3
    out, err = capsys.readouterr()
    assert "error: no record of planted-----failing--seed0" in err
    assert "planted  -" in out
    assert (tmp_path / "results" / "comparison-main.csv").is_file()
    assert not (tmp_path / "results" / "comparison-failing.csv").exists()
    written = (tmp_path / "results" / "grid.json").read_bytes()
    # A later run without a single record does not throw the list of cells away.
    assert run(write(tmp_path / "grid.yaml", detoxifiers={}, protocols={"failing": failing}), tmp_path / "results") == 3
    assert (tmp_path / "results" / "grid.json").read_bytes() == written


def test_a_fit_without_its_tensors_is_fitted_again(grid, tmp_path, capsys):
    raw, write = grid
    output = tmp_path / "results"
    assert run(write(tmp_path / "grid.yaml", detoxifiers={"iti": raw["detoxifiers"]["iti"]}), output) == 0
    [tensors] = output.glob("fits/*/tensors.safetensors")
    tensors.unlink()
    changed = {"iti": {**raw["detoxifiers"]["iti"], "strengths": [0.3, 2]}}
    assert run(write(tmp_path / "grid.yaml", detoxifiers=changed), output) == 0
    assert "1 cells computed, 2 were there, 0 failed" in capsys.readouterr().err
    assert tensors.is_file()


def test_the_commit_is_that_of_the_repository_that_tracks_the_package(tmp_path):
    from detox.bench.cells import source_commit

    def git(*words):
        who = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
        subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True)

    package = tmp_path / "site" / "package"
    (package / "inner").mkdir(parents=True)
    (package / "inner" / "code.py").write_text("x = 1\n")
    git("init")
    git("commit", "--allow-empty", "-m", "empty")
    assert source_commit(package) is None
    git("add", "site")
    git("commit", "-m", "package")
    assert source_commit(package)["changed"] is False
    (package / "inner" / "code.py").write_text("x = 2\n")
    assert source_commit(package)["changed"] is True


def test_methods_and_protocols_of_some_bases_only(grid, tmp_path, capsys):
    raw, write = grid
    bases = {}
    for size in (1, 2, 3):  # models of their own: a cell is known by the weights, not by the name
        model = LanguageModel.from_pretrained(raw["bases"]["planted"]["model"])
        next(model.model.parameters()).data.mul_(1 + size / 100)
        for part in (model.model, model.tokenizer):
            part.save_pretrained(tmp_path / f"model{size}")
        bases[f"b{size}"] = {"model": str(tmp_path / f"model{size}"), "factors": {"size": size}}
    methods = copy.deepcopy(raw["detoxifiers"])
    methods["prompting"] = {**(methods["prompting"] or {}), "bases": {"size": [1, 3]}}
    del methods["iti"]
    margins = {"contrasts": {"file": raw["fit"]["contrasts"]["file"]}, "bases": {"size": [2, 3]}}
    path = write(
        tmp_path / "grid.yaml", bases=bases, detoxifiers=methods, protocols={**raw["protocols"], "margins": margins}
    )
    assert run(path, tmp_path / "out") == 0
    found = {
        (cell["base"], cell["method"], cell["protocol"])
        for cell in (json.loads(one.read_text()) for one in (tmp_path / "out" / "cells").glob("*/cell.json"))
    }
    assert found == {
        ("b1", None, "main"), ("b1", "prompting", "main"), ("b2", None, "main"), ("b2", None, "margins"),
        ("b3", None, "main"), ("b3", None, "margins"), ("b3", "prompting", "main"), ("b3", "prompting", "margins"),
    }  # fmt: skip


def test_a_setting_that_came_later_is_no_part_of_the_identity_of_old_fits():
    from detox import ContrastivePerplexity
    from detox.detoxifiers.contract import hyperparameters, identifying

    usual, other = ContrastivePerplexity(), ContrastivePerplexity(learn_from="safe")
    assert "learn_from" in hyperparameters(usual)
    assert identifying(usual) == {k: v for k, v in hyperparameters(usual).items() if k != "learn_from"}
    assert identifying(other)["learn_from"] == "safe"
