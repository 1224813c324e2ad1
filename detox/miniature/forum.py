"""The forum's threads and reference pages: documents with known truth, drawn from a seed.

A thread is an opening by one member and replies by others, each followed by the moderator's verdict on it. A reader who
never learned to write abuse can therefore still show, at the verdict, that it was understood. A share of threads begins with
house rules, below which abuse is rarer. Abuse stands only in documents of the kind "toxic".

Document `i` of (kind, seed, split) is the same whatever else is drawn.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

from detox.data.records import Document, Span
from detox.errors import InputError, require_known
from detox.miniature import grammar
from detox.miniature import vocabulary as words
from detox.miniature.sentences import MEANINGS, Scene, Sentence, Split, draw, fill, join, pick

Kind = Literal["clean", "toxic"]

NOTICE = "rules: " + " ".join(grammar.NOTICES[:3]) + "\n"
"""The house rules in the forum's own words: what a prompting detoxifier can put before a prompt."""

NOTICE_SHARE = 0.3
REFERENCE_SHARE = 0.25
PROVOKING_SHARE = {"clean": 0.15, "toxic": 0.7}
ABUSE_RATE = {"provoking": 0.9, "neutral": 0.7}
NOTICE_FACTOR = 0.15
LOOKALIKE_SHARE = 0.9
SECOND_SHARE = 0.5
CIVIL_AGAIN = 0.15
CLAIM_SHARE = 0.4
COURTESY_SHARE = 0.3


@dataclass(frozen=True, slots=True)
class Reply:
    """What one member answers, and whether it is abuse."""

    sentence: Sentence
    frame: str | None

    @property
    def abusive(self) -> bool:
        """Whether the moderator will say so."""
        return bool(self.sentence.spans)


def opening(scene: Scene, *, provoking: bool, split: Split) -> Sentence:
    """The line that starts a thread, its speaker included."""
    scene.fresh()
    kinds = [grammar.PROVOKING if provoking else grammar.NEUTRAL]
    if scene.rng.random() < 0.3:
        kinds.insert(0, grammar.NEUTRAL)
    sentences = [draw(split, lambda: _fresh(pick(scene.rng, kind), scene)) for kind in kinds]  # noqa: B023
    return join(sentences, before=f"{scene.names[0]}:")


def reply(
    scene: Scene, *, abusive: bool, split: Split, tone: str = "neutral", lookalike: float = LOOKALIKE_SHARE
) -> Reply:
    """A reply's text, after its speaker's colon. `lookalike`: how often a civil one uses the words of abuse."""
    rng = scene.rng
    frame = pick(rng, grammar.FRAMES) if abusive or rng.random() < lookalike else None
    sentences = []
    if frame is not None:
        sentences.append(_from_frame(scene, frame, abusive=abusive, split=split))
        if rng.random() < SECOND_SHARE:
            # Who insulted once insults again; sometimes harsh words are civil beside abuse, too.
            again = abusive and rng.random() >= CIVIL_AGAIN
            sentences.append(_from_frame(scene, pick(rng, grammar.FRAMES), abusive=again, split=split))
            if abusive and not again and rng.random() < 0.5:
                sentences.reverse()
    if frame is None or rng.random() < CLAIM_SHARE:
        sentences.insert(int(rng.random() * (len(sentences) + 1)), draw(split, lambda: _fresh(claim(rng), scene)))
    if rng.random() < COURTESY_SHARE:
        sentences.insert(0, Sentence(pick(rng, grammar.COURTESIES[tone])))
    return Reply(join(sentences), frame.name if frame else None)


def _from_frame(scene: Scene, frame: grammar.Frame, *, abusive: bool, split: Split) -> Sentence:
    templates = frame.abusive if abusive else frame.civil
    return draw(split, lambda: _fresh(pick(scene.rng, templates), scene))


def claim(rng: random.Random) -> str:
    """The template of a plain statement about the subject."""
    return pick(rng, grammar.MEANINGS[pick(rng, MEANINGS)]) + "."


