"""From tuning to the comparison: what a grid takes over, what it says of it, and what it refuses."""

from __future__ import annotations

import copy
import json

import pytest

from detox.bench import compare, read_grid
from detox.bench.cells import read_records
from detox.bench.plan import plan
from detox.bench.prompt_splits import text_hash
from detox.bench.scorers import scorer_maker
from detox.bench.verdicts import verdicts
from detox.cli import main
from detox.data import write_jsonl


def run(path, output) -> int:
    return main(["bench", "run", str(path), "--output_dir", str(output)])


@pytest.fixture(scope="module")
def made():
    """Results of tunings by name, so that each is computed once."""
    return {}


@pytest.fixture
def tuned(grid, made, tmp_path_factory):
    """A function that tunes ITI once and gives the results; and grid entries that take the choice over."""
    raw, write = grid

    def results(name="one", **changes):
        if name not in made:
            folder = tmp_path_factory.mktemp("tuning")
            asked = copy.deepcopy(raw)
            methods = {"iti": {"settings": {"num_heads": 4}, "strength": [1, 3, 6]}}
            settings = {"budget": 2.0, "trials": 3, "seed": 1, **changes.pop("tune", {})}
            path = folder / "tune.yaml"
            write(path, **{**asked, "detoxifiers": methods, "tune": settings, **changes})
            assert main(["tune", str(path), "--output_dir", str(folder / "out")]) == 0
            made[name] = folder / "out"
        return made[name]

    def asking(path, source, *, methods=None, out=True, **changes):
        protocols = copy.deepcopy(raw["protocols"])
        if out:
            protocols["main"]["held_out_of"] = str(source)
        methods = {"iti": {"tuned": str(source), "controls": False}} if methods is None else methods
        return write(path, **{"detoxifiers": methods, "protocols": protocols, **changes})

    return results, asking


def record_of(results):
    [path] = (results / "tuned").glob("*.json")
    return json.loads(path.read_text())


def test_a_grid_takes_the_choice_over_and_says_so(tuned, tmp_path, capsys):
    results, asking = tuned
    source, output = results(), tmp_path / "out"
    record = record_of(source)
    path = asking(tmp_path / "grid.yaml", source)
    found = plan(read_grid(path, make_scorer=scorer_maker(output)), output)
    assert found.protocols[0].prompts == record["split"]["held-out"]["prompts"]
    [line] = found.notes[:1]
    assert f"tuned: iti on planted: strength {record['chosen']['strength']:g}, the best of 3 points" in line
    capsys.readouterr()
    assert run(path, output) == 0
    out = capsys.readouterr().out
    assert f"iti @ {record['chosen']['strength']:g} (tuned)" in out
    [cell] = [one.names for one in read_records(output) if one.names["method"] is not None]
    assert cell["identity"]["method"]["settings"]["num_heads"] == 4
    assert cell["chosen_on"]["part"] == "development"
    assert cell["chosen_on"]["record"] in line
    comparison = compare(output)
    [row] = [row for row in comparison.rows if row.method]
    assert row.chosen_on == "development"
    assert not {text_hash(p) for p in row.scorecard.tables["scores"]["prompt"]} & set(record["seen"]["prompts"])
    [verdict] = verdicts(comparison)
    assert verdict.may_rank
    # The point that tuning reported is the one that the grid measures: the same prompts, the same documents, the same numbers.
    assert row.toxicity_change.value == pytest.approx(record["held_out"]["toxicity_change"]["value"], abs=1e-6)
    assert row.cross_entropy_change.value == pytest.approx(
        record["held_out"]["cross_entropy_change"]["value"], abs=1e-6
    )
    assert comparison.independence.independent is False
    assert "rudeness chose the strength of it" in str(comparison)
    assert comparison.csv().splitlines()[2].endswith(",development,0")  # and no completion lacks a score
    assert main(["report", str(output)]) == 0
    assert "chosen on development prompts" in (output / "report.html").read_text()


def test_in_the_folder_of_the_tuning_nothing_is_measured_again(tuned, tmp_path, capsys):
    import shutil

    results, asking = tuned
    output = shutil.copytree(results(), tmp_path / "out")
    fits = {path.name for path in (output / "fits").iterdir()}
    assert run(asking(tmp_path / "grid.yaml", output), output) == 0
    assert "0 cells computed, 2 were there" in capsys.readouterr().err
    assert {path.name for path in (output / "fits").iterdir()} == fits
    [row] = [row for row in compare(output).rows if row.method]
    assert row.chosen_on == "development"


