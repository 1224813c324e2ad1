"""A report on cells of infinite cross-entropy: what is infinite is neither missing nor a number, in every format."""

from __future__ import annotations

import csv
import io
import json
import math
from html import unescape

import pytest

from detox.bench import compare
from detox.bench.report import read_results, report_data
from detox.bench.report.escaping import data_block, made_visible
from detox.bench.report.inspect_logs import write_inspect
from detox.bench.report.lm_eval_files import write_lm_eval
from detox.bench.report.page import render
from detox.bench.report.tables import latex, markdown, tidy_csv


def test_the_comparison_says_infinite_in_its_table_its_file_and_its_picture(infinite_results, tmp_path):
    comparison = compare(infinite_results)
    [row] = [row for row in comparison.rows if row.strength == 2.0]
    change = row.cross_entropy_change
    assert (change.value, change.low, change.high) == (math.inf, math.inf, math.inf)
    assert "+inf [+inf, +inf]" in str(comparison)
    lines = list(csv.DictReader(io.StringIO(comparison.csv())))
    values = [float(line["clean/perplexity"]) for line in lines]
    assert sum(map(math.isinf, values)) == 1
    assert not any(map(math.isnan, values))
    comparison.plot(tmp_path / "pareto.png")
    assert (tmp_path / "pareto.png").stat().st_size > 10_000


def test_the_report_says_infinite_in_every_format(infinite_results, tmp_path):
    found = read_results(infinite_results)
    data = report_data(found)
    [cell] = [cell for cell in data["cells"] if cell["strength"] == 2.0 and cell["role"] == "method"]
    assert cell["metrics"]["clean/perplexity"][:3] == [math.inf] * 3
    assert cell["changes"]["clean/perplexity"]["estimate"][0] == math.inf
    assert cell["changes"]["clean/bits_per_byte"]["estimate"][:3] == [math.inf] * 3
    assert cell["cost_change"][:3] == [math.inf] * 3
    assert cell["verdicts"]["utility"] == "worse"
    rows = [row for row in csv.DictReader(io.StringIO(tidy_csv(data))) if row["metric"] == "clean/bits_per_byte"]
    assert sum(row["change"] == "inf" and float(row["value_high"]) == math.inf for row in rows) == 1
    assert "+∞ [+∞, +∞]" in markdown(data)
    assert r"+$\infty$ {[}+$\infty$, +$\infty$]" in latex(data).replace("{]}", "]")
    html = unescape(render(data))
    assert 'data-value="Infinity"' in html
    assert "+∞<small>[+∞, +∞]</small>" in html
    assert "Infinity" not in html.split('<script type="application/json"')[1].split("</script>")[0]
    for path in write_lm_eval(found, tmp_path / "lm_eval") + write_inspect(found, tmp_path / "inspect"):
        json.loads(path.read_text(), parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))


def test_a_data_block_holds_infinity_as_a_number_that_every_reader_takes_for_it():
    value = made_visible({"a": [math.inf, -math.inf, 1.5, None], "text": ["\0+", "Infinity", '"\0-"']})
    text = data_block(value)
    assert json.loads(text, parse_constant=lambda word: pytest.fail(word)) == value
    with pytest.raises(ValueError, match="JSON compliant"):
        data_block([math.nan])
