"""What a training run does to the rest of the process: nothing that stays."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from transformers.utils import logging


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Only errors, and no bar for every file it saves: they would break up the bar of the training."""
    shown, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if shown:
            logging.enable_progress_bar()


@contextmanager
def preserved_random_state(*, seed: int | None = None) -> Iterator[None]:
    """The random states of python, numpy and torch on the way out are those on the way in: a Trainer sets them all.

    Args:
        seed: what they are set to within the block; None leaves them.
    """
    python, legacy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        try:
            if seed is not None:
                random.seed(seed)
                np.random.seed(seed)
                torch.manual_seed(seed)
            yield
        finally:
            random.setstate(python)
            np.random.set_state(legacy)
