"""transformers' Trainer with another loss."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from transformers import Trainer

from detox.errors import InputError, require_known
from detox.losses import (
    DENOMINATORS,
    IGNORE_INDEX,
    OBJECTIVES,
    Denominator,
    LossSum,
    Objective,
    loss_positions,
    selective_loss,
    step_scales,
)
from detox.training.fused_head import fused_head, why_not_fused


def collate(examples: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Sequences of one length, `{"input_ids", "labels", "risk"}` each, as a batch of tensors."""
    return {name: torch.stack([torch.as_tensor(example[name]) for example in examples]) for name in examples[0]}


class SelectiveLossTrainer(Trainer):  # type: ignore[misc]
    """A `transformers.Trainer` whose only difference is the loss, that of `detox.losses.selective_loss`.

    A batch holds `input_ids` and `labels` (batch, seq), unshifted as everywhere in transformers, and `risk` (batch,
    seq) bool, aligned with the labels; what else it holds goes to the model. Tokens without any loss have the label
    -100. The sums of a step are divided once, by the tokens that carry a loss in all of its batches on all processes,
    so that gradient accumulation and data parallelism change nothing. `TrainingArguments` must have
    `remove_unused_columns=False`, or `risk` never arrives.

    Where the model's logits are what a plain linear head puts out, the head computes the loss itself and the logits
    never exist whole (`detox.fused_loss`): less memory and time, the same gradients. The first batch decides.

    Each logged entry has, next to `loss`, what the arms had since the last: `likelihood` and `unlikelihood` in nats per
    token (absent where there were no such tokens; unlikelihood without its weight) and `likelihood_tokens`,
    `unlikelihood_tokens`.

    Args:
        *args: as for `transformers.Trainer`.
        objective: "full", "masked" or "unlikelihood".
        unlikelihood_weight: factor of the unlikelihood.
        denominator: "shared" divides both sums by all tokens that carry a loss, as the paper does; "per-kind" divides
            likelihood and unlikelihood by their own tokens; see `detox.losses.step_scales`.
        fused: False always computes logits; True refuses a model or a setting for which the loss cannot be computed in
            the head; None does so where it can.
        **kwargs: as for `transformers.Trainer`.

    Raises:
        UnknownName: no such objective or denominator.
        InputError: `remove_unused_columns` is True; or, at the first batch, `risk` or labels are missing, or
            `fused=True` is impossible.
    """

    loss_is_scaled_for_ga = True

    def __init__(
        self,
        *args: Any,
        objective: Objective = "full",
        unlikelihood_weight: float = 1.0,
        denominator: Denominator = "shared",
        fused: bool | None = None,
        **kwargs: Any,
    ) -> None:
        for what, name, known in (("objective", objective, OBJECTIVES), ("denominator", denominator, DENOMINATORS)):
            require_known(what, name, known)
        self.objective: Objective = objective
        self.unlikelihood_weight = unlikelihood_weight
        self.denominator: Denominator = denominator
        self.fused = fused
        self._tried: tuple[Any, bool] | None = None  # an output head, and whether it can compute the loss
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
        """The batches of one step, and (2,) tokens of likelihood and unlikelihood in them on all processes."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        if not batches:
            return batches, None
        counts = torch.stack([self._counts(*_targets(batch)) for batch in batches]).sum(0).to(device)
        return batches, self.accelerator.reduce(counts, reduction="sum") if self.args.world_size > 1 else counts

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, Any]:
        """The batch's share of the step's loss; when evaluating, the loss of the batch alone."""
        targets, risk = _targets(inputs)
        given = {name: value for name, value in inputs.items() if name not in ("labels", "risk")}
        # When evaluating, transformers passes a count of its own, which knows no risk.
        of_step = num_items_in_batch if model.training and isinstance(num_items_in_batch, Tensor) else None
        counts = self._counts(targets, risk) if of_step is None else of_step
        likelihood, unlikelihood = step_scales(
            *counts.unbind(), denominator=self.denominator, unlikelihood_weight=self.unlikelihood_weight
        )
        if of_step is not None:
            # Data parallelism averages the gradients of the processes; what is wanted is their sum.
            likelihood, unlikelihood = (x * self.accelerator.num_processes for x in (likelihood, unlikelihood))
        if not return_outputs and self._fuses(model, given):
            head = self.accelerator.unwrap_model(model).get_output_embeddings()
            with fused_head(head, targets, risk, self.objective, scales=(likelihood, unlikelihood)) as found:
                outputs = model(**given)
            (sums,) = found
            carrier = outputs.logits.reshape(()).to(sums.total.dtype)
            loss = carrier + (sums.total - carrier).detach()  # a wrapper may have cast it to bfloat16
        else:
            outputs = model(**given)
            sums = selective_loss(outputs.logits, targets, risk, self.objective)
            loss = likelihood * sums.likelihood + unlikelihood * sums.unlikelihood
        if model.training:
            self._since_logged = sums.detach() + self._since_logged if self._since_logged else sums.detach()
        return (loss, outputs) if return_outputs else loss

    def prediction_step(
        self,
        model: Any,
        inputs: dict[str, Tensor],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[Tensor | None, Any, Any]:
        """As transformers' own, without the logits where nobody asks for them."""
        if not prediction_loss_only:
            found: tuple[Tensor | None, Any, Any] = super().prediction_step(model, inputs, False, ignore_keys)
            return found
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            loss = self.compute_loss(model, inputs)
        assert isinstance(loss, Tensor)
        return loss.detach(), None, None

    def _counts(self, targets: Tensor, risk: Tensor) -> Tensor:
        """(2,): tokens of the likelihood and of the unlikelihood."""
        return torch.stack([mask.sum() for mask in loss_positions(targets, risk, self.objective)])

    def _fuses(self, model: Any, given: dict[str, Tensor]) -> bool:
        """Whether the head computes the loss, decided once for a head; every process decides alike."""
        if self.fused is False:
            return False
        plain = self.accelerator.unwrap_model(model)
        head = plain.get_output_embeddings() if hasattr(plain, "get_output_embeddings") else None
        if self._tried is None or self._tried[0] is not head:
            if self.args.n_gpu > 1:
                reason: str | None = (
                    "DataParallel splits the batch behind the trainer's back; launch a process a device"
                )
            elif self.args.torch_compile:
                reason = "it is compiled (torch_compile=True)"
            elif self.args.fp16:
                reason = "float16 scales the loss after its gradients are made; use bf16"
            else:
                reason = why_not_fused(model, head, given)
            if reason is not None and self.fused:
                raise InputError(f"fused=True, but {type(plain).__name__} cannot: {reason}; leave fused at None")
            self._tried = (head, reason is None)
        return self._tried[1]

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
