"""Several processes on one grid: the same records as one."""

from __future__ import annotations

import json

import pytest
import yaml

from detox.bench.base_entries import read_bases
from detox.bench.workers import shares_of
from detox.cli import main
from detox.errors import InputError

GRID = {
    "name": "two",
    "bases": {
        "s{seed}": {
            "for": {"seed": [0, 1]},
            "pretrain": {"data": "miniature", "arm": "full", "size": "test", "seed": "{seed}"},
        },
        "s{seed} +it": {
            "for": {"seed": [0, 1]},
            "factors": {"stage": "instructed"},
            "instruct": {"base": "s{seed}", "dialogues": {"set": "miniature", "limit": 8}},
        },
    },
    "protocols": {
        "main": {
            "prompts": {"set": "miniature", "limit": 4},
            "sampling": {"max_new_tokens": 4},
            "scorers": ["miniature-truth"],
            "documents": {"set": "miniature", "limit": 3},
        }
    },
}


def test_what_comes_of_one_root_stays_together():
    bases = read_bases(GRID["bases"])
    assert shares_of(bases, 2) == [["s0", "s0 +it"], ["s1", "s1 +it"]]
    assert shares_of(bases, 1) == [[base.name for base in bases]]
    assert len(shares_of(bases, 5)) == 2  # a worker without work is none
    with pytest.raises(InputError, match="workers is 0"):
        shares_of(bases, 0)


@pytest.mark.slow
def test_two_workers_make_the_records_of_one(tmp_path, capfd):
    file = tmp_path / "grid.yaml"
    file.write_text(yaml.safe_dump(GRID, sort_keys=False))
    for name, workers in (("two", "2"), ("one", "1")):
        assert main(["bench", "run", str(file), "--output_dir", str(tmp_path / name), "--workers", workers]) == 0
    said = capfd.readouterr().err
    assert "worker 1: " in said
    assert "worker 2: " in said
    cells = [sorted(path.name for path in (tmp_path / name / "cells").iterdir()) for name in ("two", "one")]
    assert cells[0] == cells[1]
    assert len(cells[0]) == 8  # four bases, each against itself too
    for cell in cells[0]:
        cards = [
            json.loads((tmp_path / name / "cells" / cell / "scorecard.json").read_text()) for name in ("two", "one")
        ]
        assert cards[0]["metrics"] == cards[1]["metrics"]
    grid = json.loads((tmp_path / "two" / "grid.json").read_text())
    assert grid["factors"]["s1 +it"] == {"seed": 1, "stage": "instructed"}
