"""What one sees of a training run: progress with time left, held-out loss, and an end to a run that diverged."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm
from transformers import TrainerCallback

from detox.errors import DetoxError
from detox.losses import IGNORE_INDEX, selective_loss
from detox.pretraining.packing import PackedSequences

Progress = bool | Callable[[int, int], None]


def held_out_loss(model: Any, sequences: PackedSequences, *, batch_size: int = 32) -> dict[str, float]:
    """Cross-entropy of whole sequences in nats per token, whatever the model was trained with.

    This watches training; results are measured by `detox.evaluation`.

    Args:
        model: a causal language model, left in the mode it was in.
        sequences: held-out text, packed as for training.
        batch_size: sequences at a time.

    Returns:
        "all" over all targets and, where there are such targets, "safe" and "risky" over those.
    """
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    sums: dict[str, list[Tensor]] = {"all": [], "safe": [], "risky": []}
    counts = dict.fromkeys(sums, 0)
    with torch.inference_mode():
        for start in range(0, len(sequences), batch_size):
            tokens = torch.from_numpy(sequences.tokens[start : start + batch_size]).long().to(device)
            risk = torch.from_numpy(sequences.risk[start : start + batch_size]).to(device)[:, 1:]
            logits = model(input_ids=tokens).logits[:, :-1]
            safe = selective_loss(logits, tokens[:, 1:], risk, "masked")
            risky_targets = tokens[:, 1:].masked_fill(~risk, IGNORE_INDEX)
            risky = selective_loss(logits, risky_targets, risk, "full")
            for name, loss in (("all", safe + risky), ("safe", safe), ("risky", risky)):
                sums[name].append(loss.likelihood.double().cpu())
                counts[name] += int(loss.likelihood_count)
    model.train(was_training)
    return {name: float(torch.stack(sums[name]).sum()) / counts[name] for name in sums if counts[name]}


class HeldOut(TrainerCallback):  # type: ignore[misc]
    """Adds `{"step": n, "held_out": {name: losses}}` to the log history: at the start, every `every` steps, at last."""

    def __init__(self, sets: Mapping[str, PackedSequences], *, every: int, batch_size: int) -> None:
        self.sets, self.every, self.batch_size = sets, every, batch_size

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Measure the start, unless this is a resumed run, which has it."""
        if state.global_step == 0:
            self._measure(state, model)

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Measure before this step's checkpoint is written, so that a resumed run has it."""
        if state.global_step % self.every == 0 or state.global_step == state.max_steps:
            self._measure(state, model)

    def _measure(self, state: Any, model: Any) -> None:
        found = {name: held_out_loss(model, data, batch_size=self.batch_size) for name, data in self.sets.items()}
        if found:
            state.log_history.append({"step": state.global_step, "held_out": found})


class ShowProgress(TrainerCallback):  # type: ignore[misc]
    """A bar on stderr with time left and the loss, or calls of `progress(step, steps)`."""

    def __init__(self, progress: Progress, description: str) -> None:
        self.progress, self.description = progress, description
        self.bar: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the bar where training starts, so that a resumed run's time left is right."""
        if self.progress is True:
            self.bar = tqdm(
                total=state.max_steps, initial=state.global_step, desc=self.description, unit="step", file=sys.stderr
            )

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """One step more."""
        if self.bar is not None:
            self.bar.update()
        elif callable(self.progress):
            self.progress(state.global_step, state.max_steps)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        """Show the loss."""
        if self.bar is not None and logs and "loss" in logs:
            self.bar.set_postfix(loss=f"{logs['loss']:.3f}", refresh=False)

    def close(self) -> None:
        """End the bar, however training ended."""
        if self.bar is not None:
            self.bar.close()


class StopDiverged(TrainerCallback):  # type: ignore[misc]
    """Ends a run whose loss is no number, before such weights are saved over good ones."""

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        """Look at each logged loss.

        Raises:
            DetoxError: it is NaN or infinite.
        """
        if logs and not math.isfinite(logs.get("loss", 0.0)):
            raise DetoxError(
                f"training diverged: the loss is {logs['loss']} at step {state.global_step}; try a lower "
                "learning_rate or a "
                "longer warmup"
            )
