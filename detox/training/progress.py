"""What one sees of a training run: progress with time left, throughput, an end to one that diverged."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from typing import Any

from tqdm import tqdm
from transformers import TrainerCallback

from detox.errors import DetoxError
from detox.training.processes import is_first

Progress = bool | Callable[[int, int], None]


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
