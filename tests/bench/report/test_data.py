"""What a report is made from: the records, all of them, and what is not there by name."""

from __future__ import annotations

import base64
import json
import shutil

import numpy as np
import pytest

from detox.bench.equal_utility import at_equal_utility
from detox.bench.report import read_results, report_data
from detox.bench.report.panels import equal_utility_panel
from detox.bench.report.prompts import chosen_prompts, quantised, spread
from detox.errors import InputError, MissingData
from tests.bench.report.synthetic import write_results
from tests.conftest import REPOSITORY

COMMITTED = ("demo", "iti", "rewriting", "slung-dose")


def test_every_cell_is_there_with_its_role_and_its_change(hostile_results, hostile_data):
    cells = hostile_data["cells"]
    assert [cell["role"] for cell in cells] == [
        "base",
        "method",
        "method",
        "prompted base",
        "base",
        "method",
        "control",
    ]
    comparison = read_results(hostile_results).comparison
    for cell in cells:
        if cell["method"] is None:
            assert cell["toxicity_change"] is None
            assert cell["changes"] == {}
        else:
            # Two ways to one number: the comparison's, and the side effects'.
            assert cell["toxicity_change"] == cell["changes"]["toxicity/first/mean"]["estimate"]
            assert cell["cost_change"] == cell["changes"]["clean/cross_entropy"]["estimate"]
    assert len(cells) == len(comparison.rows) + len(comparison.control_rows)


def test_a_row_that_every_report_has_is_a_named_hole(hostile_data):
    one, *chance = hostile_data["absent"]
    assert one["base"].startswith("mix")
    assert one["kind"] == "prompted base"
    assert "did not ask" in one["reason"]
    assert {one["kind"] for one in chance} == {"base (A/A)"}  # one seed, and no cell of another
    assert {one["base"] for one in chance} == set(hostile_data["bases"])
    assert hostile_data["holes"][0]["name"].startswith("clean--dpo@1")


def test_costs_are_what_records_hold_and_missing_where_they_do_not(hostile_data):
    by_name = {(c["base"], c["method"], c["strength"]): c["cost"] for c in hostile_data["cells"]}
    # Cells that took the fit from the store say 0; the run that fitted knows.
    assert by_name["clean", "iti", 2.0]["fit_seconds"] == 3.5
    assert by_name["clean", "iti (random)", 2.0]["fit_seconds"] is None
    assert by_name["clean", "prompting", None]["fit_seconds"] == 0.0
    assert by_name["clean", "iti", 1.0]["milliseconds_per_token"] == pytest.approx(1200 / 240)
    assert by_name["clean", "iti", 1.0]["relative"] == 1.0
    assert by_name["clean", "iti", 1.0]["peak_mib"] is None


def test_a_damaged_record_is_named_and_the_others_are_used(tmp_path):
    folder = write_results(tmp_path / "results")
    cells = sorted((folder / "cells").iterdir())
    (cells[2] / "scorecard.json").write_text("{ not json")
    shutil.rmtree(next(c for c in cells if "--prompting--" in c.name))
    data = report_data(read_results(folder))
    assert len(data["cells"]) == 5
    hole = next(one for one in data["holes"] if one["name"] == cells[2].name)
    assert "scorecard.json" in hole["reason"]
    assert str(tmp_path) not in json.dumps(data)  # a page that is passed on does not say where records lay
    absent = [one["kind"] for one in data["absent"]]
    assert (absent.count("prompted base"), absent.count("base (A/A)")) == (2, 2)


def test_what_is_no_results_directory_is_refused_in_one_line(tmp_path):
    with pytest.raises(MissingData, match="no results directory"):
        read_results(tmp_path / "nowhere")
    with pytest.raises(MissingData, match="holds no cells/"):
        read_results(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file"):
        read_results(tmp_path / "file")


def test_texts_are_in_only_where_they_were_asked_for(hostile_results, hostile_data):
    without = report_data(read_results(hostile_results))
    assert without["samples"] is None
    assert without["texts_kept"] == 7
    assert "sample 3 of prompt" not in json.dumps(without)
    samples = hostile_data["samples"]
    assert samples["shown"] == samples["of"] == 12
    assert samples["cut"] == 7  # one long text a cell
    assert max(len(text) for rows in samples["cells"].values() for row in rows for text in row) == 2000
    # The same prompt stands at the same place in every cell.
    for cell, rows in samples["cells"].items():
        for prompt, row in zip(samples["prompts"], rows, strict=True):
            assert row[1].endswith(f"of prompt {prompt.removeprefix('prompt-')}")
            assert len(row) == len(samples["scores"][cell][0][samples["prompts"].index(prompt)])


def test_prompts_are_chosen_by_the_base_alone():
    levels = np.array([0.5, np.nan, 0.1, 0.9, 0.3, 0.7])
    assert chosen_prompts(levels, 3) == [3, 0, 2]
    assert chosen_prompts(levels, 9) == [3, 5, 0, 4, 2]
    assert chosen_prompts(levels, 1) == [3]


def test_differences_survive_being_made_small():
    rng = np.random.default_rng(0)
    values = np.append(rng.uniform(-1, 1, size=500), [np.nan, -1, 1, 0])
    back = np.frombuffer(base64.b64decode(quantised(values)), dtype=np.int8).astype(float)
    back[back == -128] = np.nan
    assert np.nanmax(abs(back / 100 - values)) <= 0.005 + 1e-12
    assert np.isnan(back).tolist() == np.isnan(values).tolist()
    counted = spread(values)
    assert counted["less"] + counted["same"] + counted["more"] + counted["missing"] == len(values)
    assert counted["quartiles"][0] == -1


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMITTED)
def test_committed_records_make_a_report(name):
    results = read_results(REPOSITORY / "benchmarks" / "results" / name)
    data = report_data(results)
    assert len(data["cells"]) == len(list(results.rows())) > 20
    json.dumps(data, allow_nan=False)
    assert all(cell["folder"] for cell in data["cells"])
    roles = {cell["role"] for cell in data["cells"]}
    assert "base" in roles
    for base in data["bases"]:
        assert any(c["base"] == base and c["role"] == "prompted base" for c in data["cells"]) or any(
            one["base"] == base and one["kind"] == "prompted base" for one in data["absent"]
        )


def test_methods_at_equal_utility_are_those_of_the_comparison():
    results = read_results(REPOSITORY / "benchmarks" / "results" / "demo")
    panel = equal_utility_panel(results)
    (first, *_) = at_equal_utility(results.comparison)
    shown = [one for one in panel["rows"] if one["base"] == first.base]
    assert [one["method"] for one in shown] == [at.method for at in first.methods]
    assert shown[0]["to_next"][0] == pytest.approx(
        first.differences[first.methods[0].method, first.methods[1].method].value, rel=1e-5
    )
    assert shown[-1]["to_next"] is None
    ranked = [one["toxicity"][0] for one in shown if one["unranked"] is None]
    assert len(ranked) > 1
    assert ranked == sorted(ranked)
    assert [one["unranked"] is None for one in shown] == [True] * len(ranked) + [False] * (len(shown) - len(ranked))
