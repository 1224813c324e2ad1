"""From templates to sentences: slots filled, abuse located, and every sentence dealt to one split by its own text."""

from __future__ import annotations

import random
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Literal, TypeVar

from detox.data.records import Span
from detox.errors import InputError
from detox.miniature import grammar
from detox.miniature import vocabulary as words

Split = Literal["train", "fit", "test"]
"""Who may see a sentence: the corpus, what detoxifiers are fitted on, or what is measured."""

T = TypeVar("T")

_TOKEN = re.compile(r"\{=?[a-z0-9]+\??\}|\[|\]|[a-z]+|[.,!?:]")
_PUNCTUATION = frozenset(".,!?:")
_AN = frozenset({"honest"})
_NOT_AN = frozenset({"useless"})
_MAX_TRIES = 100_000


def split_of(sentence: str) -> Split:
    """The split that a sentence belongs to, by a checksum of its text: 70 % train, 10 % fit, 20 % test.

    No sentence of a measured item ever stands in a training document, nor in what a detoxifier is fitted on.
    """
    bucket = zlib.crc32(sentence.encode()) % 10
    return "train" if bucket < 7 else "fit" if bucket == 7 else "test"


def article(word: str) -> str:
    """The article by how `word` sounds: "a" or "an"."""
    return "an" if (word[0] in "aeiou" and word not in _NOT_AN) or word in _AN else "a"


def pick(rng: random.Random, options: Sequence[T]) -> T:
    """One of `options`, uniformly. Uses only `rng.random()`, whose stream Python promises to keep."""
    return options[int(rng.random() * len(options))]


@dataclass(slots=True)
class Scene:
    """What the slots of one thread's sentences have in common. A slot that is filled stays filled until `fresh()`."""

    rng: random.Random
    names: tuple[str, ...] = ()
    item: tuple[str, str, str, str] = words.SUBJECTS[0]
    filled: dict[str, str] = field(default_factory=dict)

    @classmethod
    def draw(cls, rng: random.Random) -> Scene:
        """A new scene: five members, of whom the first opens the thread, and a subject."""
        chosen: list[str] = []
        while len(chosen) < 5:
            name = pick(rng, words.NAMES)
            if name not in chosen:
                chosen.append(name)
        return cls(rng=rng, names=tuple(chosen), item=pick(rng, words.SUBJECTS))

    def fresh(self) -> None:
        """Forget every filler but the members and the subject."""
        self.filled = {}

    def word(self, slot: str) -> str:
        """The filler of `slot`, drawn at its first use."""
        if slot not in self.filled:
            self.filled[slot] = self._draw(slot)
        return self.filled[slot]

    def _draw(self, slot: str) -> str:
        rng = self.rng
        if slot in _TABLES:
            return pick(rng, _TABLES[slot])
        if slot in ("act", "acts"):
            self.filled["act"], self.filled["acts"] = pick(rng, words.ACTS)
            return self.filled[slot]
        if slot == "adj":
            return pick(rng, words.HARSH if rng.random() < 0.8 else words.QUALITIES)
        if slot in _ITEM_FIELDS:
            return self.item[_ITEM_FIELDS[slot]]
        return self.names[_NAME_INDEX[slot]]


_TABLES: dict[str, tuple[str, ...]] = {
    "insult": words.INSULTS,
    "beast": words.BEASTS,
    "rogue": words.ROGUES,
    "weed": words.WEEDS,
    "harsh": words.HARSH,
    "waste": words.WASTE,
    "body": words.BODY,
    "body2": words.BODY,
    "fine": words.FINE,
    "virtue": words.VIRTUES,
    "quality": words.QUALITIES,
    "job": words.JOBS,
    "job2": words.JOBS,
    "jobs": tuple(job + "s" for job in words.JOBS),
    "relative": words.RELATIVES,
    "role": words.ROLES,
    "animal": words.ANIMALS,
    "building": words.BUILDINGS,
    "buildings": tuple(row[1] for row in words.ITEMS if row[2] == "building"),
    "show": words.SHOWS,
    "place": words.PLACES,
    "origin": words.ORIGINS,
    "day": words.DAYS,
    "number": words.NUMBERS,
    "box": words.BOXES,
    "keep": words.KEEPING,
    "is": words.IS,
    "are": words.ARE,
}
_ITEM_FIELDS = {"item": 0, "items": 1, "=kind": 2, "=colour": 3}
_NAME_INDEX = {"name": 0, "other": 3, "friend": 4}


@dataclass(frozen=True, slots=True)
class Sentence:
    """A filled template and where its abuse stands."""

    text: str
    spans: tuple[Span, ...] = ()


@cache
def _parse(template: str) -> tuple[str, ...]:
    return tuple(_TOKEN.findall(template))


def _expand(template: str, scene: Scene) -> list[str]:
    """The words, marks and brackets of a template, every slot filled."""
    tokens: list[str] = []
    for token in _parse(template):
        if token[0] != "{":
            tokens.append(token)
            continue
        slot = token[1:-1]
        if slot == "claim":
            tokens += _expand(pick(scene.rng, grammar.MEANINGS[pick(scene.rng, MEANINGS)]), scene)
        elif slot[-1] != "?":
            tokens.append(scene.word(slot))
        else:
            if slot not in scene.filled:
                scene.filled[slot] = scene.word(slot[:-1]) if scene.rng.random() < 0.5 else ""
            if scene.filled[slot]:
                tokens.append(scene.filled[slot])
    return tokens


MEANINGS = tuple(grammar.MEANINGS)


def fill(template: str, scene: Scene) -> Sentence:
    """Fill `template` from `scene`; characters between brackets become spans, starting at a word and not at its space."""
    tokens = _expand(template, scene)
    parts: list[str] = []
    spans: list[Span] = []
    length, start, opened = 0, 0, False
    for index, token in enumerate(tokens):
        if token == "[":
            opened = True
            continue
        if token == "]":
            spans.append(Span(start, length))
            continue
        if token == "a":
            following = tokens[index + 1]
            token = article(following if following != "[" else tokens[index + 2])
        if parts and token not in _PUNCTUATION:
            parts.append(" ")
            length += 1
        if opened:
            start, opened = length, False
        parts.append(token)
        length += len(token)
    return Sentence("".join(parts), tuple(spans))


def draw(split: Split, make: Callable[[], Sentence]) -> Sentence:
    """Call `make` until its sentence belongs to `split`.

    Raises:
        InputError: where `make` cannot produce one.
    """
    for _ in range(_MAX_TRIES):
        sentence = make()
        if split_of(sentence.text) == split:
            return sentence
    raise InputError(f"no sentence of the split {split!r} in {_MAX_TRIES} tries; expected templates with more fillers")


def join(sentences: Sequence[Sentence], *, before: str = "") -> Sentence:
    """Sentences one after another, a space before each, after the text `before`."""
    text, spans = before, []
    for sentence in sentences:
        text += " "
        spans += [Span(span.start + len(text), span.end + len(text)) for span in sentence.spans]
        text += sentence.text
    return Sentence(text, tuple(spans))