def test_a_cell_that_was_there_before_learns_that_it_was_chosen(tuned, tmp_path):
    results, asking = tuned
    source, output = results(), tmp_path / "out"
    strength = record_of(source)["chosen"]["strength"]
    plain = {"iti": {"settings": {"num_heads": 4}, "strengths": [strength], "controls": False}}
    assert run(asking(tmp_path / "plain.yaml", source, methods=plain), output) == 0
    assert [row.chosen_on for row in compare(output).rows] == [None, None]
    assert run(asking(tmp_path / "grid.yaml", source), output) == 0
    assert [row.chosen_on for row in compare(output).rows] == [None, "development"]
    assert len(list(output.glob("cells/*"))) == 2


def test_a_control_stands_at_the_strength_and_settings_that_were_chosen(tuned, tmp_path):
    results, asking = tuned
    source = results()
    path = asking(tmp_path / "grid.yaml", source, methods={"iti": {"tuned": str(source)}})
    found = read_grid(path, make_scorer=scorer_maker(tmp_path))
    from detox.bench.cell_list import wanted

    cells = {one.method.name: one for one in wanted(found, found.bases[0]) if one.method is not None}
    assert len(cells) > 1
    for name, one in cells.items():
        assert one.strength == record_of(source)["chosen"]["strength"]
        assert one.method.settings["num_heads"] == 4
        assert (name == "iti") == (one.method.control_of is None)
    assert len({json.dumps(dict(one.method.settings), sort_keys=True) for one in cells.values()}) == len(cells)


def test_searched_settings_come_with_the_choice(tuned, tmp_path):
    results, asking = tuned
    methods = {"mine": {"method": "iti", "strength": [3], "search": {"num_heads": [1, 4]}}}
    source = results("searched", detoxifiers=methods, tune={"trials": 4})
    heads = record_of(source)["chosen"]["settings"]["num_heads"]
    path = asking(tmp_path / "grid.yaml", source, methods={"other": {"method": "iti", "tuned": str(source)}})
    found = read_grid(path, make_scorer=scorer_maker(tmp_path))
    assert found.methods[0].choices["planted"].settings["num_heads"] == heads


def refused(path, output, capsys, *words) -> None:
    capsys.readouterr()
    assert run(path, output) == 2
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert len([line for line in err.splitlines() if line.startswith("error")]) == 1
    for word in words:
        assert word in err
    assert not (output / "cells").exists()


def test_prompts_and_documents_that_a_choice_has_seen_are_refused(tuned, grid_files, tmp_path, capsys):
    results, asking = tuned
    source, output = results(), tmp_path / "out"
    record = record_of(source)
    seen = record["split"]["development"]["prompts"]
    path = asking(tmp_path / "grid.yaml", source, out=False)
    refused(
        path, output, capsys, f"{seen} of the", "prompts of protocol 'main'", f"held_out_of: {source} in the protocol"
    )
    # By text: the same texts under other ids are seen, other texts under the same ids are not.
    for file in ("prompts", "documents"):
        lines = [json.loads(line) for line in (grid_files / f"{file}.jsonl").read_text().splitlines()]
        write_jsonl(tmp_path / f"same-{file}.jsonl", [{**one, "id": f"x{one['id']}"} for one in lines])
        write_jsonl(tmp_path / f"other-{file}.jsonl", [{**one, "text": f"kind2 {one['text']}"} for one in lines])

    def protocols(prompts, documents):
        main_ = {
            "prompts": {"file": str(tmp_path / f"{prompts}-prompts.jsonl")},
            "documents": {"file": str(tmp_path / f"{documents}-documents.jsonl")},
            "sampling": {"max_new_tokens": 6, "num_return_sequences": 3},
            "scorers": [f"{grid_files / 'rudeness.py'}:Rudeness"],
        }
        return {"protocols": {"main": main_}}

    refused(asking(path, source, **protocols("same", "other")), output, capsys, "prompts of protocol 'main'")
    refused(asking(path, source, **protocols("other", "same")), output, capsys, "documents of protocol 'main'")
    assert run(asking(path, source, **protocols("other", "other")), output) == 0
    [row] = [row for row in compare(output).rows if row.method]
    assert row.chosen_on == "development"


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"prompting": {"tuned": "HERE"}}, ("is of iti, not of prompting", "tune it")),
        ({"iti": {"tuned": "HERE", "strengths": [1]}}, ("both strengths and tuned",)),
        ({"iti": {"tuned": "HERE", "settings": {"num_heads": 1}}}, ("num_heads is 1 in the grid, but was 4",)),
        ({"iti": {"tuned": "HERE", "settings": {"seed": 3}}}, ("seed is 3 in the grid, but was left as it is",)),
        ({"iti": {"tuned": "HERE", "controls": {"strengths": [1]}}}, ("they stand at its strength",)),
        ({"iti": {"tuned": 3}}, ("tuned is 3; expected results of detox tune",)),
        ({"iti": {"tuned": "nowhere"}}, ("no records of `detox tune` in nowhere",)),
    ],
)
def test_what_cannot_be_taken_over_is_one_line(tuned, tmp_path, capsys, entry, words):
    results, asking = tuned
    source = results()
    methods = json.loads(json.dumps(entry).replace("HERE", str(source)))
    refused(asking(tmp_path / "grid.yaml", source, methods=methods), tmp_path / "out", capsys, *words)


