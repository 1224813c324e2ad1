"""SFT, supervised finetuning: safe continuations are made likelier, by TRL's SFTTrainer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from detox.data.contrasts import Contrast
from detox.data.projections import sft_dataset
from detox.detoxifiers import trained_weights, training_rows, weight_fits
from detox.detoxifiers.contract import Capabilities, Detoxifier, describe_fit, fit_digest
from detox.errors import InputError, require_known
from detox.models import LanguageModel
from detox.models.tokenization import encode_pairs

END_TOKENS = ("none", "add")


@dataclass(kw_only=True)
class SFT(Detoxifier):
    """LoRA (or all weights) trained on safe continuations; prompts carry no loss.

    What SFT of the toxic-mix paper was trained on and how is not published; the defaults are LoRA's usual ones.

    Attributes:
        weights: "lora" (an adapter), or "full".
        lora_r, lora_alpha, lora_dropout, target_modules: of the adapter; "all-linear" is every linear layer but the output head
            (of attention alone, in models that keep all experts of a layer in one tensor), "q_proj,v_proj" those whose names end so.
        lora_args: further fields of PEFT's LoraConfig (use_dora, use_rslora, ...).
        learning_rate, epochs: of AdamW with TRL's schedule.
        batch_size: examples a step, over all processes and accumulated batches.
        end_token: of a contrast's continuation: "none" (text that goes on, as a base model writes) or "add" (a reply that ends, as
            a chat model gives; the model then learns to stop there). A dataset of TRL is taken as TRL takes it, which adds it.
        max_length: tokens; longer examples are cut at the end, which is counted. None for the model's context, 1024 at most.
        strength: the default dial, a factor of the adapter's scale.
        trainer_args: further fields of TRL's SFTConfig, which win over these.
        seed: of the adapter's start and of the order of examples.
        allow_base_mismatch: apply to another model than that of the fit; the record must say so.

    After `fit`:
        tensors_, config_: the adapter as PEFT keeps it; `config_` is None for full weights.
        record_: steps, examples, examples cut, learning curve.
    """

    weights: str = "lora"
    lora_r: int = 16
    lora_alpha: float = 32.0
    lora_dropout: float = 0.0
    target_modules: str = "all-linear"
    lora_args: dict[str, Any] = field(default_factory=dict)
    learning_rate: float = 2e-4
    epochs: float = 1.0
    batch_size: int = 16
    end_token: str = "none"
    max_length: int | None = None
    strength: float = 1.0
    trainer_args: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    allow_base_mismatch: bool = False

    capabilities = Capabilities(needs_fit=True, bound_to_base=True, directional=True, exportable=True)

    def __post_init__(self) -> None:
        weight_fits.check_settings(self)
        require_known("SFT end_token", self.end_token, END_TOKENS)

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
        """Train on the safe continuations of `contrasts`, or on a dataset of TRL (prompt-completion, or language modelling).

        Raises:
            InputError: no safe continuation; see also `detox.detoxifiers.weight_fits.train`.
        """
        from trl import SFTConfig, SFTTrainer

        length = training_rows.max_length(self, lm)
        rows, counted = self._rows(lm, contrasts, length)
        evaluated = None if eval_contrasts is None else self._rows(lm, eval_contrasts, length)[0]

        def make(materials: weight_fits.Materials) -> Any:
            arguments = weight_fits.configured(SFTConfig, materials.arguments)
            return SFTTrainer(
                materials.model, args=arguments, train_dataset=rows, eval_dataset=evaluated,
                processing_class=materials.tokenizer, peft_config=materials.peft_config,
            )  # fmt: skip

        learned = weight_fits.train(
            self, lm, make, data=fit_digest(contrasts, eval_contrasts), length=length, work_dir=work_dir, resume=resume
        )
        learned.record.update(examples=len(rows), **counted)
        trained_weights.remember(self, learned)
        self.fitted_on_ = describe_fit(lm, contrasts)
        return self

    def _rows(self, lm: LanguageModel, contrasts: Any, length: int) -> tuple[Any, dict[str, int | None]]:
        """A dataset for SFTTrainer, and what was counted on the way."""
        from datasets import Dataset

        rows = training_rows.rows_of(contrasts, ())
        if rows is not None:
            return rows, {
                "cut": training_rows.longer(rows, lm.tokenizer, length, (("prompt", "completion"), ("text",)))
            }
        training_rows.require_plain(lm, "SFT")
        plain = sft_dataset(contrasts)
        end = [lm.tokenizer.eos_token_id] if self.end_token == "add" else []
        if end == [None]:
            raise InputError("SFT: end_token is 'add', and the tokenizer has no end token; use 'none'")
        pairs = encode_pairs(lm, plain["prompt"], plain["completion"])  # as the rulers put them together
        columns: dict[str, list[list[int]]] = {"input_ids": [], "labels": []}
        whole = [(context, [*continuation, *end]) for context, continuation in pairs if len(context) < length]
        if not whole:
            raise InputError(f"SFT: every prompt has {length} tokens or more; raise max_length")
        for context, continuation in whole:
            columns["input_ids"].append([*context, *continuation])
            columns["labels"].append([-100] * len(context) + continuation)
        cut = sum(len(ids) > length for ids in columns["input_ids"])
        return Dataset.from_dict(columns), {"cut": cut, "left_out": len(pairs) - len(whole)}
