"""A Trainer over groups of paraphrases: likelihoods of whole sequences, length-sorted, without their logits."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import Trainer

from detox.contrastive_loss import Form, contrastive_perplexity_loss, prototypes
from detox.fused_loss import fused_token_nll
from detox.losses import IGNORE_INDEX, reduction_dtype
from detox.models.running import evaluating
from detox.training.fused_head import replaced_forward, why_not_fused
from detox.training.processes import summed

logger = logging.getLogger(__name__)

_ROWS = 256  # of logits, where the distance to the base is computed
COLLAPSE = 2.0  # nats a token by which safe text may become less likely before an alarm


def collate(groups: Sequence[Mapping[str, Any]], *, fill: int) -> dict[str, Tensor]:
    """Groups of (context, continuation) ids, padded on the right.

    Returns:
        `input_ids`, `attention_mask` and `targets` (sequences, longest), targets already shifted and -100 outside of continuations;
        `group` and `toxic` (sequences,).
    """
    rows, of_group, toxic = [], [], []
    for index, group in enumerate(groups):
        for side in ("safe", "toxic"):
            rows += group[side]
            of_group += [index] * len(group[side])
            toxic += [side == "toxic"] * len(group[side])
    longest = max(len(context) + len(continuation) for context, continuation in rows)
    ids = torch.full((len(rows), longest), fill, dtype=torch.long)
    mask = torch.zeros_like(ids)
    targets = torch.full_like(ids, IGNORE_INDEX)
    for index, (context, continuation) in enumerate(rows):
        whole = [*context, *continuation]
        ids[index, : len(whole)] = torch.tensor(whole)
        mask[index, : len(whole)] = 1
        targets[index, len(context) - 1 : len(whole) - 1] = torch.tensor(continuation)
    return {
        "input_ids": ids, "attention_mask": mask, "targets": targets, "group": torch.tensor(of_group), "toxic": torch.tensor(toxic),
    }  # fmt: skip


def collapse(history: Sequence[Mapping[str, Any]]) -> tuple[float, int] | None:
    """What safe text cost at the start, in nats per token, and the step at which it cost `COLLAPSE` more; None where it never did."""
    known = [(entry["nll_safe"], entry["step"]) for entry in history if "nll_safe" in entry]
    return next(((known[0][0], step) for nll, step in known if nll > known[0][0] + COLLAPSE), None)


class GroupTrainer(Trainer):  # type: ignore[misc]
    """Contrastive perplexity of groups, and an anchor on their safe side."""

    def __init__(
        self,
        *args: Any,
        alpha: float,
        form: Form,
        phi: str,
        anchor: str,
        anchor_weight: float,
        sequences_at_once: int,
        learn_from: str = "both",
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.alpha, self.form, self.phi = alpha, form, phi
        self.anchor, self.anchor_weight, self.learn_from = anchor, anchor_weight, learn_from
        self.sequences_at_once = sequences_at_once
        self.model_accepts_loss_kwargs = False  # the loss is a mean over groups: accumulated batches are averaged
        self.sums: dict[str, list[float]] = defaultdict(list)
        self._fused: bool | None = None

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """-log J of each group, mean over groups, and the anchor."""
        nll, counts, distance = self._sequences(model, inputs)
        if not bool(torch.isfinite(nll.detach()).all()):
            return nll.sum()  # whoever trains sees that it is no number, and stops
        phi = (nll / counts).exp() if self.phi == "perplexity" else nll / counts
        sides = [self._grid(phi, inputs["group"], inputs["toxic"] == side) for side in (False, True)]
        (safe, safe_mask), (toxic, toxic_mask) = sides
        if self.learn_from == "safe":
            toxic = toxic.detach()
        elif self.learn_from == "toxic":
            safe = safe.detach()
        contrast = contrastive_perplexity_loss(safe, toxic, safe_mask, toxic_mask, alpha=self.alpha, form=self.form)
        loss = contrast
        if self.anchor != "none":
            # Of each group, then over groups, as the contrast is: otherwise the loss would hang on how a batch is split.
            sums, _ = self._grid(nll if self.anchor == "ce" else distance, inputs["group"], ~inputs["toxic"])
            tokens, _ = self._grid(counts, inputs["group"], ~inputs["toxic"])
            loss = loss + self.anchor_weight * (sums.sum(-1) / tokens.sum(-1)).mean()
        if model.training:
            self._note(nll.detach(), counts, safe, safe_mask, toxic, toxic_mask, contrast, inputs["toxic"])
        return (loss, {"loss": loss}) if return_outputs else loss

    def prediction_step(self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: Any = None) -> Any:
        """The loss of held-out groups; there are no logits to return."""
        with torch.no_grad():
            return self.compute_loss(model, self._prepare_inputs(inputs)).detach(), None, None

    def _sequences(self, model: Any, inputs: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        """(sequences,) nll in nats, tokens, and KL of the base from the model in nats (0 where it is not asked for)."""
        lengths = inputs["attention_mask"].sum(-1)
        order = torch.argsort(lengths, stable=True)
        found: list[Tensor] = []
        for part in torch.split(order, self.sequences_at_once):
            width = int(lengths[part].max())
            batch = {name: inputs[name][part, :width] for name in ("input_ids", "attention_mask")}
            safe = ~inputs["toxic"][part]
            found.append(
                self._pieces(model, batch, inputs["targets"][part, :width], safe if self.anchor == "kl" else None)
            )
        both = torch.cat(found)[torch.argsort(order)]
        return both[:, 0], (inputs["targets"] != IGNORE_INDEX).sum(-1), both[:, 1]

    def _pieces(self, model: Any, batch: dict[str, Tensor], targets: Tensor, safe: Tensor | None) -> Tensor:
        """(sequences, 2) sums of nll and of KL, from the head and not from logits where the head allows it."""
        head = self.accelerator.unwrap_model(model).get_output_embeddings()
        if self._fused is None:
            reason = why_not_fused(model, head, batch)
            self._fused = reason is None
            if reason is not None:
                logger.warning("the likelihoods are computed from whole logits: %s", reason)
        base = None
        if safe is not None and bool(safe.any()):
            with torch.no_grad(), self._without_adapter(model), evaluating(model):
                base = self._outputs(model, head, batch, (lambda hidden: hidden) if self._fused else None)
        wanted = targets.masked_fill(~safe[:, None], IGNORE_INDEX) if safe is not None else targets

        def read(states: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
            if weight is None:
                flat = torch.nn.functional.cross_entropy(
                    states.to(reduction_dtype(states.dtype)).flatten(0, 1),
                    targets.flatten(),
                    ignore_index=IGNORE_INDEX,
                    reduction="none",
                )
                nll = flat.reshape(targets.shape)
            else:
                nll = fused_token_nll(states, weight, targets, bias=bias)
            apart = torch.zeros_like(nll) if base is None else _divergence(base, states, weight, bias, wanted)
            return torch.stack([nll, apart], -1)

        if self._fused:
            tokens = self._outputs(model, head, batch, lambda hidden: read(hidden, head.weight, head.bias))
        else:
            tokens = read(self._outputs(model, head, batch, None), None, None)
        return tokens.sum(1)

    def _outputs(
        self, model: Any, head: Any, batch: dict[str, Tensor], forward: Callable[[Tensor], Tensor] | None
    ) -> Tensor:
        replaced: AbstractContextManager[None] = nullcontext() if forward is None else replaced_forward(head, forward)
        with replaced:
            logits: Tensor = model(**batch, use_cache=False).logits
        return logits

    def _without_adapter(self, model: Any) -> AbstractContextManager[None]:
        found: AbstractContextManager[None] = self.accelerator.unwrap_model(model).disable_adapter()
        return found

    def _grid(self, values: Tensor, group: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Values of one side as (groups, most) with a mask."""
        groups = int(group.max()) + 1
        rows = [values[chosen & (group == index)] for index in range(groups)]
        most = max(1, *(len(row) for row in rows))
        mask = torch.zeros(groups, most, dtype=torch.bool, device=values.device)
        for index, row in enumerate(rows):
            mask[index, : len(row)] = True
        grid = torch.stack([torch.cat([row, row.new_zeros(most - len(row))]) for row in rows])
        return grid, mask

    def _note(
        self, nll: Tensor, counts: Tensor, safe: Tensor, safe_mask: Tensor, toxic: Tensor, toxic_mask: Tensor, contrast: Tensor,
        is_toxic: Tensor,
    ) -> None:  # fmt: skip
        below = (toxic < prototypes(safe, safe_mask)[:, None]) & toxic_mask
        noted = {
            "contrast": contrast.detach(),
            "nll_safe": nll[~is_toxic].sum() / counts[~is_toxic].sum(),
            "nll_toxic": nll[is_toxic].sum() / counts[is_toxic].sum().clamp(min=1),
            "toxic_below_prototype": below.sum() / toxic_mask.sum().clamp(min=1),
        }
        for name, value in noted.items():
            self.sums[name].append(float(value))

    def facts(self) -> dict[str, Any]:
        """What the record says besides the curve."""
        fell = collapse(self.state.log_history)
        return {"collapsed_at": None if fell is None else fell[1]}

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Add what the steps since the last entry saw, on all processes; raise the alarm where safe text was forgotten."""
        if "loss" in logs and self.sums:
            batches = len(next(iter(self.sums.values())))
            noted = torch.tensor([*map(sum, self.sums.values()), batches])
            *totals, batches = summed(noted.to(self.accelerator.device)).tolist()
            logs.update({name: total / batches for name, total in zip(self.sums, totals, strict=True)})
            self.sums.clear()
            found = collapse([*self.state.log_history, {**logs, "step": self.state.global_step}])
            if found is not None and found[1] == self.state.global_step:
                logger.warning(
                    "contrastive perplexity: safe text costs %.2f nats a token at step %d and cost %.2f at the start; the model is "
                    "losing language, use an anchor or a lower learning_rate",
                    logs["nll_safe"], found[1], found[0],
                )  # fmt: skip
        super().log(logs, *args, **kwargs)


def _divergence(base: Tensor, states: Tensor, weight: Tensor | None, bias: Tensor | None, targets: Tensor) -> Tensor:
    """KL(base || model) of every token that has a target, in nats; of hidden states, or of logits where there is no weight."""
    present = (targets != IGNORE_INDEX).flatten().nonzero().squeeze(-1)
    of_base, of_model = base.flatten(0, 1)[present], states.flatten(0, 1)[present]

    def piece(mine: Tensor, theirs: Tensor) -> Tensor:
        if weight is not None:
            mine, theirs = (torch.nn.functional.linear(one, weight, bias) for one in (mine, theirs))
        logs, reference = (one.to(reduction_dtype(one.dtype)).log_softmax(-1) for one in (mine, theirs))
        return (reference.exp() * (reference - logs)).sum(-1)

    parts = [
        checkpoint(piece, mine, theirs, use_reentrant=False)
        for mine, theirs in zip(torch.split(of_model, _ROWS), torch.split(of_base, _ROWS), strict=True)
    ]
    values = torch.cat(parts) if parts else of_model.new_zeros(0)
    flat = values.new_zeros(targets.numel()).index_put((present,), values)
    return flat.reshape(targets.shape)
