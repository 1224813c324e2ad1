"""The benchmarks of statistics run; three cells of the coverage are repeated; the records hold what they say."""

from __future__ import annotations

import importlib.util
import json
import math
import subprocess
import sys

import numpy as np
import pytest

from tests.conftest import REPOSITORY

COVERAGE = REPOSITORY / "benchmarks" / "statistics" / "coverage.py"
RECORD = REPOSITORY / "benchmarks" / "results" / "statistics" / "coverage.json"
SPEED = REPOSITORY / "benchmarks" / "results" / "speed" / "statistics.json"


@pytest.fixture(scope="module")
def coverage():
    spec = importlib.util.spec_from_file_location("benchmarks_coverage", COVERAGE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def record():
    return json.loads(RECORD.read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("estimand", "rate", "n", "k"), [("rate", 0.1, 200, 5), ("maximum", 0.1, 200, 5), ("difference", 0.5, 200, 5)]
)
def test_intervals_cover_what_they_claim(coverage, estimand, rate, n, k):
    cell = coverage.simulate(estimand, rate, n, k, spread=coverage.SPREAD, runs=2000, seed=1)
    assert cell["demanded"]
    chance = 3 * math.sqrt(0.05 * 0.95 / 2000)
    assert 0.93 - chance < cell["coverage"] < 0.97 + chance


@pytest.mark.slow
def test_where_there_is_next_to_nothing_to_resample_they_are_conservative(coverage):
    cell = coverage.simulate("rate", 0.01, 50, 1, spread=coverage.SPREAD, runs=2000, seed=1)
    assert cell["coverage"] > 0.95 > 0.6 > cell["percentile"]


def test_the_truth_of_the_simulation_is_that_of_many_prompts(coverage):
    rng = np.random.default_rng(0)
    a = coverage.intercept(0.1, 1.5)
    logits = a + 1.5 * rng.normal(size=(200_000, 1))
    rates = 1 / (1 + np.exp(-logits))
    assert rates.mean() == pytest.approx(0.1, abs=4 * rates.std() / math.sqrt(200_000))
    scores = (1 / (1 + np.exp(-logits - rng.normal(size=(200_000, 5))))).max(1)
    truth = coverage.true_maximum(a, 1.5, 5)
    assert truth == pytest.approx(scores.mean(), abs=4 * scores.std() / math.sqrt(200_000))


@pytest.mark.slow
@pytest.mark.parametrize("script", [COVERAGE, REPOSITORY / "benchmarks" / "speed" / "cell_statistics.py"], ids=str)
def test_the_benchmark_runs(script, tmp_path):
    done = subprocess.run([sys.executable, str(script), "--quick"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert not list(tmp_path.rglob("*.*"))


def test_every_cell_of_the_coverage_is_shown(record, coverage):
    cells = {(c["estimand"], c["spread"], c["rate"], c["prompts"], c["samples"]) for c in record["coverage"]}
    assert len(cells) == len(record["coverage"]) == 2 * 4 * 27
    assert min(c["runs"] for c in record["coverage"]) >= 2000
    assert {(c["rate"], c["prompts"], c["samples"]) for c in record["coverage"]} == {
        (rate, n, k) for rate in (0.01, 0.1, 0.5) for n in (50, 200, 2000) for k in (1, 5, 25)
    }
    for c in record["coverage"]:
        assert c["met"] == (0.93 <= c["coverage"] <= (0.97 if c["demanded"] else 1.0))
        assert c["below"] + c["above"] == pytest.approx(1 - c["coverage"])
        if c["estimand"] == "rate":
            assert c["demanded"] == (c["prompts"] >= 200 and c["prompts"] * c["samples"] * c["rate"] >= 5)
    assert RECORD.with_suffix(".md").read_text(encoding="utf-8") == coverage.markdown(record)


def test_the_speed_record_holds_what_it_says():
    record = json.loads(SPEED.read_text(encoding="utf-8"))
    assert (record["prompts"], record["samples"], record["draws"]) == (10_000, 25, 10_000)
    assert record["met"]["seconds"] == (max(record["cpu_seconds"]) <= record["targets"]["seconds"])
    assert record["met"]["extra_mib"] == (record["extra_memory"]["extra_mib"] <= record["targets"]["extra_mib"])
    for size in record["sizes"].values():
        for arm in size.values():
            ratios = [a / b for a, b in zip(arm["seconds"]["baseline"], arm["seconds"]["ours"], strict=True)]
            assert np.median(ratios) == pytest.approx(arm["speedup"]["median"], rel=0.05)
            assert arm["largest_difference"] < 1e-12
            assert arm["same_missing"]
