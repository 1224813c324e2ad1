"""What a base model is made by: every choice that makes another model, and nothing else."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from detox.errors import DataError, InputError, UnknownName, require_known
from detox.losses import DENOMINATORS, OBJECTIVES, Denominator, Objective
from detox.pretraining.architecture import FAMILIES, SIZES, build_model

Schedule = Literal["cosine", "linear", "constant"]
Precision = Literal["float32", "bf16"]

# From scratch only; a continued model brings its own.
_SCRATCH: dict[str, Any] = {
    "family": "olmo",
    "hidden_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "tie_word_embeddings": False,
}
# Fields that came after recipes had been recorded: left out of `to_dict` where they are at their default, so that what
# was recorded without them is still the same run.
_LATER = (
    "denominator",
    "architecture",
    "revision",
    "gradient_checkpointing",
    "schedule_start",
    "schedule_steps",
)


@dataclass(frozen=True, kw_only=True)
class PretrainingRecipe:
    """How to train one base model. The data is not part of it: the same recipe serves every mixture.

    Attributes:
        objective: "full", "masked" or "unlikelihood"; see `detox.losses.selective_loss`.
        unlikelihood_weight: factor of the unlikelihood sum, at least 0; the paper's is 1.
        steps: optimiser steps.
        batch_size: sequences a step.
        gradient_accumulation_steps: pieces a step is computed in, to save memory; divides batch_size. The result is the
            same but for rounding.
        sequence_length: tokens a sequence.
        learning_rate: the peak, after warm-up. AdamW.
        schedule: after warm-up: "cosine" down to a tenth of the peak (as OLMo), "linear" to zero, or "constant".
        warmup: steps of linear warm-up if 1 or more, part of all steps if below 1.
        weight_decay: on matrices, not on norms and biases.
        adam_beta1: decay of the first moment.
        adam_beta2: decay of the second moment.
        max_grad_norm: gradients are clipped to this norm.
        seed: of the initial weights and the order of sequences.
        precision: "float32", or "bf16": float32 weights under bf16 autocast, with the loss in float32.
        family: architecture, "olmo" (the default) or "olmo2".
        hidden_size: width; 128 by default.
        num_hidden_layers: layers; 4 by default.
        num_attention_heads: query heads; 8 by default.
        num_key_value_heads: key-value heads; as many as query heads by default.
        intermediate_size: width of the gated MLP; by default 8/3 of hidden_size, up to a multiple of 32.
        tie_word_embeddings: one matrix for embedding and output; False by default.
        max_position_embeddings: tokens the model is declared for, at least sequence_length, which is the default. What
            is beyond sequence_length is untrained.
        continue_from: a checkpoint to start from instead of random weights: a folder, or a model's id on the hub.
            Architecture and sizes are then the checkpoint's; those given must agree with it.
        denominator: what the summed loss of a step is divided by, see `SelectiveLossTrainer`: "shared", one count for
            all tokens with a loss (Wang et al. 2025, the paper's), or "per-kind", likelihood and unlikelihood each by
            their own.
        architecture: a published architecture to start from at random weights: a name that ships ("olmo-1b"), a
            folder with config.json, or a model's id on the hub. Sizes that are given must agree with it.
        revision: branch, tag or commit of what comes from the hub, or the start of one branch's name ("step737000").
        gradient_checkpointing: compute activations again in the backward pass instead of keeping them. The result is
            the same but for rounding.
        schedule_start: steps of the schedule that were taken before, by the checkpoint that is continued: the learning
            rate goes on from there.
        schedule_steps: steps of the whole schedule, those before included; by default schedule_start + steps.

    Raises:
        InputError: a value out of range, or values that exclude each other.
        UnknownName: no such objective, denominator, schedule, precision or family.
    """

    objective: Objective = "full"
    unlikelihood_weight: float = 1.0
    steps: int = 350
    batch_size: int = 32
    gradient_accumulation_steps: int = 1
    sequence_length: int = 96
    learning_rate: float = 3e-3
    schedule: Schedule = "cosine"
    warmup: float = 0.05
    weight_decay: float = 0.1
    adam_beta1: float = 0.9
    adam_beta2: float = 0.95
    max_grad_norm: float = 1.0
    seed: int = 0
    precision: Precision = "float32"
    family: str | None = None
    hidden_size: int | None = None
    num_hidden_layers: int | None = None
    num_attention_heads: int | None = None
    num_key_value_heads: int | None = None
    intermediate_size: int | None = None
    tie_word_embeddings: bool | None = None
    max_position_embeddings: int | None = None
    continue_from: str | None = None
    denominator: Denominator = "shared"
    architecture: str | None = None
    revision: str | None = None
    gradient_checkpointing: bool = False
    schedule_start: int = 0
    schedule_steps: int | None = None

    def __post_init__(self) -> None:
        self._check_types()
        for name, value, known in (
            ("objective", self.objective, OBJECTIVES),
            ("schedule", self.schedule, get_args(Schedule)),
            ("precision", self.precision, get_args(Precision)),
            ("denominator", self.denominator, DENOMINATORS),
        ):
            require_known(name, value, known)
        taken_over = self.continue_from is not None or self.architecture is not None
        if self.family is not None and self.family not in FAMILIES and not taken_over:
            raise UnknownName("family", self.family, FAMILIES)
        self._check_ranges()
        self._check_schedule()
        if self.continue_from is not None and self.architecture is not None:
            raise InputError(
                "continue_from and architecture are both given; a checkpoint brings its own, leave one out"
            )
        if self.revision is not None and not taken_over:
            raise InputError(f"revision is {self.revision!r} and there is no continue_from or architecture it is of")
        if not taken_over:
            self._check_heads()

    def sizes(self) -> dict[str, Any]:
        """Architecture and sizes of a model from scratch, with the defaults where the recipe has None."""
        sizes = {name: getattr(self, name) for name in SIZES}
        sizes |= {name: value for name, value in _SCRATCH.items() if sizes[name] is None}
        sizes["num_key_value_heads"] = sizes["num_key_value_heads"] or sizes["num_attention_heads"]
        sizes["intermediate_size"] = sizes["intermediate_size"] or -(-sizes["hidden_size"] * 8 // 3 // 32) * 32
        sizes["max_position_embeddings"] = sizes["max_position_embeddings"] or self.sequence_length
        return sizes

    def _check_schedule(self) -> None:
        whole = self.schedule_start + self.steps
        if self.schedule_steps is not None and self.schedule_steps < whole:
            raise InputError(
                f"schedule_steps is {self.schedule_steps}; expected at least schedule_start + steps, {whole}"
            )

    def _check_heads(self) -> None:
        sizes = self.sizes()
        heads, groups, width = sizes["num_attention_heads"], sizes["num_key_value_heads"], sizes["hidden_size"]
        if width % heads or heads % groups or (width // heads) % 2:
            raise InputError(
                f"hidden_size {width}, num_attention_heads {heads}, num_key_value_heads {groups}: expected an even "
                "width a head, and heads that are a multiple of key-value heads"
            )

    def _check_types(self) -> None:
        kinds: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "str": (str,), "bool": (bool,)}
        for field in fields(self):
            # Not field.type: transformers' argument parser replaces it.
            value, declared = getattr(self, field.name), str(self.__annotations__[field.name])
            expected, _, optional = declared.partition(" | ")
            allowed = kinds.get(expected, (str,))  # the choices, Objective and such, are names
            is_stray_bool = isinstance(value, bool) and bool not in allowed
            if not (value is None and optional) and (is_stray_bool or not isinstance(value, allowed)):
                hint = " (in YAML a number is written 1.0e-3)" if isinstance(value, str) else ""
                raise InputError(f"{field.name} is {value!r}; expected {declared}{hint}")

    def _check_ranges(self) -> None:
        counts = ("steps", "batch_size", "gradient_accumulation_steps", "learning_rate", "max_grad_norm")
        sizes = tuple(name for name in SIZES if name not in ("family", "tie_word_embeddings"))
        for name in (*counts, *sizes):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"{name} is {value}; expected more than 0")
        for name in ("unlikelihood_weight", "warmup", "weight_decay", "seed", "schedule_start"):
            if not getattr(self, name) >= 0:
                raise InputError(f"{name} is {getattr(self, name)}; expected at least 0")
        if self.sequence_length < 2:
            raise InputError(f"sequence_length is {self.sequence_length}; expected at least 2, a context and a target")
        if self.max_position_embeddings is not None and self.sequence_length > self.max_position_embeddings:
            raise InputError(
                f"sequence_length is {self.sequence_length} and the model has {self.max_position_embeddings} positions; "
                "expected no more"
            )
        if self.batch_size % self.gradient_accumulation_steps:
            raise InputError(
                f"batch_size {self.batch_size} is not a multiple of gradient_accumulation_steps "
                f"{self.gradient_accumulation_steps}; pieces of a step must be equal"
            )

    @property
    def warmup_steps(self) -> int:
        """Steps of linear warm-up, counted from the start of the schedule."""
        return round(self.warmup if self.warmup >= 1 else self.warmup * self.whole_schedule)

    @property
    def whole_schedule(self) -> int:
        """Steps of the whole schedule: those before this run, this run's, and what it leaves."""
        return self.schedule_steps or self.schedule_start + self.steps

    @property
    def tokens(self) -> int:
        """Tokens read in all steps."""
        return self.steps * self.batch_size * self.sequence_length

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as `from_dict` takes them.

        Fields that are newer than the first recorded recipes are left out where they are at their default.
        """
        defaults = {field.name: field.default for field in fields(self)}
        return {name: value for name, value in asdict(self).items() if name not in _LATER or value != defaults[name]}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> PretrainingRecipe:
        """The recipe with these fields; the others have their defaults.

        Raises:
            UnknownName: a field that there is not, with the nearest that there is.
        """
        known = [field.name for field in fields(cls)]
        for name in values:
            require_known("recipe field", name, known)
        return cls(**values)

    def to_json(self) -> str:
        """As JSON text."""
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_json(cls, text: str) -> PretrainingRecipe:
        """The recipe in this JSON text.

        Raises:
            DataError: not a JSON object.
            UnknownName: a field that there is not.
        """
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise DataError(f"recipe: line {error.lineno} is not JSON ({error.msg})") from error
        if not isinstance(values, dict):
            raise DataError(f"recipe: found {type(values).__name__}; expected a JSON object of fields")
        return cls.from_dict(values)

    def build_model(self, tokenizer: Any) -> Any:
        """The model as training starts; see `detox.pretraining.architecture.build_model`."""
        return build_model(self, tokenizer)
