"""The speed benchmarks run, and their arithmetic is right. How fast anything is, is recorded and never asserted."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest

from tests.conftest import REPOSITORY

SPEED = REPOSITORY / "benchmarks" / "speed"


@pytest.fixture
def measure(monkeypatch):
    monkeypatch.syspath_prepend(str(SPEED))
    import measure

    return measure


@pytest.mark.parametrize("n", [6, 21, 50])
def test_the_interval_of_a_median_covers_it(measure, n):
    rng = np.random.default_rng(0)
    draws = rng.exponential(size=(4000, n))
    inside = [low <= np.log(2) <= high for low, high in map(measure.median_interval, draws)]
    assert np.mean(inside) >= 0.94


def test_the_interval_of_twenty_one_is_the_binomials(measure):
    assert measure.median_interval(list(range(1, 22))) == (6, 16)


def test_the_interval_of_few_values_is_their_range(measure):
    assert measure.median_interval([3.0, 1.0, 2.0]) == (1.0, 3.0)


def test_arms_take_turns_and_the_slower_is_slower(measure):
    import time

    ran = []

    def arm(name: str, seconds: float):
        return lambda: (ran.append(name), time.sleep(seconds))

    result = measure.interleaved(arm("baseline", 0.02), arm("ours", 0.01), pairs=4)
    assert result["speedup"]["median"] > 1.3
    assert ran.count("ours") == ran.count("baseline") == 5  # one pair warms up
    assert ran[2:] != ["baseline", "ours"] * 4
    assert {len(values) for values in result["seconds"].values()} == {4}


def test_memory_that_the_work_takes_is_seen(measure, tmp_path):
    script = tmp_path / "takes.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(SPEED)!r})\n"
        "from measure import peak_mib\n"
        "held = b'x' * (0 if '--no_work' in sys.argv else 64 * 2**20)\n"
        "print(peak_mib())\n"
    )
    used = measure.extra_memory(str(script), [], repeats=2)
    assert 55 < used["extra_mib"] < 80
    assert len(used["peaks_mib"]["with"]) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["contrastive", "generation", "iti", "likelihood", "lm_eval_tasks", "scoring", "weight_methods"]
)
def test_every_benchmark_runs(name, tmp_path):
    if name in ("generation", "likelihood", "lm_eval_tasks") and importlib.util.find_spec("lm_eval") is None:
        pytest.skip("lm-eval is not installed (pip install -e '.[lm-eval]')")
    done = subprocess.run(
        [sys.executable, str(SPEED / f"{name}.py"), "--quick"], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize(
    "name",
    ["annotation", "contrastive", "trainer", "generation", "iti", "likelihood", "loss", "scoring", "weight_methods"],
)
def test_committed_records_hold_what_they_say(measure, name):
    record = json.loads((REPOSITORY / "benchmarks" / "results" / "speed" / f"{name}.json").read_text())
    timed = [record["time"]] if "time" in record else []
    for size in record.get("sizes", {}).values():
        timed += [size] if "seconds" in size else [arm for arm in size.values() if isinstance(arm, dict)]
    assert timed
    for arm in timed:
        ratios = [a / b for a, b in zip(arm["seconds"]["baseline"], arm["seconds"]["ours"], strict=True)]
        assert len(ratios) >= 21
        assert np.median(ratios) == pytest.approx(arm["speedup"]["median"], rel=0.01)
        assert measure.median_interval(ratios)[0] == pytest.approx(arm["speedup"]["low"], rel=0.01)
