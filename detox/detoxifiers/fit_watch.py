"""What is watched while weights are trained: progress, and a loss that is no number."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from detox.errors import DetoxError

logger = logging.getLogger(__name__)


def watch(trainer: Any, name: str) -> None:
    """End a run whose loss is no number, and say at which examples; report progress."""
    from transformers import PrinterCallback

    from detox.training.progress import ShowProgress

    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(ShowProgress(progress=_reporter(name), description=name))
    compute = trainer.compute_loss

    def checked(model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        found = compute(model, inputs, *args, **kwargs)
        loss = found[0] if isinstance(found, tuple) else found
        if not bool(torch.isfinite(loss.detach()).all()):
            raise DetoxError(
                f"{name}: the loss is {float(loss.detach().float().mean())} at step {trainer.state.global_step + 1}, at "
                f"{_examples(trainer, inputs)}; look at them, or try a lower learning_rate"
            )
        return found

    trainer.compute_loss = checked


def _examples(trainer: Any, inputs: Mapping[str, Any]) -> str:
    """Which rows of the training data a batch holds, by their tokens."""
    # TRL's CPOTrainer has both sides apart, under names of their own.
    names = ("", "chosen_", "rejected_")
    given = [(inputs.get(f"{name}input_ids"), inputs.get(f"{name}attention_mask")) for name in names]
    pairs = [(ids, mask) for ids, mask in given if ids is not None and mask is not None]
    if not pairs:
        return "this batch"
    held = {
        tuple(row[keep.bool()].tolist()) for ids, mask in pairs for row, keep in zip(ids.cpu(), mask.cpu(), strict=True)
    }
    rows = [
        number
        for number, row in enumerate(trainer.train_dataset)
        if any(tuple(whole[: len(one)]) == one for whole in _sequences(row) for one in held if one)
    ]
    return f"rows {', '.join(map(str, rows[:16]))} of the training data" if rows else "this batch"


def _sequences(row: Mapping[str, Any]) -> list[list[int]]:
    """The token ids of a row, as TRL's trainers and ours prepare them."""
    if "safe" in row:
        return [[*context, *continuation] for side in ("safe", "toxic") for context, continuation in row[side]]
    if "input_ids" in row:
        return [row["input_ids"]]
    return [
        [*row.get("prompt_ids", []), *row[key]]
        for key in ("chosen_ids", "rejected_ids", "completion_ids")
        if key in row
    ]


def _reporter(name: str) -> Callable[[int, int], None]:
    started, said = time.monotonic(), [time.monotonic()]

    def report(step: int, steps: int) -> None:
        now = time.monotonic()
        if now - said[0] >= 10 or step == steps:
            said[0] = now
            left = (now - started) / max(step, 1) * (steps - step)
            logger.info("%s: step %d of %d (about %.1f min left)", name, step, steps, left / 60)

    return report
