"""transformers' Trainer with another loss."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from transformers import Trainer

from detox.errors import InputError
from detox.losses import IGNORE_INDEX, LossSum, Objective, loss_positions, selective_loss


def collate(examples: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Sequences of one length, `{"input_ids", "labels", "risk"}` each, as a batch of tensors."""
    return {name: torch.stack([torch.as_tensor(example[name]) for example in examples]) for name in examples[0]}


class SelectiveLossTrainer(Trainer):  # type: ignore[misc]
    """A `transformers.Trainer` whose only difference is the loss, `detox.losses.selective_loss`.

    A batch holds `input_ids` and `labels` (batch, seq), unshifted as everywhere in transformers, and `risk` (batch,
    seq) bool, aligned with the labels; what else it holds goes to the model. The sums of a step are divided once, by
    the tokens that carry a loss in all of its batches on all processes, so that gradient accumulation and data
    parallelism change nothing. `TrainingArguments` must have `remove_unused_columns=False`, or `risk` never arrives.

    Each logged entry has, next to `loss`, what the arms had since the last: `likelihood` and `unlikelihood` in nats per
    token (absent where there were no such tokens; unlikelihood without its weight) and `likelihood_tokens`,
    `unlikelihood_tokens`.

    Args:
        objective: "full", "masked" or "unlikelihood".
        unlikelihood_weight: factor of the unlikelihood.
        *args: as for `transformers.Trainer`.
        **kwargs: as for `transformers.Trainer`.
    """

    loss_is_scaled_for_ga = True

    def __init__(
        self, *args: Any, objective: Objective = "full", unlikelihood_weight: float = 1.0, **kwargs: Any
    ) -> None:
        self.objective: Objective = objective
        self.unlikelihood_weight = unlikelihood_weight
        self._since_logged: LossSum | None = None
        kwargs.setdefault("data_collator", collate)
        super().__init__(*args, **kwargs)
        self.model_accepts_loss_kwargs = True  # older than `loss_is_scaled_for_ga`, and says the same
        if self.args.remove_unused_columns:
            raise InputError(
                "TrainingArguments has remove_unused_columns=True, which drops the risk labels; set it to False"
            )

    def get_batch_samples(
        self, epoch_iterator: Iterator[dict[str, Tensor]], num_batches: int, device: torch.device
    ) -> tuple[list[dict[str, Tensor]], Tensor | None]:
        """The batches of one step, and the tokens that carry a loss in them on all processes."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        if not batches:
            return batches, None
        masks = [loss_positions(*_targets(batch), self.objective) for batch in batches]
        count = torch.stack([likely.sum() + unlikely.sum() for likely, unlikely in masks]).sum().to(device)
        return batches, self.accelerator.gather(count).sum() if self.args.world_size > 1 else count

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, Any]:
        """The batch's loss divided by the tokens of the whole step, or by its own when evaluating."""
        targets, risk = _targets(inputs)
        outputs = model(**{name: value for name, value in inputs.items() if name not in ("labels", "risk")})
        sums = selective_loss(
            outputs.logits, targets, risk, self.objective, unlikelihood_weight=self.unlikelihood_weight
        )
        if num_items_in_batch is None:
            loss = sums.total / sums.count.clamp(min=1)
        else:
            # Data parallelism averages the gradients of the processes; what is wanted is their sum.
            loss = sums.total * self.accelerator.num_processes / torch.as_tensor(num_items_in_batch).clamp(min=1)
        if model.training:
            self._since_logged = sums.detach() + self._since_logged if self._since_logged else sums.detach()
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the arms' losses since the last entry."""
        if "loss" in logs and self._since_logged is not None:
            for arm in ("likelihood", "unlikelihood"):
                nats, tokens = getattr(self._since_logged, arm), getattr(self._since_logged, f"{arm}_count")
                if self.args.world_size > 1:
                    nats, tokens = (self.accelerator.reduce(value, reduction="sum") for value in (nats, tokens))
                logs |= {f"{arm}_tokens": int(tokens)} | ({arm: float(nats / tokens)} if tokens else {})
            self._since_logged = None
        super().log(logs, start_time)


def _targets(batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Targets and risk, shifted to the logits that predict them; the last logits of a sequence predict nothing."""
    if "risk" not in batch or "labels" not in batch:
        raise InputError(
            f"a batch has {', '.join(batch)}; expected input_ids, labels and risk (remove_unused_columns=False)"
        )
    targets = torch.nn.functional.pad(batch["labels"][..., 1:], (0, 1), value=IGNORE_INDEX)
    return targets, torch.nn.functional.pad(batch["risk"][..., 1:], (0, 1), value=False)
