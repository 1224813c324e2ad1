from __future__ import annotations

import pytest

from detox.cli import main
from tests.bench.report.synthetic import write_results


def test_a_page_and_its_tables(tmp_path, capsys):
    folder = write_results(tmp_path / "results")
    assert main(["report", str(folder), "--format", "html,csv", "--texts"]) == 0
    assert capsys.readouterr().out.splitlines() == [str(folder / "report.html"), str(folder / "report.csv")]
    html = (folder / "report.html").read_text()
    assert "detox report results --format html,csv --texts" in html
    assert str(tmp_path) not in html


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["report", "{}/nowhere"], "no results directory"),
        (["report", "{}"], "holds no cells/"),
        (["report", "{}/results", "--protocol", "other"], "holds no cell of protocol 'other'"),
        (["report", "{}/results", "--format", "pdf"], "unknown format of a report 'pdf'"),
        (["report", "{}/results", "--format", ","], "no format"),
    ],
)
def test_wrong_input_is_one_line(tmp_path, capsys, words, message):
    write_results(tmp_path / "results")
    assert main([word.format(tmp_path) for word in words]) == 2
    error = capsys.readouterr().err.splitlines()
    assert message in error[-1]
    assert not any("Traceback" in line for line in error)
