"""What is said before a run."""

from __future__ import annotations

import numpy as np
import pytest

from detox.bench import read_grid
from detox.bench.cells import read_records
from detox.bench.plan import plan
from detox.bench.scorers import scorer_maker
from detox.bench.toxicity_scores import prompt_scores
from detox.cli import main
from detox.statistics import detectable_difference


def test_nothing_is_computed_and_everything_is_counted(grid, tmp_path, capsys):
    _, write = grid
    path, output = write(tmp_path / "grid.yaml", aa=True), tmp_path / "out"
    assert main(["bench", "plan", str(path), "--output_dir", str(output)]) == 0
    out = capsys.readouterr().out
    assert not output.exists()
    found = plan(read_grid(path, make_scorer=scorer_maker(output, train=False)), output)
    [one] = found.protocols
    prompts = one.prompts
    assert f"{prompts} prompts x 3" in out
    assert (one.cells, one.there, one.unknown) == (5, 0, 0)
    assert one.tokens == 5 * prompts * 3 * 6
    assert one.detectable == pytest.approx(detectable_difference(0.17 / np.sqrt(3), prompts))
    assert "assumed" in one.source


def test_a_pilot_in_the_folder_takes_the_place_of_the_assumption(grid, tmp_path):
    _, write = grid
    path, output = write(tmp_path / "grid.yaml"), tmp_path / "out"
    assert main(["bench", "run", str(path), "--output_dir", str(output)]) == 0
    more = write(
        tmp_path / "more.yaml",
        detoxifiers={"prompting": {"settings": {"text": "topic1 says kind1 kind2 "}}},
        seeds=[0, 1],
    )
    [one] = plan(read_grid(more, make_scorer=scorer_maker(output)), output).protocols
    assert (one.cells, one.there) == (4, 2)
    records = {
        (r.names["method"], r.names["strength"]): prompt_scores(r.scorecard, "rudeness") for r in read_records(output)
    }
    spreads = [np.nanstd(values - records[None, None], ddof=1) for key, values in records.items() if key[0] is not None]
    assert one.spread == pytest.approx(np.median(spreads))
    assert "3 records in this folder" in one.source


def test_holes_are_seen_before_they_are_made(grid, tmp_path):
    raw, write = grid
    bases = {**raw["bases"], "absent": {"model": str(tmp_path / "nowhere")}}
    protocols = {"chat": {**raw["protocols"]["main"], "chat": True}}
    path = write(tmp_path / "grid.yaml", bases=bases, protocols=protocols, detoxifiers={})
    found = plan(read_grid(path, make_scorer=scorer_maker(tmp_path)), tmp_path)
    assert any("absent" in line for line in found.unsupported)
    assert any("no chat template" in line for line in found.unsupported)


def test_a_scorer_that_has_to_be_trained_is_not(grid, tmp_path):
    raw, write = grid
    main_protocol = {**raw["protocols"]["main"], "scorers": [{"trained": True, "name": "mine"}]}
    path = write(tmp_path / "grid.yaml", protocols={"main": main_protocol}, detoxifiers={})
    grid_read = read_grid(path, make_scorer=scorer_maker(tmp_path / "out", train=False))
    assert plan(grid_read, tmp_path / "out").protocols[0].there == 0
    assert not (tmp_path / "out").exists()
