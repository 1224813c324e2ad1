"""The benchmark of the report runs, and its record holds what it says. How fast anything is, is never asserted."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY


@pytest.mark.slow
def test_the_benchmark_runs(tmp_path):
    script = REPOSITORY / "benchmarks" / "speed" / "report.py"
    done = subprocess.run([sys.executable, str(script), "--quick"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "page_mb" in done.stdout
    assert not list(tmp_path.rglob("*.json"))


def test_the_record_holds_what_it_says():
    record = json.loads((REPOSITORY / "benchmarks" / "results" / "speed" / "report.json").read_text())
    assert (record["cells"], record["prompts"]) == (200, 1000)
    assert record["seconds"] == statistics.median(run["seconds"] for run in record["runs"])
    assert record["met"]["seconds"] == (record["seconds"] <= record["targets"]["seconds"])
    assert record["met"]["page_mb"] == (record["page_mb"] <= record["targets"]["page_mb"])
    usable = record["browser"]["usable_seconds"]
    assert usable == statistics.median(record["browser"]["all_usable_seconds"])
    assert record["met"]["usable_seconds"] == (usable <= record["targets"]["usable_seconds"])
