"""DPO, direct preference optimisation: safe continuations preferred to toxic ones, by TRL's DPOTrainer; and its relatives.

Rafailov et al. 2023 (arXiv 2305.18290). The reference is the same model with the adapter off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from detox.data.contrasts import Contrast
from detox.data.projections import kto_dataset, preference_dataset
from detox.detoxifiers import trained_weights, training_rows, weight_fits
from detox.detoxifiers.contract import Capabilities, Detoxifier, describe_fit, fit_digest
from detox.errors import DataError, InputError
from detox.models import LanguageModel
from detox.training.processes import process_count

_PAIRS, _UNPAIRED = ("chosen", "rejected"), ("completion", "label")


@dataclass(kw_only=True)
class DPO(Detoxifier):
    """LoRA (or all weights) trained on preferences of safe over toxic continuations.

    Defaults are those of DPO on toxicity pairs with LoRA (Li et al. 2024, arXiv 2406.16235; code: BatsResearch/cross-lingual-detox):
    beta .1, RMSprop at 1e-5, 4 pairs a step, 5 epochs, 150 steps of warm-up, weight decay .05, LoRA of rank 64 and alpha 16, 256
    tokens. Lee et al. 2024 (arXiv 2401.01967) train all weights of GPT-2 medium at 1e-6. Small models want more.

    Attributes:
        loss: a `loss_type` of TRL's DPOConfig ("sigmoid" is DPO; "ipo", "hinge", ...), "kto" (KTOTrainer, on unpaired labels) or
            "simpo" (TRL's CPOTrainer, which has no reference).
        beta: how close to the reference the model is kept; SimPO, which has none, wants 2.0 to 2.5 (arXiv 2405.14734).
        pairing: "all" pairs each safe with each toxic continuation of a contrast, "zip" the first with the first, and so on.
        weights: "lora" (an adapter), or "full".
        lora_r, lora_alpha, lora_dropout, target_modules: of the adapter; "all-linear" is every linear layer but the output head
            (of attention alone, in models that keep all experts of a layer in one tensor), "q_proj,v_proj" those whose names end so.
            TRL's DPO turns dropout off unless told otherwise (trainer_args={"disable_dropout": False}).
        lora_args: further fields of PEFT's LoraConfig (use_dora, use_rslora, ...).
        optimizer, learning_rate, warmup_steps, weight_decay, epochs: of the training.
        batch_size: pairs a step, over all processes and accumulated batches.
        max_length: tokens of prompt and continuation; longer ones are cut at the end, which is counted; never more
            than the model's context.
        strength: the default dial, a factor of the adapter's scale.
        trainer_args: further fields of TRL's configuration (precompute_ref_log_probs, label_smoothing, ...), which win over these.
        seed: of the adapter's start and of the order of pairs.
        allow_base_mismatch: apply to another model than that of the fit; the record must say so.

    TRL ends every continuation with the end token, chosen and rejected alike.

    After `fit`:
        tensors_, config_: the adapter as PEFT keeps it; `config_` is None for full weights.
        record_: steps, pairs, pairs cut, pairs left out because their prompt alone fills the length, learning curve.
    """

    loss: str = "sigmoid"
    beta: float = 0.1
    pairing: str = "all"
    weights: str = "lora"
    lora_r: int = 64
    lora_alpha: float = 16.0
    lora_dropout: float = 0.05
    target_modules: str = "all-linear"
    lora_args: dict[str, Any] = field(default_factory=dict)
    optimizer: str = "rmsprop"
    learning_rate: float = 1e-5
    warmup_steps: int = 150
    weight_decay: float = 0.05
    epochs: float = 5.0
    batch_size: int = 4
    max_length: int | None = 256
    strength: float = 1.0
    trainer_args: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    allow_base_mismatch: bool = False

    capabilities = Capabilities(needs_fit=True, bound_to_base=True, directional=True, exportable=True)

    def __post_init__(self) -> None:
        weight_fits.check_settings(self)
        if not self.beta > 0:
            raise InputError(f"DPO: beta is {self.beta}; expected a number above 0")

    # What every weight method does alike: one function each, no tower of classes.
    applied = trained_weights.applied
    state = trained_weights.state
    files = trained_weights.files
    restore = trained_weights.restore

    @property
    def default_strength(self) -> float:
        """The `strength` field."""
        return self.strength

    def fit(
        self,
        lm: LanguageModel,
        contrasts: Sequence[Contrast],
        *,
        eval_contrasts: Sequence[Contrast] | None = None,
        work_dir: str | Path | None = None,
        resume: str = "auto",
    ) -> Self:
        """Train on preferences: contrasts with both sides, or a dataset of TRL (`chosen`, `rejected`; for KTO `completion`, `label`).

        Raises:
            InputError: no contrast has both sides, or a column is missing; see also `detox.detoxifiers.weight_fits.train`.
            DataError: a row prefers a text to itself, or holds an empty continuation.
        """
        length = training_rows.max_length(self, lm)
        rows, left_out = self._rows(lm, contrasts, length)
        evaluated = None if eval_contrasts is None else self._rows(lm, eval_contrasts, length)[0]

        def make(materials: weight_fits.Materials) -> Any:
            config_class, trainer_class, extra = self._trainer()
            ours = {
                "beta": self.beta, "optim": self.optimizer, "warmup_steps": self.warmup_steps,
                "weight_decay": self.weight_decay, "lr_scheduler_type": "constant_with_warmup",
                **extra, **self._reference_once(rows),
            }  # fmt: skip
            arguments = weight_fits.configured(config_class, {**ours, **materials.arguments})
            return trainer_class(
                materials.model, args=arguments, train_dataset=rows, eval_dataset=evaluated,
                processing_class=materials.tokenizer, peft_config=materials.peft_config,
                **({} if self.loss == "simpo" or materials.reference is None else {"ref_model": materials.reference}),
            )  # fmt: skip

        learned = weight_fits.train(
            self, lm, make, data=fit_digest(contrasts, eval_contrasts), length=length, work_dir=work_dir, resume=resume
        )
        kinds = (("prompt", "chosen"), ("prompt", "rejected"), ("prompt", "completion"))
        learned.record.update(
            examples=len(rows), left_out=left_out, cut=training_rows.longer(rows, lm.tokenizer, length, kinds)
        )
        trained_weights.remember(self, learned)
        self.fitted_on_ = describe_fit(lm, contrasts)
        return self

    def _rows(self, lm: LanguageModel, contrasts: Any, length: int) -> tuple[Any, int]:
        """A dataset for the trainer, and how many rows are left out because their prompt alone fills the length."""
        columns = _UNPAIRED if self.loss == "kto" else _PAIRS
        rows = training_rows.rows_of(contrasts, columns)
        if rows is None:
            training_rows.require_plain(lm, "DPO")
            made = kto_dataset(contrasts) if self.loss == "kto" else preference_dataset(contrasts, pairing=self.pairing)
            begun = training_rows.fitting(training_rows.prefixed(made, lm.prefix), lm.tokenizer, length)
            return begun, len(made) - len(begun)
        for number, row in enumerate(rows):
            held = [row[column] for column in columns if column != "label"]
            if not all(held):
                raise DataError(f"row {number}: an empty continuation; expected text in {' and '.join(columns)}")
            if len(held) == 2 and held[0] == held[1]:
                raise DataError(f"row {number}: chosen and rejected are the same; leave the row out")
        return rows, 0

    def _reference_once(self, rows: Any) -> dict[str, bool]:
        """Compute the reference's likelihoods before training, where rows come again and it would be asked again."""
        from datasets import IterableDataset

        given = self.trainer_args
        # TRL keeps them in a file of the first process, which the others do not find where the rows are in memory.
        again = self.epochs > 1 and int(given.get("max_steps", -1)) <= 0 and process_count() == 1
        if self.loss == "simpo" or isinstance(rows, IterableDataset) or given.get("sync_ref_model"):
            return {}
        return {"precompute_ref_log_probs": again}

    def _trainer(self) -> tuple[type, type, dict[str, Any]]:
        """TRL's configuration and trainer for the loss, and what the loss is called there."""
        if self.loss == "kto":
            from trl import KTOConfig, KTOTrainer

            return KTOConfig, KTOTrainer, {}
        if self.loss == "simpo":
            from trl.experimental.cpo import CPOConfig, CPOTrainer

            return CPOConfig, CPOTrainer, {"loss_type": "simpo", "cpo_alpha": 0.0}
        from trl import DPOConfig, DPOTrainer

        return DPOConfig, DPOTrainer, {"loss_type": self.loss}
