"""Shared fixtures: tiny models of every family, the real small models where the shared folder is there."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is imported

settings.register_profile("detox", deadline=None)  # a neighbour's load is no failure
settings.load_profile("detox")

REPOSITORY = Path(__file__).parent.parent


def hear_ctrl_c() -> None:
    """For `preexec_fn`: a test run in the background of a script ignores SIGINT, and its children would inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)  # tiny models: a second thread only waits


@pytest.fixture(scope="session")
def planted():
    """The tiny Llama-like model with a planted toxic direction, and its contrasts."""
    from detox.detoxifiers.planted import plant

    return plant("llama")


@pytest.fixture(scope="module")
def browser():
    """Debian's chromium, driven by playwright; skips where one of them is absent."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("chromium is not installed")
    with playwright.sync_playwright() as driver:
        # The sandbox of chromium needs rights that a container may not give; the page is our own.
        chromium = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def new_page(browser):
    """Makes a tab; whatever the browser complains of or asks for is collected, and must be nothing in the end."""
    complaints: list[str] = []
    tabs = []

    def make(**options):
        page = browser.new_page(**options)
        tabs.append(page)
        page.on("console", lambda message: complaints.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (complaints.append("dialog"), dialog.dismiss()))
        page.on("popup", lambda popup: complaints.append("popup"))
        page.on(
            "request",
            lambda request: complaints.append(request.url) if not request.url.startswith(("file:", "data:")) else None,
        )
        return page

    yield make
    for tab in tabs:
        tab.close()
    assert complaints == []


@pytest.fixture(scope="session")
def shared_models() -> Path:
    """Folder with the real small models (stories260K, babyllama105); skips where it is not there."""
    for parent in (REPOSITORY, *REPOSITORY.parents):
        folder = parent / "shared" / "models"
        if folder.is_dir():
            return folder
    pytest.skip("the folder shared/models with the real small models is not there")
