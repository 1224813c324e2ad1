"""Contrastive perplexity: paraphrases of one meaning, safe ones made likelier than toxic ones.

Klein & Nabi 2025, "Contrastive Perplexity for Controlled Generation: An Application in Detoxifying Large Language Models"
(arXiv 2401.08491). The loss is `detox.contrastive_loss.contrastive_perplexity_loss`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self, cast

from detox.contrastive_loss import FORMS, Form
from detox.data.contrasts import Contrast
from detox.detoxifiers import trained_weights, training_rows, weight_fits
from detox.detoxifiers.contract import Capabilities, Detoxifier, describe_fit, fit_digest
from detox.errors import InputError, require_known
from detox.models import LanguageModel
from detox.models.adapters import with_adapter
from detox.models.tokenization import encode_pairs, pad_token

PHIS = ("nll", "perplexity")
ANCHORS = ("none", "ce", "kl")
LEARN_FROM = ("both", "safe", "toxic")


@dataclass(kw_only=True)
class ContrastivePerplexity(Detoxifier):
    """LoRA trained on groups: a contrast is an anchor with its safe and its toxic paraphrases.

    Defaults are the paper's where it gives them: 2.2e-5 with a cosine, 2 groups x 3 accumulated, one epoch, up to 5 safe and 7 toxic
    paraphrases, alpha 1.0; the adapter (rank 64, alpha 16, dropout .1, on queries and values) is its code's. Ours are phi = mean
    nll (as in its code; the paper says perplexity), the signed form, and an anchor, because the paper's form makes a toxic text
    that is likelier than the prototype likelier still, and keeps nothing fluent.

    Attributes:
        form: "signed", or "paper" (its loss exactly).
        phi: what is compared: "nll" (mean over tokens, nats) or "perplexity".
        alpha: factor of the toxic similarities.
        anchor: what keeps safe text likely: "kl" (to the base, on safe tokens), "ce" (their cross-entropy), or "none" (the paper).
        anchor_weight: of the anchor, beside the contrast's 1.
        learn_from: which paraphrases the contrast's gradient reaches: "both", or for comparison "safe" or "toxic" only (the paper's
            ablations: from safe ones alone a model learns to copy, from toxic ones alone it degenerates). The anchor keeps its own.
        num_safe, num_toxic, num_random: P, N and R: paraphrases of a group that are used at most, and toxic ones of other anchors,
            drawn once.
        weights: "lora" (an adapter), or "full" (without the anchor "kl").
        lora_r, lora_alpha, lora_dropout, target_modules: of the adapter; see `SFT`.
        lora_args: further fields of PEFT's LoraConfig.
        learning_rate, epochs: of AdamW with a cosine schedule.
        batch_size: groups a step, over all processes and accumulated batches.
        sequences_at_once: sequences of one forward pass; they are sorted by length first.
        max_length: tokens of prompt and paraphrase; longer ones are cut at the end, which is counted.
        strength: the default dial, a factor of the adapter's scale.
        trainer_args: further fields of transformers' TrainingArguments, which win over these.
        seed: of the adapter's start, of the draw and of the order of groups.
        allow_base_mismatch: apply to another model than that of the fit; the record must say so.

    After `fit`:
        tensors_, config_: the adapter as PEFT keeps it; `config_` is None for full weights.
        record_: steps, groups, sequences cut, groups left out, learning curve (`nll_safe`, `nll_toxic`,
            `toxic_below_prototype`: the share of toxic paraphrases that are likelier than the prototype), `collapsed_at`.
    """

    form: str = "signed"
    phi: str = "nll"
    alpha: float = 1.0
    anchor: str = "kl"
    anchor_weight: float = 1.0
    learn_from: str = "both"
    num_safe: int = 5
    num_toxic: int = 7
    num_random: int = 0
    weights: str = "lora"
    lora_r: int = 64
    lora_alpha: float = 16.0
    lora_dropout: float = 0.1
    target_modules: str = "all-linear"
    lora_args: dict[str, Any] = field(default_factory=dict)
    learning_rate: float = 2.2e-5
    epochs: float = 1.0
    batch_size: int = 6
    sequences_at_once: int = 4
    max_length: int | None = 256
    strength: float = 1.0
    trainer_args: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    allow_base_mismatch: bool = False

    capabilities = Capabilities(needs_fit=True, bound_to_base=True, directional=True, exportable=True)
    came_later = ("learn_from",)

    def __post_init__(self) -> None:
        weight_fits.check_settings(self)
        for name, known in (("form", FORMS), ("phi", PHIS), ("anchor", ANCHORS), ("learn_from", LEARN_FROM)):
            require_known(f"ContrastivePerplexity {name}", getattr(self, name), known)
        if not self.alpha > 0 or not self.anchor_weight >= 0:
            raise InputError(
                f"ContrastivePerplexity: alpha is {self.alpha} and anchor_weight {self.anchor_weight}; expected above 0, and at least 0"
            )
        for name, least in (("num_safe", 1), ("num_toxic", 1), ("num_random", 0), ("sequences_at_once", 1)):
            if getattr(self, name) < least:
                raise InputError(f"ContrastivePerplexity: {name} is {getattr(self, name)}; expected at least {least}")
        if self.anchor == "kl" and self.weights == "full":
            raise InputError(
                "ContrastivePerplexity: the anchor 'kl' compares with the model without its adapter, and weights='full' has none; "
                "use 'ce'"
            )

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
        """Train on contrasts that have both sides; others are left out and counted.

        Raises:
            InputError: no contrast has both sides; see also `detox.detoxifiers.weight_fits.train`.
        """
        length = training_rows.max_length(self, lm)
        groups, counted = self._groups(lm, contrasts, length)
        evaluated = None if eval_contrasts is None else self._groups(lm, eval_contrasts, length)[0]

        def make(materials: weight_fits.Materials) -> Any:
            from transformers import TrainingArguments

            from detox.detoxifiers.group_trainer import GroupTrainer, collate

            ours = {key: value for key, value in materials.arguments.items() if key != "max_length"}
            more = {"lr_scheduler_type": "cosine", "remove_unused_columns": False, "label_names": []}
            model = materials.model
            if materials.peft_config is not None:
                model = with_adapter(model, materials.peft_config, seed=self.seed)
            return GroupTrainer(
                model, args=weight_fits.configured(TrainingArguments, {**more, **ours}), train_dataset=groups,
                eval_dataset=evaluated, data_collator=partial(collate, fill=pad_token(lm.tokenizer)), alpha=self.alpha,
                form=cast(Form, self.form), phi=self.phi, anchor=self.anchor, anchor_weight=self.anchor_weight, learn_from=self.learn_from,
                sequences_at_once=self.sequences_at_once,
            )  # fmt: skip

        learned = weight_fits.train(
            self, lm, make, data=fit_digest(contrasts, eval_contrasts), length=length, work_dir=work_dir, resume=resume
        )
        learned.record.update(counted)
        trained_weights.remember(self, learned)
        self.fitted_on_ = describe_fit(lm, contrasts)
        return self

    def _groups(
        self, lm: LanguageModel, contrasts: Sequence[Contrast], length: int
    ) -> tuple[list[dict[str, Any]], dict[str, int]]:
        """Token ids of each group, and what was counted on the way."""
        if training_rows.rows_of(contrasts, ()) is not None:
            raise InputError(
                "ContrastivePerplexity: got a Dataset; expected contrasts (`contrasts_from_preferences` makes them of pairs)"
            )
        whole = [one for one in contrasts if one.safe and one.toxic]
        if not whole:
            raise InputError(
                f"ContrastivePerplexity: none of {len(contrasts)} contrasts has a safe and a toxic paraphrase; expected at least one"
            )
        training_rows.require_plain(lm, "ContrastivePerplexity")
        pool = [(index, text) for index, one in enumerate(whole) for text in one.toxic] if self.num_random else []
        cut = 0
        groups = []
        for index, one in enumerate(whole):
            rng = random.Random(f"{self.seed}/{index}")
            safe, toxic = (
                _some(texts, most, rng) for texts, most in ((one.safe, self.num_safe), (one.toxic, self.num_toxic))
            )
            # More than needed is drawn, since some may be the group's own.
            drawn = rng.sample(pool, min(len(pool), self.num_random + len(one.toxic)))
            others = [text for owner, text in drawn if owner != index][: self.num_random]
            texts = [*safe, *toxic, *others]
            try:
                pairs = encode_pairs(lm, [one.prompt] * len(texts), texts)
            except InputError as error:
                raise InputError(f"contrast {one.id!r}: {error}") from error
            cut += sum(len(context) + len(continuation) > length for context, continuation in pairs)
            kept = [(context, continuation[: max(0, length - len(context))]) for context, continuation in pairs]
            sides = {
                "safe": [pair for pair in kept[: len(safe)] if pair[1]],
                "toxic": [pair for pair in kept[len(safe) :] if pair[1]],
            }
            if sides["safe"] and sides["toxic"]:
                groups.append(sides)
        if not groups:
            raise InputError(f"ContrastivePerplexity: every prompt alone has {length} tokens or more; raise max_length")
        return groups, {"examples": len(groups), "cut": cut, "left_out": len(contrasts) - len(groups)}


def _some(texts: Sequence[str], most: int, rng: random.Random) -> list[str]:
    """At most so many of the texts, in their order."""
    chosen = sorted(rng.sample(range(len(texts)), min(most, len(texts))))
    return [texts[index] for index in chosen]
