"""What one sees of a training run: progress with time left, throughput, held-out loss, an end to one that diverged."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from tqdm import tqdm
from transformers import TrainerCallback

from detox.errors import DetoxError
from detox.losses import IGNORE_INDEX, selective_loss
from detox.pretraining.packing import PackedSequences
from detox.pretraining.processes import is_first, process_count, summed

Progress = bool | Callable[[int, int], None]


def held_out_loss(model: Any, sequences: PackedSequences, *, batch_size: int = 32) -> dict[str, float]:
    """Cross-entropy of whole sequences in nats per token, whatever the model was trained with.

    This watches training; results are measured by `detox.evaluation`. Where several processes share a run, all of them
    call it, each computes its part, and each gets the whole result.

    Args:
        model: a causal language model, left in the mode it was in.
        sequences: held-out text, packed as for training; tokens that are `ignored` are not measured.
        batch_size: sequences at a time.

    Returns:
        "all" over all targets and, where there are such targets, "safe" and "risky" over those.
    """
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    names = ("all", "safe", "risky")
    sums = torch.zeros(len(names), dtype=torch.float64)
    counts = torch.zeros(len(names), dtype=torch.float64)
    starts = list(range(0, len(sequences), batch_size))
    processes = process_count()
    rank = torch.distributed.get_rank() if processes > 1 else 0
    # Not inference_mode: weights that FSDP gathers in it could not be trained with afterwards.
    with torch.no_grad():
        for first in range(0, len(starts), processes):
            # A sharded model runs on all processes or on none: who has no batch left runs one and does not count it.
            mine = first + rank
            batch = slice(starts[min(mine, len(starts) - 1)], starts[min(mine, len(starts) - 1)] + batch_size)
            tokens = torch.from_numpy(np.array(sequences.tokens[batch])).long().to(device)
            risk = torch.from_numpy(np.array(sequences.risk[batch])).to(device)[:, 1:]
            targets = tokens[:, 1:]
            if sequences.ignored is not None:
                ignored = torch.from_numpy(np.array(sequences.ignored[batch])).to(device)[:, 1:]
                targets = targets.masked_fill(ignored, IGNORE_INDEX)
            logits = model(input_ids=tokens).logits[:, :-1]
            if mine >= len(starts):
                continue
            safe = selective_loss(logits, targets, risk, "masked")
            risky = selective_loss(logits, targets.masked_fill(~risk, IGNORE_INDEX), risk, "full")
            for index, loss in enumerate((safe + risky, safe, risky)):
                sums[index] += loss.likelihood.double().cpu()
                counts[index] += float(loss.likelihood_count)
    sums, counts = summed(torch.stack([sums, counts]).to(device)).cpu()
    model.train(was_training)
    return {name: float(sums[i] / counts[i]) for i, name in enumerate(names) if counts[i]}


class Throughput(TrainerCallback):  # type: ignore[misc]
    """Tokens a second, model FLOPs utilisation and time left, added to every logged entry and summed over the run.

    Only training counts: held-out measurement and the writing of checkpoints are left out.

    Attributes:
        tokens: read while it counted.
        seconds: spent on them.
    """

    def __init__(self, *, tokens_a_step: int, flops_a_token: float, peak: float | None) -> None:
        """`peak`: operations a second of all devices together; None where it is not known, and then there is no mfu."""
        self.tokens_a_step, self.flops_a_token, self.peak = tokens_a_step, flops_a_token, peak
        self.tokens, self.seconds = 0, 0.0
        self._mark, self._paused, self._step = time.monotonic(), 0.0, 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start to count."""
        self._step = state.global_step
        self.restart()

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Leave out what a checkpoint took."""
        self.restart()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Add what the steps since the last entry took."""
        steps = state.global_step - self._step
        if not logs or "loss" not in logs or steps < 1:
            return
        seconds = max(time.monotonic() - self._mark - self._paused, 1e-9)
        self.tokens, self.seconds = self.tokens + steps * self.tokens_a_step, self.seconds + seconds
        found: dict[str, float] = {"tokens_per_second": round(steps * self.tokens_a_step / seconds, 1)}
        if self.peak is not None:
            found["mfu"] = round(found["tokens_per_second"] * self.flops_a_token / self.peak, 4)
        left = (state.max_steps - state.global_step) * self.tokens_a_step
        found["seconds_left"] = round(left * self.seconds / self.tokens, 3)
        logs.update(found)
        state.log_history[-1].update(found)
        self._step = state.global_step
        self.restart()

    def restart(self) -> None:
        """Count from now on."""
        self._mark, self._paused = time.monotonic(), 0.0

    def pause(self, seconds: float) -> None:
        """Leave out time that was not training."""
        self._paused += seconds

    def card(self) -> dict[str, float | None]:
        """Tokens a second and model FLOPs utilisation over all that was counted; None where not known."""
        if not self.tokens:
            return {"tokens_per_second": None, "mfu": None}
        rate = self.tokens / self.seconds
        return {
            "tokens_per_second": round(rate, 1),
            "mfu": None if self.peak is None else round(rate * self.flops_a_token / self.peak, 4),
        }


class HeldOut(TrainerCallback):  # type: ignore[misc]
    """Adds `{"step": n, "held_out": {name: losses}}` to the log history: at the start, every `every` steps, at last.

    Attributes:
        report: is given the same as flat numbers, `held_out/<set>/<name>`; None for nobody.
    """

    def __init__(
        self, sets: Mapping[str, PackedSequences], *, every: int, batch_size: int, clock: Throughput | None = None
    ) -> None:
        self.sets, self.every, self.batch_size, self.clock = sets, every, batch_size, clock
        self.report: Callable[[dict[str, float]], None] | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Measure the start, unless this is a resumed run, which has it."""
        if state.global_step == 0:
            self._measure(state, model)

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Measure before this step's checkpoint is written, so that a resumed run has it."""
        if state.global_step % self.every == 0 or state.global_step == state.max_steps:
            self._measure(state, model)

    def _measure(self, state: Any, model: Any) -> None:
        started = time.monotonic()
        found = {name: held_out_loss(model, data, batch_size=self.batch_size) for name, data in self.sets.items()}
        if found:
            state.log_history.append({"step": state.global_step, "held_out": found})
            if self.report is not None:
                self.report({f"held_out/{one}/{name}": x for one, of in found.items() for name, x in of.items()})
        if self.clock is not None:
            self.clock.pause(time.monotonic() - started)


class ShowProgress(TrainerCallback):  # type: ignore[misc]
    """A bar on stderr with time left, loss and throughput, or calls of `progress(step, steps)`; on one process alone."""

    def __init__(self, progress: Progress, description: str) -> None:
        self.progress, self.description = progress if is_first() else False, description
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
        """Show the loss and the throughput."""
        if self.bar is not None and logs and "loss" in logs:
            shown = {"loss": f"{logs['loss']:.3f}"}
            if "tokens_per_second" in logs:
                shown["tok/s"] = f"{logs['tokens_per_second']:,.0f}"
            if "mfu" in logs:
                shown["mfu"] = f"{logs['mfu']:.1%}"
            self.bar.set_postfix(shown, refresh=False)

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
                "learning_rate or a longer warmup"
            )
