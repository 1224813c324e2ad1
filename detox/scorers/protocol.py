"""What a scorer is: list of texts in, list of scores out, each in [0, 1] or missing with a reason."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, SupportsFloat, runtime_checkable

from detox.errors import DetoxError, InputError, ScoringFailed

EMPTY = "empty"
"""The reason given where there is no visible character to score."""
SCORER_ERROR = "scorer error"
"""What the reason begins with where the scorer raised `ScoringFailed`."""

_INVISIBLE = frozenset({"Cc", "Cf", "Zs", "Zl", "Zp"})  # controls, format characters, separators


def readable(text: str) -> str:
    """`text` as every tokenizer can take it: halves of surrogate pairs joined, lone ones replaced by U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def is_empty(text: str) -> bool:
    """Whether `text` has no visible character: nothing, white space, controls, zero-width characters."""
    return all(unicodedata.category(character) in _INVISIBLE for character in text)


def require_texts(texts: Sequence[str], what: str) -> None:
    """Refuse a bare string and anything in the list that is not a string.

    Raises:
        InputError: names `what` and the index.
    """
    if isinstance(texts, str):
        raise InputError(f"{what}: got one string; expected a list of texts, also for a single one: [text]")
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(f"{what}: text {index} is {type(text).__name__}; expected str")


def score_texts(scorer: Scorer, texts: Sequence[str]) -> list[Score]:
    """Score `texts` and check what came back. The one way in which the harness asks a scorer.

    Texts without a visible character never reach the scorer: they are missing, reason "empty". Lone surrogates are
    replaced by U+FFFD before.

    A scorer says that it could not score one text by NaN and a reason, or by raising `ScoringFailed`. It is then asked
    again for halves of the texts, so that only those texts are missing on which it fails alone. Anything else that it
    raises ends the measurement in one line that names the scorer, with the scorer's own error as its cause.

    Args:
        scorer: anything with a `card` and a `score`.
        texts: any number of texts, of any length.

    Returns:
        One score a text, in the order of `texts`, with plain floats as values.

    Raises:
        InputError: `texts` is not a list of strings, or the scorer broke its protocol or raised what it may not; names
            scorer and index.
    """
    name = scorer.card.name
    require_texts(texts, f"scorer {name!r}")
    asked = [index for index, text in enumerate(texts) if not is_empty(text)]
    scores = [Score.missing(EMPTY)] * len(texts)
    if not asked:
        return scores
    answers = _answers(scorer, [readable(texts[index]) for index in asked])
    for index, answer in zip(asked, answers, strict=True):
        scores[index] = _checked(answer, f"scorer {name!r}, text {index}")
    return scores


def _answers(scorer: Scorer, texts: list[str]) -> Sequence[Any]:
    name = scorer.card.name
    try:
        with _Named(name):
            answers: Any = scorer.score(texts)
    except ScoringFailed as error:
        if len(texts) == 1:
            why = str(error).strip().splitlines()
            return [Score.missing(f"{SCORER_ERROR}: {why[0]}" if why else SCORER_ERROR)]
        middle = len(texts) // 2
        return [*_answers(scorer, texts[:middle]), *_answers(scorer, texts[middle:])]
    if not isinstance(answers, list | tuple) or len(answers) != len(texts):
        got = f"{len(answers)} scores" if isinstance(answers, list | tuple) else type(answers).__name__
        raise InputError(
            f"scorer {name!r} returned {got} for {len(texts)} texts; expected a list with one Score a text"
        )
    return answers


def _checked(answer: Any, where: str) -> Score:
    if not isinstance(answer, Score):
        raise InputError(f"{where}: got {type(answer).__name__}; expected a Score")
    try:
        value = float(answer.value)
    except (TypeError, ValueError):
        raise InputError(
            f"{where}: value {answer.value!r}; expected a number in [0, 1], or NaN with a reason"
        ) from None
    attributes = _checked_attributes(answer.attributes, where)
    if math.isnan(value):
        if not isinstance(answer.reason, str) or not answer.reason:
            raise InputError(f"{where}: NaN without a reason; expected Score.missing('why')")
        return Score(value, answer.reason, attributes)
    if not 0.0 <= value <= 1.0:
        raise InputError(f"{where}: value {value}; expected a number in [0, 1], or NaN with a reason")
    if answer.reason is not None:
        raise InputError(f"{where}: value {value} with reason {answer.reason!r}; a reason belongs to NaN alone")
    return Score(value, None, attributes)


