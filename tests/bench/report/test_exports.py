"""Files of other tools: read by those tools where they are installed, and compared with the records."""

from __future__ import annotations

import json
import math
import re

import pytest

from detox.bench.report import read_results, write_report
from detox.bench.report.inspect_logs import inspect_log
from detox.bench.report.lm_eval_files import lm_eval_results, task_of
from detox.errors import OutputError, UnknownName
from tests.bench.report.synthetic import write_results


@pytest.fixture(scope="module")
def written(tmp_path_factory, hostile_results):
    folder = tmp_path_factory.mktemp("written")
    formats = ("html", "csv", "latex", "markdown", "png", "svg", "lm-eval", "inspect")
    return write_report(hostile_results, output=folder / "page.html", formats=formats, texts=True)


def test_every_format_is_written_beside_the_page(written):
    assert [path.name for path in written] == [
        "page.html", "page.csv", "page.tex", "page.md", "page.png", "page.svg", "page-lm-eval", "page-inspect",
    ]  # fmt: skip
    assert written[4].read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in written[5].read_bytes()
    assert len(list(written[6].glob("*/results_*.json"))) == len(list(written[7].glob("*.json"))) == 7
    for path in written[6].iterdir():
        assert re.fullmatch(r"[\w.@=+-]+", path.name)


def test_lm_eval_reads_its_results(hostile_results, written):
    utils = pytest.importorskip("lm_eval.utils")
    results = read_results(hostile_results)
    row = results.comparison.rows[1]
    value = json.loads(json.dumps(lm_eval_results(results, row)))
    table = utils.make_table(value)
    for name, estimate in row.scorecard.metrics.items():
        task, metric = task_of(name)
        assert value["results"][task][f"{metric},none"] == estimate.value
        error = value["results"][task][f"{metric}_stderr,none"]
        assert error == pytest.approx((estimate.high - estimate.low) / 3.92, rel=1e-4)
        assert f"{estimate.value:.4f}" in table
    files = [str(path) for path in written[6].glob("*/results_*.json")]
    assert utils.get_results_filenames(files) == files
    assert value["higher_is_better"]["facts"]["accuracy"] is True
    assert value["higher_is_better"]["clean"]["cross_entropy"] is False


def test_inspect_logs_hold_scores_and_no_missing_one(hostile_results):
    results = read_results(hostile_results)
    row = next(r for r in results.comparison.rows if r.method == "iti" and r.strength == 2.0)
    log = inspect_log(results, row)
    json.dumps(log, allow_nan=False)
    assert len(log["samples"]) == 24
    scores = row.scorecard.tables["scores"]
    asked = {
        (p, s + 1, n): v
        for p, s, n, v in zip(*(scores[k] for k in ("prompt", "sample", "scorer", "value")), strict=True)
    }
    for sample in log["samples"]:
        for scorer in ("first", "second"):
            value = asked[sample["id"], sample["epoch"], scorer]
            if math.isnan(value):
                assert scorer not in sample["scores"]
                assert sample["metadata"]["not scored"] == {scorer: "failed"}
            else:
                assert sample["scores"][scorer]["value"] == value
        assert sample["output"]["completion"] == ""  # texts were not asked for
    first = log["results"]["scores"][0]
    assert (first["scored_samples"], first["unscored_samples"]) == (23, 1)


def test_inspect_reads_its_logs(written):
    log = pytest.importorskip("inspect_ai.log")
    for path in written[7].glob("*.json"):
        read = log.read_eval_log(str(path))
        assert (read.version, read.status) == (2, "success")
        assert len(read.samples) == 24
        assert read.results.scores[0].metrics["mean"].value == pytest.approx(
            sum(s.scores["first"].as_float() for s in read.samples if "first" in s.scores)
            / sum("first" in s.scores for s in read.samples), abs=2e-2,
        )  # fmt: skip
        assert read.samples[1].output.completion.startswith("sample ")


def test_wrong_places_and_formats_are_refused_before_any_work(hostile_results, tmp_path):
    with pytest.raises(UnknownName, match="did you mean 'markdown'"):
        write_report(hostile_results, formats=["markdwn"])
    with pytest.raises(OutputError, match="is a folder"):
        write_report(hostile_results, output=tmp_path)
    other = tmp_path / "page-inspect"
    other.mkdir()
    (other / "mine.txt").write_text("keep")
    with pytest.raises(OutputError, match=r"mine\.txt"):
        write_report(hostile_results, output=tmp_path / "page.html", formats=["inspect"])
    assert (other / "mine.txt").read_text() == "keep"


def test_a_report_can_be_written_again(tmp_path):
    folder = write_results(tmp_path / "results", hostile=False)
    first, second = (write_report(folder, formats=["html", "lm-eval"]) for _ in range(2))
    assert first == second == [folder / "report.html", folder / "report-lm-eval"]
