"""The mixing benchmark runs, and writes nothing when it is quick. How fast mixing is, is recorded and never asserted."""

import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY


@pytest.mark.slow
def test_the_benchmark_runs(tmp_path):
    script = REPOSITORY / "benchmarks" / "speed" / "mixing.py"
    done = subprocess.run([sys.executable, str(script), "--quick"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["document", "sequence"]
    assert not list(tmp_path.rglob("*.json"))
