"""What a base model is made by: every choice that makes another model, and nothing else."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from detox.errors import DataError, InputError, UnknownName
from detox.losses import OBJECTIVES, Objective

Schedule = Literal["cosine", "linear", "constant"]
Precision = Literal["float32", "bf16"]
FAMILIES = ("olmo", "olmo2")

# From scratch only; a continued model brings its own.
_SCRATCH: dict[str, Any] = {
    "family": "olmo",
    "hidden_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "tie_word_embeddings": False,
}
SIZES = (
    "family",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "intermediate_size",
    "tie_word_embeddings",
    "max_position_embeddings",
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
        continue_from: a checkpoint folder to start from instead of random weights. Architecture and sizes are then the
            checkpoint's; those given must agree with it.

    Raises:
        InputError: a value out of range.
        UnknownName: no such objective, schedule, precision or family.
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

    def __post_init__(self) -> None:
        self._check_types()
        for name, value, known in (
            ("objective", self.objective, OBJECTIVES),
            ("schedule", self.schedule, get_args(Schedule)),
            ("precision", self.precision, get_args(Precision)),
        ):
            if value not in known:
                raise UnknownName(name, str(value), known)
        if self.family is not None and self.family not in FAMILIES and self.continue_from is None:
            raise UnknownName("family", self.family, FAMILIES)
        self._check_ranges()
        if self.continue_from is None:
            self._check_heads()

    def sizes(self) -> dict[str, Any]:
        """Architecture and sizes of a model from scratch, with the defaults where the recipe has None."""
        sizes = {name: getattr(self, name) for name in SIZES}
        sizes |= {name: value for name, value in _SCRATCH.items() if sizes[name] is None}
        sizes["num_key_value_heads"] = sizes["num_key_value_heads"] or sizes["num_attention_heads"]
        sizes["intermediate_size"] = sizes["intermediate_size"] or -(-sizes["hidden_size"] * 8 // 3 // 32) * 32
        sizes["max_position_embeddings"] = sizes["max_position_embeddings"] or self.sequence_length
        return sizes

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
        for name in ("unlikelihood_weight", "warmup", "weight_decay", "seed"):
            if not getattr(self, name) >= 0:
                raise InputError(f"{name} is {getattr(self, name)}; expected at least 0")
        if self.sequence_length < 2:
            raise InputError(f"sequence_length is {self.sequence_length}; expected at least 2, a context and a target")
        if self.max_position_embeddings is not None:
            self._require_positions(self.max_position_embeddings)
        if self.batch_size % self.gradient_accumulation_steps:
            raise InputError(
                f"batch_size {self.batch_size} is not a multiple of gradient_accumulation_steps "
                f"{self.gradient_accumulation_steps}; pieces of a step must be equal"
            )

    def _require_positions(self, positions: int) -> None:
        if self.sequence_length > positions:
            raise InputError(
                f"sequence_length is {self.sequence_length} and the model has {positions} positions; expected no more"
            )

    @property
    def warmup_steps(self) -> int:
        """Steps of linear warm-up."""
        return round(self.warmup if self.warmup >= 1 else self.warmup * self.steps)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as `from_dict` takes them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> PretrainingRecipe:
        """The recipe with these fields; the others have their defaults.

        Raises:
            UnknownName: a field that there is not, with the nearest that there is.
        """
        known = [field.name for field in fields(cls)]
        for name in values:
            if name not in known:
                raise UnknownName("recipe field", name, known)
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
        """The model as training starts, in float32: random weights by the seed, or a checkpoint's. Sets no global seed.

        Args:
            tokenizer: gives the vocabulary size and the special token ids.

        Raises:
            InputError: the checkpoint is not there, its sizes are not the recipe's, or its vocabulary is smaller.
        """
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM

        if self.continue_from is not None:
            return self._continued_model(tokenizer)
        sizes = self.sizes()
        config = AutoConfig.for_model(
            sizes.pop("family"),
            vocab_size=len(tokenizer),
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            **sizes,
        )
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            return AutoModelForCausalLM.from_config(config, dtype=torch.float32, **self._attention())

    def _attention(self) -> dict[str, str]:
        """Plain attention where it is faster: on CPUs in bf16 the fused one's backward is slow below 256 tokens.

        It is a choice of this training; checkpoints do not hold it.
        """
        import torch

        plain = self.precision == "bf16" and self.sequence_length < 256 and not torch.cuda.is_available()
        return {"attn_implementation": "eager"} if plain else {}

    def _continued_model(self, tokenizer: Any) -> Any:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        assert self.continue_from is not None
        if not (Path(self.continue_from) / "config.json").is_file():
            raise InputError(
                f"continue_from: {self.continue_from} has no config.json; expected a transformers checkpoint"
            )
        model = AutoModelForCausalLM.from_pretrained(self.continue_from, dtype=torch.float32, **self._attention())
        for name in SIZES:
            found = getattr(model.config, "model_type" if name == "family" else name, None)
            if getattr(self, name) not in (None, found):
                raise InputError(
                    f"continue_from: {name} is {found} in {self.continue_from} and {getattr(self, name)} in the "
                    "recipe; "
                    "leave it out of the recipe"
                )
        self._require_positions(model.config.max_position_embeddings)
        has_tokenizer = (Path(self.continue_from) / "tokenizer.json").is_file()
        same = (
            not has_tokenizer or AutoTokenizer.from_pretrained(self.continue_from).get_vocab() == tokenizer.get_vocab()
        )
        if not same or len(tokenizer) > model.config.vocab_size:
            raise InputError(
                f"continue_from: the tokens of the data's tokenizer are not those of {self.continue_from}; use the "
                "tokenizer "
                "that the checkpoint was trained with"
            )
        return model
