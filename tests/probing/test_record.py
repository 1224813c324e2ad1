"""Numbers of docs/probing.md are those of the committed record, which holds no text and no path."""

from __future__ import annotations

import json
import re

from detox.probing.texts import FEWEST
from tests.conftest import REPOSITORY

RECORD = REPOSITORY / "benchmarks" / "results" / "probing" / "arms.json"


def test_the_table_is_in_the_record():
    text = (REPOSITORY / "docs" / "probing.md").read_text("utf-8")
    lines = re.search(r"<!-- benchmarks/results/probing/arms.json -->\n(?:.*\n){2}((?:\|.*\n)+)", text)[1].splitlines()
    sides = [one["tails"]["tests"] for one in json.loads(RECORD.read_text())["comparisons"]]
    assert len(lines) == len(sides[0]) == 5
    for line in lines:
        name, *shown = [cell.strip() for cell in line.strip("|").split("|")]
        expected = []
        for tests in sides:
            found = tests[name]["difference"]
            expected += [
                f"{found['value']:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}]",
                f"{tests[name]['p_texts']:.2f}, {tests[name]['p_seeds']:.2f}",
            ]
        assert shown == expected, name


def test_the_record_is_of_nine_bases_alike():
    bases = json.loads(RECORD.read_text())["bases"]
    assert {label: len(side) for label, side in bases.items()} == {"clean": 3, "toxic mix": 3, "masked": 3}
    cards = [card for side in bases.values() for card in side]
    assert len({card["data"]["digest"] for card in cards}) == 1
    assert len({card["fingerprint"] for card in cards}) == 9
    assert all(min(card["data"]["features"].values()) >= FEWEST for card in cards)
