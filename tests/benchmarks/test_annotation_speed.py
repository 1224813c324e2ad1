"""The benchmark of annotation runs, with and without the data directory. How fast it is, is recorded and never asserted."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY


@pytest.mark.slow
@pytest.mark.parametrize("with_data", [True, False])
def test_it_runs_on_any_text(with_data, tmp_path, monkeypatch):
    if not with_data:
        monkeypatch.setenv("DETOX_DATA", str(tmp_path / "none"))
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "benchmarks" / "speed" / "annotation.py"), "--quick"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "memory" in done.stdout
    assert "files" in done.stdout
    assert not list(tmp_path.rglob("*.json"))