def _checked_attributes(attributes: Any, where: str) -> dict[str, float]:
    if not isinstance(attributes, Mapping) or not all(isinstance(name, str) for name in attributes):
        raise InputError(f"{where}: attributes are {type(attributes).__name__}; expected numbers by name")
    checked = {}
    for name, value in attributes.items():
        if isinstance(value, bool) or not isinstance(value, SupportsFloat) or not 0.0 <= float(value) <= 1.0:
            raise InputError(f"{where}: attribute {name!r} is {value!r}; expected a number in [0, 1], or leave it out")
        checked[name] = float(value)
    return checked


class _Named(AbstractContextManager[None]):
    """Whatever leaves the block as an error is one of ours and says which scorer it comes from."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, DetoxError) and not isinstance(error, ScoringFailed):
            error.add_note(f"raised by scorer {self._name!r}")
        elif isinstance(error, Exception) and not isinstance(error, ScoringFailed):
            said = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
            raise InputError(
                f"scorer {self._name!r} raised {said}; of a text that it cannot score it is to say Score.missing(reason), or raise "
                "ScoringFailed"
            ) from error


@dataclass(frozen=True, slots=True)
class Score:
    """How toxic one text is.

    Attributes:
        value: in [0, 1], more is more toxic; NaN where the text could not be scored. Missing is never zero.
        reason: why it could not be scored; None exactly where there is a value.
        attributes: kinds of toxicity that the scorer tells apart ("insult", "threat"), each in [0, 1]; one that it does
            not know is not there.
    """

    value: float
    reason: str | None = None
    attributes: Mapping[str, float] = field(default_factory=dict, hash=False)

    @classmethod
    def missing(cls, reason: str) -> Score:
        """A score that says why there is none."""
        return cls(math.nan, reason)

    @property
    def is_missing(self) -> bool:
        """Whether the text could not be scored."""
        return math.isnan(self.value)


@dataclass(frozen=True)
class ScorerCard:
    """What one must know of a scorer before one believes it.

    Attributes:
        name: short name, as used in tables.
        revision: version, commit or content hash. Another revision is another ruler.
        trained_on: names of the data whose labels it learned from; a method fitted on the same data must not be
            ranked by it.
        max_length: how much it reads at once, in the unit that `beyond` names; None where there is no limit.
        beyond: what happens with text longer than that.
        sha256: digest of the weights, where they are at hand.
        settings: what else changes its scores, by name.
        quality: measured quality where known (held-out ROC-AUC, calibration); says nothing about identity.
    """

    name: str
    revision: str
    trained_on: tuple[str, ...]
    max_length: int | None
    beyond: str
    sha256: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict, hash=False)
    quality: Mapping[str, Any] = field(default_factory=dict, hash=False, compare=False, repr=False)

    def identity(self) -> dict[str, Any]:
        """What decides which numbers come out, as JSON: the part of a cell's identity that is the scorer's.

        Where the scorer was loaded from is not in it, so a folder that moved gives the same cell.
        """
        return {
            "name": self.name,
            "revision": self.revision,
            "sha256": self.sha256,
            "max_length": self.max_length,
            "beyond": self.beyond,
            "settings": dict(self.settings),
        }

    def to_dict(self) -> dict[str, Any]:
        """The whole card as JSON, for records."""
        return asdict(self) | {"trained_on": list(self.trained_on)}


@runtime_checkable
class Scorer(Protocol):
    """Anything that says how toxic texts are. No base class is needed; ask it through `score_texts`."""

    @property
    def card(self) -> ScorerCard:
        """Who it is, what it learned from, how much it reads."""
        ...

    def score(self, texts: Sequence[str]) -> list[Score]:
        """One score a text, in order, also for a list of one; NaN with a reason where a text could not be scored."""
        ...
