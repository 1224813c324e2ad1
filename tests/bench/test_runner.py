from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from detox.bench import compare
from detox.bench.cells import Store, read_records
from detox.cli import main


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
    assert "no base" in capsys.readouterr().err
    assert len(cells(tmp_path / "results")) == 4


def test_texts_are_kept_apart_and_can_be_dropped(grid, tmp_path):
    _, write = grid
    run(write(tmp_path / "grid.yaml", detoxifiers={}), tmp_path / "kept")
    run(tmp_path / "grid.yaml", tmp_path / "dropped", "--drop_texts")
    assert list((tmp_path / "kept").glob("cells/*/texts.json.gz"))
    assert not list((tmp_path / "dropped").glob("cells/*/texts.json.gz"))
    assert compare(tmp_path / "kept").rows[0].toxicity == compare(tmp_path / "dropped").rows[0].toxicity


def test_a_second_runner_is_kept_out(grid, tmp_path, capsys):
    from detox.bench.cells import exclusive

    _, write = grid
    (tmp_path / "results").mkdir()
    with exclusive(tmp_path / "results"):
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
