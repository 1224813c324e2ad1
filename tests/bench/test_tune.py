"""Strengths that are chosen on development prompts and reported once on held-out ones."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from detox.bench.cells import read_records
from detox.bench.comparison import compare
from detox.bench.prompt_splits import require_disjoint, split_protocol
from detox.bench.verdicts import verdicts
from detox.cli import main
from detox.data.records import Document, Prompt
from detox.errors import InputError
from tests.evaluation.test_harness import protocol


def tune(path, output, *more) -> int:
    return main(["tune", str(path), "--output_dir", str(output), *more])


@pytest.fixture
def tuning(grid, tmp_path):
    """A tuning file of ITI, and a function that writes it."""
    raw, write = grid
    asked = copy.deepcopy(raw)
    del asked["protocols"]["main"]["contrasts"]
    asked["detoxifiers"] = {"iti": {"settings": {"num_heads": 4}, "strength": {"low": 0.0, "high": 6.0}}}
    asked["tune"] = {"budget": 0.2, "trials": 5, "seed": 1}

    def make(path, **changes):
        return write(path, **{**asked, **changes})

    return asked, make


def prompts(n: int, prefix: str = "") -> tuple[Prompt, ...]:
    return tuple(Prompt(id=f"{prefix}{i}", text=f"{prefix} text number {i}") for i in range(n))


def test_parts_share_no_prompt_whatever_the_seed_and_the_share(planted):
    asked = protocol(
        planted, prompts=prompts(60), documents=tuple(Document(id=str(i), text=f"doc {i}") for i in range(60))
    )
    for seed in range(20):
        for share in (0.2, 0.5, 0.8):
            split = split_protocol(asked, share=share, seed=seed)
            parts = [{p.id for p in part.prompts} for part in (split.development, split.held_out)]
            assert not parts[0] & parts[1]
            assert parts[0] | parts[1] == {p.id for p in asked.prompts}
            assert not {d.id for d in split.development.documents} & {d.id for d in split.held_out.documents}
    assert split_protocol(asked, share=0.5, seed=0) == split_protocol(asked, share=0.5, seed=0)
    assert split_protocol(asked, share=0.5, seed=0).to_dict() != split_protocol(asked, share=0.5, seed=1).to_dict()


def test_equal_texts_stand_on_one_side(planted):
    twice = (*prompts(40), *(Prompt(id=f"again {p.id}", text=f"{p.text}  ") for p in prompts(40)))
    split = split_protocol(protocol(planted, prompts=twice), share=0.5, seed=3)
    texts = [{" ".join(p.text.split()) for p in part.prompts} for part in (split.development, split.held_out)]
    assert not texts[0] & texts[1]


def test_prompts_that_a_choice_has_seen_are_refused(planted):
    asked = protocol(planted)
    with pytest.raises(InputError, match=r"2 of the \d+ prompts of protocol 'test' are among those"):
        require_disjoint(["0", "1", "of another set"], asked, "the strength")
    with pytest.raises(InputError, match="tuning needs prompts for toxicity"):
        split_protocol(protocol(planted, documents=()), share=0.5, seed=0)


def test_the_least_toxic_point_within_the_budget_is_chosen_and_reported_on_other_prompts(tuning, tmp_path, capsys):
    _, make = tuning
    output = tmp_path / "out"
    assert tune(make(tmp_path / "tune.yaml"), output) == 0
    out, _ = capsys.readouterr()
    assert "held-out prompts:" in out
    [path] = (output / "tuned").glob("*.json")
    record = json.loads(path.read_text())
    curve, chosen = record["development"], record["chosen"]
    assert len(curve) == 5
    allowed = [one for one in curve if one["cost"]["value"] <= 0.2 and one["toxicity_change"]["value"] < 0]
    assert chosen["toxicity"] == min(one["toxicity"] for one in allowed)
    assert chosen["chosen_on"] == "development"
    by_part = {r.names["protocol"]: r for r in read_records(output) if r.names["method"] is not None}
    held_out = by_part["held-out"]
    assert held_out.names["strength"] == chosen["strength"]
    measured = set(held_out.scorecard.tables["scores"]["prompt"])
    assert not measured & set(held_out.names["chosen_on"]["prompt_ids"])
    assert (
        len([r for r in read_records(output) if r.names["protocol"] == "held-out"]) == 2
    )  # the base and one point, once
    [row] = [row for row in compare(output, protocol="held-out").rows if row.method]
    assert row.chosen_on == "development"
    assert row.toxicity_change.value == pytest.approx(record["held_out"]["toxicity_change"]["value"], abs=1e-5)
    on_development = [one for one in verdicts(compare(output, protocol="development")) if one.row.method]
    assert on_development
    assert not any(one.may_rank for one in on_development)  # chosen on the prompts that they are measured on
    # The same question again is answered from the record; another one of the same prompts is refused.
    assert tune(tmp_path / "tune.yaml", output) == 0
    assert "already there" in capsys.readouterr().err
    assert tune(make(tmp_path / "more.yaml", tune={"budget": 0.2, "trials": 6, "seed": 1}), output) == 2
    assert "held-out prompts are looked at once" in capsys.readouterr().err


def test_fit_settings_are_searched_and_each_point_is_its_own_fit(tuning, tmp_path):
    asked, make = tuning
    methods = {"iti": {**asked["detoxifiers"]["iti"], "strength": [1, 3], "search": {"num_heads": [1, 4]}}}
    assert tune(make(tmp_path / "tune.yaml", detoxifiers=methods, tune={"trials": 4}), tmp_path / "out") == 0
    [path] = (tmp_path / "out" / "tuned").glob("*.json")
    curve = json.loads(path.read_text())["development"]
    assert {one["settings"]["num_heads"] for one in curve} <= {1, 4}
    assert {one["strength"] for one in curve} <= {1, 3}
    assert len(list((tmp_path / "out" / "fits").iterdir())) == len({one["settings"]["num_heads"] for one in curve})


def test_where_nothing_is_within_the_budget_nothing_is_chosen_and_the_held_out_part_is_not_looked_at(
    tuning, tmp_path, capsys
):
    _, make = tuning
    path = make(tmp_path / "tune.yaml", tune={"budget": 1e-9, "trials": 3})
    assert tune(path, tmp_path / "out") == 0
    assert "no point of 3 points" in capsys.readouterr().out
    assert {r.names["protocol"] for r in read_records(tmp_path / "out")} == {"development"}


def test_a_point_that_breaks_is_counted_and_the_search_goes_on(tuning, grid_files, tmp_path, capsys):
    _, make = tuning
    methods = {"failing": {"method": f"{grid_files / 'methods.py'}:Failing", "strength": [0.5, 1]}}
    assert tune(make(tmp_path / "tune.yaml", detoxifiers=methods, tune={"trials": 2}), tmp_path / "out") == 0
    out, err = capsys.readouterr()
    assert "this method always fails" in err
    assert "Traceback" not in err
    assert "no point of 0 points" in out
    [path] = (tmp_path / "out" / "tuned").glob("*.json")
    assert json.loads(path.read_text())["failed"] == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tune": {"budgett": 1}}, "tune key"),
        ({"tune": {"budget": "much"}}, "tune: budget is 'much'; expected a number"),
        ({"tune": {"budget": 0}}, "the budget is 0.0; expected nats per token above 0"),
        ({"tune": {"trials": 0}}, "trials is 0; expected at least 1"),
        ({"tune": {"trials": 2.5}}, "tune: trials is 2.5; expected a whole number"),
        ({"tune": {"trials": float("inf")}}, "tune: trials is inf; expected a number"),
        ({"tune": {"seed": float("nan")}}, "tune: seed is nan; expected a number"),
        ({"detoxifiers": {"iti": {"strength": ["much"]}}}, "strength is ['much']; expected numbers"),
        ({"detoxifiers": {"iti": 5}}, "detoxifiers is {'iti': 5}; expected"),
        ({"detoxifiers": ["iti"]}, "detoxifiers is ['iti']; expected"),
        ({"tune": {"share": 1.5}}, "the development share is 1.5"),
        ({"detoxifiers": {"iti": {"strength": {"low": 3, "high": 1}}}}, "expected numbers with low below high"),
        ({"detoxifiers": {"prompting": None}}, "has nothing to tune"),
        ({"detoxifiers": {"iti": {"search": {"heads": [1]}}}}, "heads"),
        ({"detoxifiers": {}}, "no detoxifiers"),
    ],
)
def test_what_cannot_be_tuned_is_one_line(tuning, tmp_path, capsys, change, message):
    _, make = tuning
    assert tune(make(tmp_path / "tune.yaml", **change), tmp_path / "out") == 2
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err


@pytest.mark.slow
def test_killed_it_goes_on_and_chooses_what_it_would_have_chosen(tuning, tmp_path):
    _, make = tuning
    path = make(tmp_path / "tune.yaml", tune={"budget": 0.3, "trials": 8, "seed": 1})
    command = [sys.executable, "-m", "detox", "tune", str(path), "--output_dir"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    process = subprocess.Popen(
        [*command, str(killed)], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while (
        time.monotonic() < deadline and len(list(killed.glob("cells/*iti*/cell.json"))) < 3 and process.poll() is None
    ):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = {p.name for p in killed.glob("cells/*iti*") if (p / "cell.json").is_file()}
    assert 3 <= len(done) < 9
    for output in (killed, whole):
        subprocess.run([*command, str(output)], env=environment, check=True, capture_output=True, timeout=300)
    records = [json.loads(next((output / "tuned").glob("*.json")).read_text()) for output in (killed, whole)]
    assert records[0]["chosen"] == records[1]["chosen"]
    strengths = [[one["strength"] for one in record["development"]] for record in records]
    np.testing.assert_allclose(strengths[0], strengths[1])
    assert done <= {p.name for p in killed.glob("cells/*iti*")}


SCORERS = """
from detox.scorers import Score, ScorerCard

