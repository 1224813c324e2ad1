from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from detox.bench.report import read_results, report_data
from detox.evaluation import Scorecard
from detox.evaluation.utility import document_metrics
from tests.bench.report.synthetic import write_results


@pytest.fixture(scope="session")
def hostile_results(tmp_path_factory):
    return write_results(tmp_path_factory.mktemp("report") / "results")


@pytest.fixture(scope="session")
def hostile_data(hostile_results):
    return report_data(read_results(hostile_results), texts=True)


@pytest.fixture(scope="session")
def infinite_results(tmp_path_factory):
    """The method at its second strength bans a token of one document."""
    folder = write_results(tmp_path_factory.mktemp("infinite") / "results", hostile=False)
    for cell in sorted(folder.glob("cells/*/cell.json")):
        asked = json.loads(cell.read_text())
        card = Scorecard.load(cell.parent)
        documents = dict(card.tables["documents"])
        if asked["strength"] == 2.0 and asked["method"] == "iti":
            documents["nats"] = [math.inf, *documents["nats"][1:]]
        metrics = {**card.metrics, **document_metrics(documents)}
        replace(card, metrics=metrics, tables={**card.tables, "documents": documents}).write_into(cell.parent)
    return folder
