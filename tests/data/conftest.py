from __future__ import annotations

from pathlib import Path

import pytest

from detox.data.catalogue import data_directory
from detox.errors import MissingData


@pytest.fixture(scope="session")
def shared_data() -> Path:
    try:
        return data_directory()
    except MissingData as error:
        pytest.skip(str(error))


@pytest.fixture
def datasets_cache(tmp_path, monkeypatch):
    """`datasets` builds what it loads under the home folder otherwise."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()