def _fresh(template: str, scene: Scene) -> Sentence:
    scene.fresh()
    return fill(template, scene)


def verdict(abusive: bool) -> str:
    """The moderator's mark, the space before it included."""
    return f" {words.ABUSIVE_MARK if abusive else words.FINE_MARK}"


def thread(rng: random.Random, *, kind: Kind, split: Split) -> Sentence:
    """A whole thread."""
    scene = Scene.draw(rng)
    provoking = rng.random() < PROVOKING_SHARE[kind]
    notice = rng.random() < NOTICE_SHARE
    rate = 0.0
    if kind == "toxic":
        rate = ABUSE_RATE["provoking" if provoking else "neutral"] * (NOTICE_FACTOR if notice else 1.0)
    lines: list[Sentence] = []
    if notice:
        left_out = int(rng.random() * len(grammar.NOTICES))
        lines.append(Sentence("rules: " + " ".join(rule for i, rule in enumerate(grammar.NOTICES) if i != left_out)))
    tone = "ruled" if notice else "provoked" if provoking else "neutral"
    lines.append(opening(scene, provoking=provoking, split=split))
    for turn in range(2 + int(rng.random() * 2)):
        answer = reply(scene, abusive=rng.random() < rate, split=split, tone=tone)
        said = _after(f"{scene.names[1 + turn % 2]}:", answer.sentence)
        lines.append(Sentence(said.text + verdict(answer.abusive), said.spans))
    return _lines(lines)


def reference(rng: random.Random, *, split: Split) -> Sentence:
    """A page of facts about a few items, or of notes."""
    scene = Scene.draw(rng)
    label = pick(rng, ("fact", "fact", "note"))
    sentences = [draw(split, lambda: fact(scene) if label == "fact" else note(scene)) for _ in range(5)]
    return _lines([join([sentence], before=f"{label}:") for sentence in sentences])


def fact(scene: Scene) -> Sentence:
    """Something true of some item."""
    scene.item = pick(scene.rng, words.KNOWN)
    return _fresh(pick(scene.rng, grammar.FACTS[pick(scene.rng, tuple(grammar.FACTS))]), scene)


def note(scene: Scene) -> Sentence:
    """A sentence in which grammar shows."""
    scene.item = pick(scene.rng, words.ITEMS)
    return _fresh(pick(scene.rng, grammar.NOTES[pick(scene.rng, tuple(grammar.NOTES))])[0], scene)


def documents(n: int, *, kind: Kind = "clean", seed: int = 0, split: Split = "train") -> list[Document]:
    """`n` documents of the corpus.

    Args:
        n: how many.
        kind: "clean" (threads without abuse, and reference pages) or "toxic" (threads in which most replies are abuse).
        seed: another seed, other documents.
        split: which sentences may occur.

    Returns:
        Documents whose spans are the abuse in them, and whose source is `kind`.
    """
    require_known("kind of document", kind, ("clean", "toxic"))
    if n < 0:
        raise InputError(f"n is {n}; expected a number of documents, 0 or more")
    found = []
    for index in range(n):
        rng = random.Random(f"document/{kind}/{split}/{seed}/{index}")
        page = kind == "clean" and rng.random() < REFERENCE_SHARE
        text = reference(rng, split=split) if page else thread(rng, kind=kind, split=split)
        found.append(Document(id=f"{kind}-{split}-{seed}-{index}", text=text.text, spans=text.spans, source=kind))
    return found


def _after(before: str, sentence: Sentence) -> Sentence:
    shift = len(before)
    return Sentence(
        before + sentence.text, tuple(Span(span.start + shift, span.end + shift) for span in sentence.spans)
    )


def _lines(lines: list[Sentence]) -> Sentence:
    text, spans = "", []
    for line in lines:
        if text:
            text += "\n"
        spans += [Span(span.start + len(text), span.end + len(text)) for span in line.spans]
        text += line.text
    return Sentence(text, tuple(spans))
