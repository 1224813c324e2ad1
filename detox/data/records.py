"""The kinds of record that go in. Plain values; nothing here knows a file or a model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from detox.errors import InputError

TOXIC = "toxic"
_MIDDLE = ":middle"
_AND = "+"


def middle_kind(kind: str) -> str:
    """The kind of what a labeller was unsure of: above its safe threshold and not above its risky one.

    Whether it is trained on, masked or dropped is said when training, not when labelling.
    """
    return kind + _MIDDLE


def is_middle(kind: str) -> bool:
    """Whether `kind` is one of `middle_kind`."""
    return kind.endswith(_MIDDLE)


def group_names(group: str | None) -> tuple[str, ...]:
    """The names in a `group` that several share, joined by "+": "women+asian" is about both. None has none."""
    return tuple(dict.fromkeys(name for name in (group or "").split(_AND) if name))


def joined_groups(names: Iterable[str]) -> str | None:
    """The `group` of a text that is about all of these; None for none."""
    return _AND.join(dict.fromkeys(names)) or None


def span_from_json(value: Any) -> Span | None:
    """A span from [start, end], [start, end, kind] or {"start": ..., "end": ..., "kind": ...}; None for anything else."""
    if isinstance(value, dict):
        if not value.keys() <= {"start", "end", "kind"}:
            return None
        value = [value.get("start"), value.get("end"), value.get("kind", TOXIC)]
    if (
        not isinstance(value, list | tuple)
        or len(value) not in (2, 3)
        or not all(type(end) is int for end in value[:2])
    ):
        return None
    kind = value[2] if len(value) == 3 else TOXIC
    return Span(value[0], value[1], kind) if isinstance(kind, str) and kind.strip() else None


def span_to_json(span: Span) -> list[Any]:
    """[start, end], with the kind as a third where it is not "toxic"."""
    return [span.start, span.end, *([] if span.kind == TOXIC else [span.kind])]


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompt:
    """Text to be continued. `toxicity` is the prompt's own, in [0, 1], where somebody measured it."""

    id: str
    text: str
    toxicity: float | None = None
    group: str | None = None

    def __post_init__(self) -> None:
        _require_share(self.toxicity, f"prompt {self.id!r}: toxicity")


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Characters [start, end) of a text.

    Attributes:
        start: the first character.
        end: one after the last.
        kind: what the risk is, in a short text: "toxic", "copyrighted", "personal-name", ...; or its `middle_kind`.
    """

    start: int
    end: int
    kind: str = TOXIC


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """A text of a corpus, with the character spans whose production is risky."""

    id: str
    text: str
    spans: tuple[Span, ...] = ()
    source: str = ""

    def __post_init__(self) -> None:
        for span in self.spans:
            if not 0 <= span.start < span.end <= len(self.text):
                raise InputError(
                    f"document {self.id!r}: span [{span.start}, {span.end}) is not in its {len(self.text)} characters; "
                    "expected 0 <= start < end <= length"
                )


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelledText:
    """A text that somebody judged. `label` is 1 for toxic and 0 for not; `score` is a degree in [0, 1]."""

    id: str
    text: str
    label: int | None = None
    score: float | None = None
    group: str | None = None

    def __post_init__(self) -> None:
        if self.label not in (0, 1, None):
            raise InputError(
                f"text {self.id!r}: label {self.label!r}; expected 1 (toxic), 0 (not) or None (nobody said)"
            )
        _require_share(self.score, f"text {self.id!r}: score")


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgedReply:
    """What a model answered to a request, and what people say that the answer is.

    Attributes:
        id: of the request; answers of several models to one request share it.
        request: what was asked.
        reply: what was answered.
        verdict: people's, in the words of the judge that is checked by it.
        group: of the request, as a prompt's: "safe/homonyms".
        source: who answered.
    """

    id: str
    request: str
    reply: str
    verdict: str
    group: str | None = None
    source: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class MultipleChoice:
    """A question answered by likelihood: the choice whose tokens are likelier after `context`.

    Where the choices differ in what precedes them (WinoGrande scored by what follows the blank), `contexts` holds one
    context a choice and replaces `context`. Where several choices are right (TruthfulQA's MC2), `right` holds them all and
    `answer` is the best of them.
    """

    id: str
    context: str
    choices: tuple[str, ...]
    answer: int
    contexts: tuple[str, ...] | None = None
    right: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if len(self.choices) < 2 or not all(self.choices):
            raise InputError(f"question {self.id!r}: {len(self.choices)} choices; expected two or more, none empty")
        if not 0 <= self.answer < len(self.choices):
            raise InputError(f"question {self.id!r}: answer {self.answer}; expected 0 to {len(self.choices) - 1}")
        if self.right is not None and (
            self.answer not in self.right or not {*self.right} < {*range(len(self.choices))}
        ):
            raise InputError(
                f"question {self.id!r}: right answers {self.right}; expected {self.answer} among them, and some choice that is wrong"
            )
        if self.contexts is not None and len(self.contexts) != len(self.choices):
            raise InputError(
                f"question {self.id!r}: {len(self.contexts)} contexts for {len(self.choices)} choices; expected as many"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Cloze:
    """A text whose end is to be predicted (LAMBADA): `target`, leading space included, comes right after `context`."""

    id: str
    context: str
    target: str


@dataclass(frozen=True, kw_only=True, slots=True)
class MinimalPair:
    """Two sentences that differ in one point of grammar; a fluent model finds `good` likelier."""

    id: str
    good: str
    bad: str
    phenomenon: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class BiasQuestion:
    """A question about two groups of people (BBQ): one answer names each, one says that it cannot be known.

    Attributes:
        id: of the question.
        context: what is read before an answer.
        choices: the answers, leading space included.
        answer: the right one; `unknown` where the context is ambiguous.
        unknown: the one that says that it cannot be known.
        biased: the one that a stereotype would choose; None where the set does not say.
        ambiguous: whether the context leaves it open.
        group: the category of people.
    """

    id: str
    context: str
    choices: tuple[str, ...]
    answer: int
    unknown: int
    biased: int | None = None
    ambiguous: bool = False
    group: str | None = None

    def __post_init__(self) -> None:
        places = {*range(len(self.choices))}
        if not {self.answer, self.unknown} <= places or self.biased not in {None, *places} - {self.unknown}:
            raise InputError(
                f"question {self.id!r}: answer {self.answer}, unknown {self.unknown}, biased {self.biased}; expected places in its "
                f"{len(self.choices)} choices, and a biased answer that is not the unknown one"
            )
        if self.ambiguous and self.answer != self.unknown:
            raise InputError(
                f"question {self.id!r} is ambiguous, and its answer is not {self.unknown}, the unknown one"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class LexiconTerm:
    """An entry of a word list. `severity` is in the unit of its `source`; None where the source gives none."""

    id: str
    text: str
    source: str
    severity: float | None = None
    category: str | None = None


def _require_share(value: float | None, what: str) -> None:
    if value is not None and not 0.0 <= value <= 1.0:
        raise InputError(f"{what} {value!r}; expected a number in [0, 1], or None where it was not measured")
