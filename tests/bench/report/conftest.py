from __future__ import annotations

import pytest

from detox.bench.report import read_results, report_data
from tests.bench.report.synthetic import write_results


@pytest.fixture(scope="session")
def hostile_results(tmp_path_factory):
    return write_results(tmp_path_factory.mktemp("report") / "results")


@pytest.fixture(scope="session")
def hostile_data(hostile_results):
    return report_data(read_results(hostile_results), texts=True)
