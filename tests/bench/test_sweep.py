"""A sweep as one would do it: tune two methods, killed on the way; a grid of what was chosen; the tables; the page."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from detox.cli import main


@pytest.mark.slow
def test_from_tuning_to_the_page(grid, tmp_path, capsys):
    raw, write = grid
    asked = copy.deepcopy(raw)
    del asked["protocols"]["main"]["contrasts"]
    weights = {"lora_r": 4, "batch_size": 8, "epochs": 1}
    asked["detoxifiers"] = {
        "iti": {"settings": {"num_heads": 4}, "strength": {"low": 0.3, "high": 2.0}},
        "sft": {"settings": weights, "strength": {"low": 0.2, "high": 1.0}, "search": {"learning_rate": [1e-3, 5e-3]}},
    }
    settings = {"budget": 1.0, "trials": 4, "seed": 0}
    path, output = write(tmp_path / "tune.yaml", **asked, tune=settings), tmp_path / "out"
    command = [sys.executable, "-m", "detox", "tune", str(path), "--output_dir", str(output)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if len(list(output.glob("cells/*iti*/cell.json"))) >= 2:
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    there = set(output.glob("cells/*iti*/cell.json"))
    assert len(there) >= 2
    ages = {file: file.stat().st_mtime_ns for file in there}
    assert main(command[3:]) == 0
    out, err = capsys.readouterr()
    assert {file: file.stat().st_mtime_ns for file in there} == ages  # what was measured before the kill stands
    assert "points are there, the search goes on" in err
    assert "  toxicity " in err  # each point says what it gave
    records = {one["method"]: one for one in map(json.loads, (f.read_text() for f in output.glob("tuned/*.json")))}
    assert all(record["chosen"] for record in records.values()), out
    assert f"`held_out_of: {output}`" in out
    assert main(["tune", "show", str(output)]) == 0
    assert "learning_rate" in capsys.readouterr().out

    protocols = {"main": {**asked["protocols"]["main"], "held_out_of": str(output)}}
    methods = {name: {"tuned": str(output), "controls": False} for name in records}
    grid_file = write(tmp_path / "grid.yaml", detoxifiers=methods, protocols=protocols)
    assert main(["bench", "run", str(grid_file), "--output_dir", str(output)]) == 0
    assert "0 cells computed, 3 were there" in capsys.readouterr().err  # the folder of the tuning has them all
    assert main(["bench", "show", str(output)]) == 0
    shown = capsys.readouterr().out
    for name, record in records.items():
        assert shown.count(f"{name} @ {record['chosen']['strength']:g} (tuned)") == 2  # the table and the verdicts
    assert "chosen by detox tune within +1 nats on development prompts" in shown
    assert main(["report", str(output)]) == 0
    page = (output / "report.html").read_text()
    assert page.count("chosen on development prompts") >= len(records)
    # The scorer that chose may not rank, and the page says so.
    assert "chose the strength of it" in page
