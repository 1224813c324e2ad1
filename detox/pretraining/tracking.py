"""Experiment trackers: which of them a run reports to, and where one that writes files writes them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from detox.errors import MissingData, UnknownName

TRACKERS = ("trackio", "wandb", "tensorboard")
_LOGS = "TENSORBOARD_LOGGING_DIR"  # where transformers looks; by default in the work directory, which is removed


def installed_trackers(report_to: str | Sequence[str]) -> list[str]:
    """The trackers asked for, as transformers' TrainingArguments take them.

    Args:
        report_to: a name of `TRACKERS` or several; "none", or nothing, for none.

    Raises:
        UnknownName: no such tracker.
        MissingData: it is not installed.
    """
    names = [report_to] if isinstance(report_to, str) else list(report_to)
    names = [name for name in names if name != "none"]
    for name in names:
        if name not in TRACKERS:
            raise UnknownName("tracker", name, (*TRACKERS, "none"))
        packages = ("tensorboard", "tensorboardX") if name == "tensorboard" else (name,)
        if not any(find_spec(package) for package in packages):
            raise MissingData(f"report_to: {name} is not installed; pip install {name}, or report_to='none'")
    return names


@contextmanager
def logs_beside(output: Path) -> Iterator[None]:
    """Tracking files go to `<output>.logs`, unless the environment says where."""
    if _LOGS in os.environ:
        yield
        return
    os.environ[_LOGS] = str(output.with_name(output.name + ".logs"))
    try:
        yield
    finally:
        del os.environ[_LOGS]
