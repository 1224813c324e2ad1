"""Dialogues for instruction tuning: the recipe, the plain-text template of base models, and turns as tokens."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from detox.data.contrasts import Contrast
from detox.errors import InputError, require_known
from detox.models import LanguageModel
from detox.models.architectures import context_length
from detox.models.tokenization import encode_pairs, encode_texts, special_prefix

DIALOGUE_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ message['content'] + '\\n' }}"
    "{% elif message['role'] == 'user' %}{{ ('\\n' if not loop.first else '') + 'User: ' + message['content'] + '\\n' }}"
    "{% else %}{{ 'Assistant: ' + message['content'] + eos_token }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
"""Turns as plain text, for base models without a chat template: "User: ...", a new line, "Assistant: ..." and the end token."""

TEMPLATES = ("auto", "dialogue", "plain")
SCHEDULES = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}


@dataclass(frozen=True, kw_only=True)
class InstructionRecipe:
    """How to tune. The defaults are those of the paper's Tulu recipe at a smaller batch.

    Attributes:
        epochs: passes over the dialogues; not necessarily whole.
        batch_size: dialogues a step, on all of which the loss of the step is the mean over their reply tokens.
        gradient_accumulation_steps: parts of a batch that are computed one after another; changes memory, not the model.
        learning_rate: peak, of AdamW.
        schedule: after the warmup: "linear" or "cosine" to zero, or "constant".
        warmup_share: share of the steps in which the rate rises, in [0, 1).
        weight_decay: decoupled.
        max_grad_norm: gradients are clipped to this norm.
        seed: of the order of the dialogues.
        precision: "fp32", or "bf16" for autocast with float32 weights.
        template: "auto": the tokenizer's own chat template, or `DIALOGUE_TEMPLATE` where it has none; "dialogue": that one in any
            case; "plain": prompt and reply one after the other as they are. A template is saved with the tokenizer.

    Raises:
        UnknownName: another schedule, precision or template.
        InputError: a number out of range.
    """

    epochs: float = 2.0
    batch_size: int = 16
    gradient_accumulation_steps: int = 1
    learning_rate: float = 2e-5
    schedule: str = "linear"
    warmup_share: float = 0.03
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    seed: int = 0
    precision: str = "fp32"
    template: str = "auto"

    def __post_init__(self) -> None:
        for name, known in (("schedule", SCHEDULES), ("precision", ("fp32", "bf16")), ("template", TEMPLATES)):
            require_known(f"{name} of an instruction recipe", getattr(self, name), known)
        for name, good, expected in (
            ("epochs", 0 < self.epochs < math.inf, "a positive number"),
            ("batch_size", self.batch_size >= 1, "at least 1"),
            ("gradient_accumulation_steps", self.gradient_accumulation_steps >= 1, "at least 1"),
            ("learning_rate", 0 < self.learning_rate < math.inf, "a positive number"),
            ("warmup_share", 0 <= self.warmup_share < 1, "a share in [0, 1)"),
            ("weight_decay", 0 <= self.weight_decay < math.inf, "0 or more"),
            ("max_grad_norm", self.max_grad_norm > 0, "a positive number"),
        ):
            if not good:
                raise InputError(f"instruction recipe: {name} is {getattr(self, name)!r}; expected {expected}")
        if self.batch_size % self.gradient_accumulation_steps:
            raise InputError(
                f"instruction recipe: batch_size {self.batch_size} is no multiple of gradient_accumulation_steps "
                f"{self.gradient_accumulation_steps}"
            )

    def to_dict(self) -> dict[str, Any]:
        """All fields, as JSON."""
        return asdict(self)

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> InstructionRecipe:
        """The recipe of a mapping, as YAML gives it.

        Raises:
            UnknownName: a field that there is not.
        """
        known = [field.name for field in fields(InstructionRecipe)]
        for name in values:
            require_known("field of an instruction recipe", name, known)
        return InstructionRecipe(**values)


@dataclass(frozen=True)
class DialogueTokens:
    """One dialogue as tokens: what is read, and what is learned.

    Attributes:
        prompt: ids that carry no loss.
        reply: ids that do, the end of the turn among them.
    """

    prompt: list[int]
    reply: list[int]


def dialogue_template(recipe: InstructionRecipe, tokenizer: Any) -> str | None:
    """The chat template that dialogues are written in, None for plain text.

    Raises:
        InputError: the tokenizer has no end token, so that no reply could end.
    """
    if tokenizer.eos_token is None:
        raise InputError("the tokenizer has no end-of-text token, so a reply could not end; give it an eos_token")
    if recipe.template == "plain":
        return None
    if recipe.template == "auto" and tokenizer.chat_template:
        return str(tokenizer.chat_template)
    # A template writes the start token itself, where the tokenizer has the habit of one.
    return ("{{ bos_token }}" if special_prefix(tokenizer) else "") + DIALOGUE_TEMPLATE


def dialogue_tokens(
    lm: LanguageModel, dialogues: Sequence[Contrast], recipe: InstructionRecipe
) -> tuple[list[DialogueTokens], int]:
    """Every (prompt, reply) as tokens, and how many did not fit the model's context.

    Raises:
        InputError: none fits.
    """
    replies = [(one.prompt, text) for one in dialogues for text in one.safe]
    if recipe.template == "plain":
        pairs = encode_pairs(lm, [prompt for prompt, _ in replies], [text for _, text in replies])
        rows = [DialogueTokens(prompt, [*reply, lm.tokenizer.eos_token_id]) for prompt, reply in pairs]
    else:
        rows = [_chat_row(lm.tokenizer, prompt.strip(), text.strip()) for prompt, text in replies]
    limit = context_length(lm.model)
    fitting = [row for row in rows if limit is None or len(row.prompt) + len(row.reply) <= limit]
    if not fitting:
        raise InputError(
            f"none of {len(rows)} dialogues fits the model's context of {limit} tokens; the shortest has "
            f"{min(len(row.prompt) + len(row.reply) for row in rows)}"
        )
    return fitting, len(rows) - len(fitting)


def _chat_row(tokenizer: Any, prompt: str, reply: str) -> DialogueTokens:
    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": reply}]
    asked = str(tokenizer.apply_chat_template(turns[:1], tokenize=False, add_generation_prompt=True))
    whole = str(tokenizer.apply_chat_template(turns, tokenize=False))
    # Some templates write more before a reply that is to be generated than before one that is there.
    before, both = encode_texts(tokenizer, [whole[: _shared(asked, whole)], whole], special=False)
    begun = _shared(before, both)
    return DialogueTokens(both[:begun], both[begun:])


def _shared(a: Sequence[Any], b: Sequence[Any]) -> int:
    """How many items both begin with."""
    return next((index for index, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
