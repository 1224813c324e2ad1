"""The benchmarks of reading and of probes run, and their records hold what they say. How fast anything is, is never asserted."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from tests.conftest import REPOSITORY

SPEED = REPOSITORY / "benchmarks" / "speed"
NAMES = ("reading", "probes")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_benchmark_runs(name, tmp_path):
    done = subprocess.run(
        [sys.executable, str(SPEED / f"{name}.py"), "--quick"], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize("name", NAMES)
def test_the_record_holds_what_it_says(name):
    record = json.loads((REPOSITORY / "benchmarks" / "results" / "speed" / f"{name}.json").read_text())
    timed = [arm for size in record["sizes"].values() for arm in size.values() if isinstance(arm, dict)]
    assert len(timed) >= 6
    for arm in timed:
        ratios = [a / b for a, b in zip(arm["seconds"]["baseline"], arm["seconds"]["ours"], strict=True)]
        assert len(ratios) >= 9
        assert np.median(ratios) == pytest.approx(arm["speedup"]["median"], rel=0.01)
    if name == "reading":
        assert all(arm["met"] == (arm["speedup"]["high"] >= arm["target"]) for arm in timed)
        assert all((arm["largest_difference"] or 0) < 1e-4 for arm in timed)
    else:
        minima = [arm for arm in timed if arm["tolerance"] == 1e-10]
        assert all(arm["largest_relative_difference"] < 1e-4 for arm in minima)
