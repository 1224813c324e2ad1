"""Rates by group: against counts, statsmodels-free formulas, and a scorer that holds a dialect against its speakers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from detox.bench.sources import read_records
from detox.cli import main
from detox.data.records import LabelledText
from detox.errors import DataError, InputError, MissingData
from detox.scorers.group_rates import group_rates
from detox.statistics import Estimate, independent_difference
from tests.bench.conftest import SCORER


def test_rates_are_counts_of_harmless_texts_with_exact_intervals():
    rng = np.random.default_rng(0)
    groups = rng.choice(["aae", "other", "aae+other", None], 200).tolist()
    labels = rng.integers(2, size=200).tolist()
    scores = rng.random(200)
    scores[:5] = np.nan
    found = group_rates(groups, labels, scores)
    assert found["labelled"]
    for name in ("aae", "other"):
        mine = [i for i in range(200) if groups[i] and name in groups[i].split("+") and labels[i] == 0]
        known = [i for i in mine if not np.isnan(scores[i])]
        called = sum(scores[i] >= 0.5 for i in known)
        own = found["groups"][name]
        assert own["called_toxic"] == [called, len(known)]
        assert own["missing"] == len(mine) - len(known)
        exact = binomtest(int(called), len(known)).proportion_ci(method="exact")
        assert own["rate"]["low"] <= exact.low + 0.02
        assert own["rate"]["high"] >= exact.high - 0.02
        others = [i for i in range(200) if i not in mine and labels[i] == 0 and not np.isnan(scores[i])]
        gap = called / len(known) - np.mean([scores[i] >= 0.5 for i in others])
        assert own["difference"]["value"] == pytest.approx(gap)
        assert own["difference"]["low"] < gap < own["difference"]["high"]


def test_a_scorer_that_holds_a_dialect_against_its_speakers_shows():
    groups = ["aae", "white"] * 100
    scores = [0.9 if g == "aae" and i % 3 == 0 else 0.1 for i, g in enumerate(groups)]
    unfair = group_rates(groups, [0] * 200, scores)["groups"]
    assert unfair["aae"]["difference"]["low"] > 0.2
    assert unfair["white"]["difference"]["high"] < -0.2
    fair = group_rates(groups, [0] * 200, [0.9 if i // 2 % 3 == 0 else 0.1 for i in range(200)])["groups"]
    assert fair["aae"]["difference"]["low"] < 0 < fair["aae"]["difference"]["high"]
    unlabelled = group_rates(groups, [None] * 200, scores)
    assert not unlabelled["labelled"]
    assert unlabelled["groups"]["aae"]["n"] == 100
    assert group_rates(["aae"], [0], [0.1])["groups"]["aae"]["difference"] is None
    with pytest.raises(InputError, match="1 groups, 2 labels, 1 scores"):
        group_rates(["aae"], [0, 1], [0.1])


def test_the_interval_of_a_difference_covers_it():
    rng, runs = np.random.default_rng(1), 300
    held = 0
    for _ in range(runs):
        called = np.concatenate([rng.random(80) < 0.2, rng.random(120) < 0.05])
        found = group_rates(["a"] * 80 + ["b"] * 120, [0] * 200, np.where(called, 0.9, 0.1))["groups"]["a"][
            "difference"
        ]
        held += found["low"] <= 0.15 <= found["high"]
    assert held / runs > 0.95 - 3 * (0.05 * 0.95 / runs) ** 0.5
    one, other = Estimate(0.3, 0.2, 0.5, 10), Estimate(0.1, 0.0, 0.4, 20)
    both = independent_difference(one, other)
    assert (both.low, both.high) == pytest.approx((0.2 - (0.1**2 + 0.3**2) ** 0.5, 0.2 + (0.2**2 + 0.1**2) ** 0.5))
    assert both.n == 30


def test_a_file_of_ones_own_is_a_table_with_text_label_group(tmp_path, capsys):
    rows = [("aae", "rude" if i % 4 == 0 else "kind", i % 2) for i in range(60)]
    rows += [("white", "kind", i % 2) for i in range(60)]
    for suffix, mark in ((".csv", ","), (".tsv", "\t")):
        path = tmp_path / f"dialects{suffix}"
        lines = [mark.join(("text", "label", "group"))]
        lines += [mark.join((f'"{word} word, {i}"', str(label), group)) for i, (group, word, label) in enumerate(rows)]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        found = read_records(LabelledText, {"file": str(path)}, where="x")
        assert found[0] == LabelledText(id="1", text="rude word, 0", label=0, group="aae")
        assert len(found) == 120
    (tmp_path / "rudeness.py").write_text(
        SCORER.replace("return [Score(sum", "return [Score(1.0 - 0.9 * (not sum").replace("/ len(t.split()))", "))")
    )
    assert (
        main(
            [
                "scorers",
                "check",
                f"{tmp_path / 'rudeness.py'}:Rudeness",
                "--dataset_name",
                str(tmp_path / "dialects.csv"),
            ]
        )
        == 0
    )
    said = capsys.readouterr().out
    assert "harmless texts called toxic, and minus the rate of all other texts" in said
    [line] = [one for one in said.splitlines() if one.startswith("  aae ")]
    assert line.split()[:3] == ["aae", "15/30", "0.500"]
    assert "+0.500 [+0.2" in line


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        ("", DataError, ":1: empty; expected a table with a head"),
        ("text,label\na,yes\n", DataError, "label is 'yes'; expected a whole number"),
        ("text,label\na,1,2\n", DataError, "more cells than the head has"),
        ("label,group\n1,a\n", DataError, "no column 'text'"),
        ("text,dialect\na,b\n", InputError, "dialect"),
    ],
)
def test_a_wrong_table_is_one_line(tmp_path, text, error, says):
    path = tmp_path / "own.csv"
    path.write_text(text)
    with pytest.raises(error, match=says) as caught:
        read_records(LabelledText, {"file": str(path)}, where="x")
    assert "\n" not in str(caught.value)
    with pytest.raises(MissingData, match="text,label,group"):
        read_records(LabelledText, {"file": str(tmp_path / "none.csv")}, where="x")