class Mute:
    card = ScorerCard("mute", "1", ("nothing",), None, "read whole")

    def score(self, texts):
        return [Score.missing("cannot read") for _ in texts]

class Taught:
    card = ScorerCard("taught", "1", ("fit.jsonl",), None, "read whole")

    def score(self, texts):
        return [Score(0.5) for _ in texts]
"""


def with_scorers(asked, tmp_path, *specs):
    (tmp_path / "scorers.py").write_text(SCORERS)
    named = [spec if ":" in spec else f"{tmp_path / 'scorers.py'}:{spec}" for spec in specs]
    return {"main": {**asked["protocols"]["main"], "scorers": named}}


def test_a_search_whose_points_have_no_score_ends_and_chooses_nothing(tuning, tmp_path, capsys):
    asked, make = tuning
    path = make(tmp_path / "tune.yaml", protocols=with_scorers(asked, tmp_path, "Mute"), tune={"trials": 2})
    assert tune(path, tmp_path / "out") == 0
    assert "no point of 2 points" in capsys.readouterr().out
    [record] = (tmp_path / "out" / "tuned").glob("*.json")
    assert all(one["toxicity"] is None and not one["allowed"] for one in json.loads(record.read_text())["development"])


def test_another_fit_or_another_base_is_another_question(tuning, grid_files, tmp_path, capsys):
    asked, make = tuning
    output = tmp_path / "out"
    assert tune(make(tmp_path / "tune.yaml"), output) == 0
    capsys.readouterr()
    fewer = {"contrasts": {"file": str(grid_files / "fit.jsonl"), "limit": 40}}
    assert tune(make(tmp_path / "fit.yaml", fit=fewer), output) == 2
    assert "have been reported on, for another fit" in capsys.readouterr().err
    wider = {"planted": {"model": str(grid_files / "model"), "dtype": "float64"}}
    assert tune(make(tmp_path / "base.yaml", bases=wider), output) == 2
    assert "have been reported on, for another base" in capsys.readouterr().err
    # Nor is that forgotten when another split has been reported on in between.
    other = {**asked["tune"], "seed": 2}
    assert tune(make(tmp_path / "other.yaml", tune=other), output) == 0
    assert tune(make(tmp_path / "again.yaml", tune={**asked["tune"], "budget": 0.3}), output) == 2
    assert "have been reported on, for another budget" in capsys.readouterr().err
    assert tune(tmp_path / "tune.yaml", output) == 0  # the first question, once more


def test_points_of_another_question_are_not_taken_over(tuning, tmp_path):
    _, make = tuning
    nothing = {"budget": 1e-9, "trials": 3}
    wide = {"iti": {"settings": {"num_heads": 4}, "strength": {"low": 4.0, "high": 6.0}}}
    narrow = {"iti": {"settings": {"num_heads": 4}, "strength": {"low": 0.0, "high": 1.0}}}
    for name, methods in (("wide", wide), ("narrow", narrow)):
        path = make(tmp_path / f"{name}.yaml", detoxifiers=methods, tune=nothing)
        assert tune(path, tmp_path / "out") == 0
    [record] = (tmp_path / "out" / "tuned").glob("*.json")
    assert all(0 <= one["strength"] <= 1 for one in json.loads(record.read_text())["development"])


def test_a_scorer_that_knows_the_fit_does_not_lead_and_the_one_that_led_does_not_rank(tuning, tmp_path, capsys):
    asked, make = tuning
    [rude] = asked["protocols"]["main"]["scorers"]
    path = make(tmp_path / "tune.yaml", protocols=with_scorers(asked, tmp_path, "Taught", rude))
    assert tune(path, tmp_path / "out") == 0
    out, _ = capsys.readouterr()
    [file] = (tmp_path / "out" / "tuned").glob("*.json")
    record = json.loads(file.read_text())
    assert record["scorer"] == "rudeness"
    assert "the headline is rudeness, not taught" in out
    assert record["others"]["taught"]["value"] == 0
    # In a comparison of the tuned cells the scorer that chose the strength is not independent of it.
    found = compare(tmp_path / "out", protocol="held-out")
    assert found.independence.independent is False
    assert "rudeness chose the strength of it" in found.independence.notes[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"detoxifiers": {"itii": {"strength": [1]}}}, "did you mean 'iti'"),
        ({"tune": {"budget": -0.1}}, "the budget is -0.1; expected nats per token above 0"),
        ({"tune": {"seed": -1}}, "tune: seed is -1; expected 0 or more"),
        ({"tune": {"share": 1e-9}}, "a part of the split has fewer than two prompts"),
        ({"detoxifiers": {"iti": {"strength": []}}}, "strength is []; expected a list of values"),
        ({"detoxifiers": {"iti": {"strengths": []}}}, "strengths is []; expected a list of numbers"),
        ({"detoxifiers": {"iti": {"strength": [1], "strengths": [2]}}}, "both strength and strengths"),
        ({"detoxifiers": {"iti": {"strength": {"low": False, "high": True}}}}, "expected numbers with low below high"),
        ({"detoxifiers": {"iti": {"strength": [1], "tuned": "x"}}}, "'iti' is tuned already"),
        (
            {"detoxifiers": {"sft": {"strength": [1], "search": {"learning_rate": [1e-3, "fast"]}}}},
            "search: learning_rate is 'fast'; expected float",
        ),
        ({"detoxifiers": {"iti": {"strength": [1], "search": {"num_heads": {"low": 0, "high": 4}}}}}, "num_heads is 0"),
    ],
)
def test_what_would_be_ignored_or_found_after_hours_is_one_line(tuning, tmp_path, capsys, change, message):
    _, make = tuning
    assert tune(make(tmp_path / "tune.yaml", **change), tmp_path / "out") == 2
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err
    assert not (tmp_path / "out" / "cells").exists()


def test_a_base_that_is_not_there_is_found_before_another_is_tuned(tuning, tmp_path, capsys):
    asked, make = tuning
    bases = {**asked["bases"], "absent": {"model": str(tmp_path / "nowhere")}}
    assert tune(make(tmp_path / "tune.yaml", bases=bases), tmp_path / "out") == 2
    assert "base 'absent'" in capsys.readouterr().err
    assert not (tmp_path / "out" / "cells").exists()


def test_lists_that_the_trials_suffice_for_are_tried_whole(tuning, tmp_path):
    asked, make = tuning
    methods = {"iti": {**asked["detoxifiers"]["iti"], "strength": [1, 2, 3], "settings": {"num_heads": 1}}}
    assert tune(make(tmp_path / "tune.yaml", detoxifiers=methods, tune={"trials": 9}), tmp_path / "out") == 0
    [path] = (tmp_path / "out" / "tuned").glob("*.json")
    assert [one["strength"] for one in json.loads(path.read_text())["development"]] == [1, 2, 3]


def test_a_journal_that_was_cut_goes_on_and_a_damaged_one_is_named(tuning, tmp_path, capsys):
    asked, make = tuning
    methods = {"iti": {**asked["detoxifiers"]["iti"], "strength": [1, 3]}}
    path, output = make(tmp_path / "tune.yaml", detoxifiers=methods, tune={"trials": 2}), tmp_path / "out"
    assert tune(path, output) == 0
    [record] = (output / "tuned").glob("*.json")
    [journal] = (output / "tuned").glob("*.journal")
    whole, answer = journal.read_bytes(), json.loads(record.read_text())["development"]
    cells = {one: one.stat().st_mtime_ns for one in output.glob("cells/*/cell.json")}
    record.unlink()
    journal.write_bytes(whole[:-30])  # killed in the middle of a line
    capsys.readouterr()
    assert tune(path, output) == 0
    assert "1 points are there, the search goes on" in capsys.readouterr().err
    assert json.loads(record.read_text())["development"] == answer
    assert {one: one.stat().st_mtime_ns for one in cells} == cells
    record.unlink()
    journal.write_bytes(b"garbage\n" + whole)
    assert tune(path, output) == 2
    assert f"{journal}: damaged" in capsys.readouterr().err
    journal.unlink()
    assert tune(path, output) == 0
    assert json.loads(record.read_text())["development"] == answer


def test_points_without_scores_say_why_they_are_not_chosen(tuning, tmp_path, capsys):
    asked, make = tuning
    path = make(tmp_path / "tune.yaml", protocols=with_scorers(asked, tmp_path, "Mute"), tune={"trials": 1})
    assert tune(path, tmp_path / "out") == 0
    out, err = capsys.readouterr()
    assert "not to be chosen: 100% without a score" in err
    assert "of 1 points more than 2% of the prompts or completions have no score" in out
    assert main(["tune", "show", str(tmp_path / "out")]) == 0
    assert "100% without a score" in capsys.readouterr().out