def test_another_base_and_another_fit_are_refused(tuned, grid_files, tmp_path, capsys):
    results, asking = tuned
    source, output = results(), tmp_path / "out"
    wider = {"planted": {"model": str(grid_files / "model"), "dtype": "float64"}}
    path = asking(tmp_path / "grid.yaml", source, bases=wider)
    refused(path, output, capsys, "the base 'planted' is not the one", "they differ in dtype")
    assert main(["bench", "plan", str(path), "--output_dir", str(output)]) == 2
    other = {"else": {"model": str(grid_files / "model")}}
    refused(asking(path, source, bases=other), output, capsys, "has iti on planted, not on else")
    fewer = {"contrasts": {"file": str(grid_files / "fit.jsonl"), "limit": 40}}
    refused(asking(path, source, fit=fewer), output, capsys, "is of another fit; contrasts (fit:) differ")


def test_a_tuning_without_a_choice_is_refused(tuned, tmp_path, capsys):
    results, asking = tuned
    far = {"iti": {"settings": {"num_heads": 4}, "strength": [6]}}
    nothing = results("nothing", detoxifiers=far, tune={"budget": 1e-9})
    refused(
        asking(tmp_path / "grid.yaml", nothing), tmp_path / "out", capsys, "chose nothing: no point within +1e-09 nats"
    )
    unfinished = tmp_path / "unfinished"
    (unfinished / "tuned").mkdir(parents=True)
    (unfinished / "tuned" / "x.journal").write_text("")
    refused(asking(tmp_path / "grid.yaml", unfinished), tmp_path / "out", capsys, "a search that has not ended")
    (unfinished / "tuned" / "x.json").write_text('{"asked": {}}')
    refused(asking(tmp_path / "grid.yaml", unfinished), tmp_path / "out", capsys, "x.json:1: no record of `detox tune`")
    (unfinished / "tuned" / "x.json").write_text("[")
    refused(asking(tmp_path / "grid.yaml", unfinished), tmp_path / "out", capsys, "x.json:1: damaged")


def test_two_splits_in_one_folder_are_kept_and_shown(tuned, tmp_path, capsys, grid):
    import shutil

    results, asking = tuned
    _, write = grid
    output = shutil.copytree(results(), tmp_path / "both")
    methods = {"iti": {"settings": {"num_heads": 4}, "strength": [1, 3]}}
    path = write(tmp_path / "tune.yaml", detoxifiers=methods, tune={"budget": 2.0, "trials": 2, "seed": 2})
    assert main(["tune", str(path), "--output_dir", str(output)]) == 0
    records = {json.loads(one.read_text())["split"]["seed"]: one for one in (output / "tuned").glob("*.json")}
    assert records.keys() == {1, 2}
    capsys.readouterr()
    assert main(["tune", "show", str(output)]) == 0
    out = capsys.readouterr().out
    assert "split seed 1" in out
    assert "split seed 2" in out
    assert out.count("CE change") == 2
    assert out.count("\n> ") == 2
    assert main(["bench", "show", str(output), "--protocol", "held-out"]) == 2
    assert f"`detox tune show {output}` shows each split" in capsys.readouterr().err
    refused(
        asking(tmp_path / "grid.yaml", output), tmp_path / "out", capsys, "has 2 choices for planted; name one: tuned: "
    )
    one = {"iti": {"tuned": str(records[2]), "controls": False}}
    path = asking(tmp_path / "grid.yaml", records[2], methods=one)
    assert "split2" in read_grid(path, make_scorer=scorer_maker(tmp_path)).methods[0].tuned


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["show"], "takes one results directory, got none"),
        (["show", "nowhere"], "no records of `detox tune` in nowhere"),
        (["a.yaml", "b.yaml"], "takes one file, got a.yaml b.yaml"),
    ],
)
def test_what_is_shown_is_one_directory(capsys, words, message):
    assert main(["tune", *words]) == 2
    assert message in capsys.readouterr().err
