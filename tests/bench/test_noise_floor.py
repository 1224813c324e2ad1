"""The A/A row: a base against itself with another seed of the sampling."""

from __future__ import annotations

import copy

import pytest

from detox.bench import compare
from detox.cli import main


def run(path, output) -> int:
    return main(["bench", "run", str(path), "--output_dir", str(output)])


def test_the_base_against_itself_stands_beside_it_and_is_no_method(grid, tmp_path, capsys):
    _, write = grid
    assert run(write(tmp_path / "grid.yaml", aa=True), tmp_path / "out") == 0
    out, err = capsys.readouterr()
    assert "5 cells computed" in err
    comparison = compare(tmp_path / "out")
    assert {row.method for row in comparison.rows} == {None, "iti", "prompting"}
    [floor] = comparison.noise_floor
    assert floor.scorecard.texts != comparison.rows[0].scorecard.texts
    assert floor.toxicity_change.low <= 0 <= floor.toxicity_change.high
    assert floor.toxicity_change.low < floor.toxicity_change.high
    assert floor.cross_entropy_change.value == 0  # the same likelihoods
    lines = [line for line in out.splitlines() if line.startswith("planted")]
    assert "base (A/A)" in lines[1]
    # Likelihoods do not depend on the seed: they are not measured again for it.
    assert len(list((tmp_path / "out" / "stages").glob("documents--*"))) == 4
    assert len(list((tmp_path / "out" / "stages").glob("generate--*"))) == 5


def test_with_two_seeds_it_is_the_base_with_the_second_and_costs_nothing(grid, tmp_path, capsys):
    _, write = grid
    assert run(write(tmp_path / "grid.yaml", aa=True, detoxifiers={}, seeds=[3, 8]), tmp_path / "out") == 0
    assert "2 cells computed, 1 were there" in capsys.readouterr().err
    comparison = compare(tmp_path / "out")
    [floor] = comparison.noise_floor
    assert [row.seed for row in comparison.rows] == [3, 8]
    assert floor.seed == 3
    assert floor.toxicity == comparison.rows[1].toxicity
    assert floor.toxicity_change.value == pytest.approx(
        comparison.rows[1].toxicity.value - comparison.rows[0].toxicity.value, abs=1e-5
    )  # records hold six digits


def test_what_samples_nothing_has_none_and_that_is_said(grid, tmp_path, capsys):
    raw, write = grid
    greedy = copy.deepcopy(raw["protocols"]["main"])
    greedy["sampling"] = {"temperature": 0, "max_new_tokens": 4}
    likelihoods = {"documents": raw["protocols"]["main"]["documents"]}
    path = write(tmp_path / "grid.yaml", aa=True, detoxifiers={}, protocols={"greedy": greedy, "ce": likelihoods})
    assert run(path, tmp_path / "out") == 0
    err = capsys.readouterr().err
    assert "no A/A row for protocol greedy" in err
    assert "no A/A row for protocol ce" in err
    assert "2 cells computed" in err


def test_a_value_that_is_neither_true_nor_false_is_refused(grid, tmp_path, capsys):
    _, write = grid
    assert run(write(tmp_path / "grid.yaml", aa="maybe"), tmp_path / "out") == 2
    assert "aa is 'maybe'; expected true" in capsys.readouterr().err
