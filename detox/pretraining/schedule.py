"""A learning rate schedule that began before this run: a continued checkpoint goes on with the old one."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

from transformers import TrainerCallback

from detox.pretraining.recipe import PretrainingRecipe


def learning_rate_factor(recipe: PretrainingRecipe, step: int) -> float:
    """The learning rate after `step` steps of this run, as a part of the peak, in [0, 1].

    Warm-up and the whole length are counted from the start of the schedule, `schedule_start` steps before this run.
    """
    done, warmup, whole = step + recipe.schedule_start, recipe.warmup_steps, recipe.whole_schedule
    if done < warmup:
        return done / warmup
    progress = min(1.0, (done - warmup) / max(1, whole - warmup))
    if recipe.schedule == "cosine":
        return 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * progress))
    return 1 - progress if recipe.schedule == "linear" else 1.0


class ContinuedSchedule(TrainerCallback):  # type: ignore[misc]
    """Replaces the schedule of a Trainer by the recipe's where that began before the run or ends after it."""

    def __init__(self, recipe: PretrainingRecipe) -> None:
        self.recipe = recipe

    def on_train_begin(self, args: Any, state: Any, control: Any, lr_scheduler: Any = None, **kwargs: Any) -> None:
        """Set it, at the step where this run begins or goes on."""
        if self.recipe.whole_schedule == self.recipe.steps:
            return
        factor = partial(learning_rate_factor, self.recipe)
        lr_scheduler.lr_lambdas = [factor for _ in lr_scheduler.base_lrs]
        rates = [base * factor(state.global_step) for base in lr_scheduler.base_lrs]
        for group, rate in zip(lr_scheduler.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        lr_scheduler._last_lr = rates
