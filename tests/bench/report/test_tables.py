from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess

import pytest

from detox.bench.report.tables import headline_rows, latex, markdown, tidy_csv
from tests.bench.report.synthetic import HOSTILE


def test_the_csv_holds_every_metric_of_every_cell_once(hostile_data):
    rows = list(csv.DictReader(io.StringIO(tidy_csv(hostile_data))))
    assert len(rows) == sum(len(cell["metrics"]) for cell in hostile_data["cells"])
    assert len({(row["base"], row["method"], row["strength"], row["metric"]) for row in rows}) == len(rows)
    by_place = iter(rows)
    for cell in hostile_data["cells"]:
        for metric, value in cell["metrics"].items():
            row = next(by_place)
            assert (row["metric"], float(row["value"]), float(row["value_low"])) == (metric, value[0], value[1])
            change = cell["changes"].get(metric)
            assert row["change"] == ("" if change is None else str(change["estimate"][0]))
            assert row["paired"] == ("" if change is None else str(change["paired"]).lower())


@pytest.mark.parametrize("name", ["=1+1", "+cmd", "-2", "@SUM(1)"])
def test_a_name_is_no_formula(hostile_data, name):
    cells = [{**cell, "base": name} for cell in hostile_data["cells"]]
    rows = list(csv.reader(io.StringIO(tidy_csv({**hostile_data, "cells": cells}))))
    assert {row[0] for row in rows[1:]} == {f"'{name}"}


def test_markdown_is_a_table_whatever_the_names(hostile_data):
    head, rows = headline_rows(hostile_data)
    lines = markdown(hostile_data).splitlines()
    assert len(lines) == 2 + len(rows)
    for line in lines:
        assert len(re.findall(r"(?<!\\)\|", line)) == len(head) + 1
    assert not re.search(r"(?<!\\)<", markdown(hostile_data))
    assert any("not measured: the grid did not ask" in line for line in lines)
    # Controls are what a method has to beat, not what one reads first.
    assert not any("random" in line for line in lines)


def test_latex_has_a_row_a_cell_and_nothing_that_tex_would_obey(hostile_data):
    text = latex({**hostile_data, "name": "50 % of $x_1$ & \\input{x}"})
    body = text.split("\\midrule\n")[1].split("\\bottomrule")[0]
    head, rows = headline_rows(hostile_data)
    lines = [line for line in body.splitlines() if line != "\\addlinespace"]
    assert len(lines) == len(rows)
    for line, row in zip(lines, rows, strict=True):
        assert line.endswith(r" \\")
        cells = len(re.findall(r"(?<!\\)&", line)) + 1
        assert cells == (len(head) if len(row) == len(head) else 3)
    assert "\\input" not in text
    assert text.count("{") == text.count("}")
    assert "\\_" in latex({**hostile_data, "headline": "a_b"})


def test_latex_compiles_whatever_the_names_where_there_is_a_tex(hostile_data, tmp_path):
    names = ("*star", "[opt]", "a\\b%c&d$e#f_g^h~i{j}k", "turned \u202e", *(one for one in HOSTILE if len(one) < 200))
    cells = [{**hostile_data["cells"][0], "base": name} for name in names]
    text = latex({**hostile_data, "cells": cells, "name": "x\ny"})
    assert text.isascii()  # pdflatex knows no sign of ours that is not
    assert not re.search(r"\\\\\n[\[*]", text)  # what \\\\ would take for its own argument
    if (pdflatex := shutil.which("pdflatex")) is None:
        return
    whole = f"\\documentclass{{article}}\\usepackage{{booktabs}}\\begin{{document}}\n{text}\\end{{document}}\n"
    (tmp_path / "table.tex").write_text(whole, encoding="utf-8")
    command = [pdflatex, "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "table.tex"]
    made = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=60)
    assert made.returncode == 0, made.stdout[-1000:]
