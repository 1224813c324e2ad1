"""What the miniature measures with, and what detoxifiers are fitted on.

By construction nothing here was read in training: the sentences of an evaluation item belong to the split "test", those of a
contrast to "fit", and the corpus holds "train" only (`detox.miniature.sentences.split_of`). A fact asked for stands in the
corpus in other phrasings.

Item `i` of (task, seed) is the same however many are drawn.
"""

from __future__ import annotations

import random
from typing import Any

from detox.data.records import Document, LabelledText, MinimalPair, MultipleChoice, Prompt
from detox.errors import InputError, require_known
from detox.miniature import forum, grammar
from detox.miniature import vocabulary as words
from detox.miniature.sentences import MEANINGS, Scene, Sentence, Split, fill, join, pick, split_of

VERDICTS = (forum.verdict(False), forum.verdict(True))
"""How the moderator can mark a reply, at the index of its label: 0 not abusive, 1 abusive."""

GROUPS = ("neutral", "provoking")


def prompts(n: int, *, seed: int = 0, groups: tuple[str, ...] = GROUPS, split: Split = "test") -> list[Prompt]:
    """Threads that wait for their first reply: an opening, and the name and colon of who answers.

    Args:
        n: how many; the groups take turns.
        seed: another seed, other prompts.
        groups: "neutral" and "provoking" openings, and "heated" threads, in which a provoking opening was answered by
            abuse that the moderator has noted.
        split: the openings' sentences; "fit" for prompts to tune on.

    Returns:
        Prompts whose toxicity is their own: 1.0 for heated threads, 0.0 for others.
    """
    for group in groups:
        require_known("group of prompts", group, (*GROUPS, "heated"))
    found = []
    for index in range(require_count(n)):
        scene = scene_of("prompt", split, seed, index)
        group = groups[index % len(groups)]
        text = forum.opening(scene, provoking=group != "neutral", split=split).text
        if group == "heated":
            text += (
                f"\n{scene.names[1]}:{forum.reply(scene, abusive=True, split=split).sentence.text}{forum.verdict(True)}"
            )
        speaker = scene.names[2 if group == "heated" else 1]
        toxicity = float(group == "heated")
        found.append(
            Prompt(id=f"prompt-{split}-{seed}-{index}", text=f"{text}\n{speaker}:", toxicity=toxicity, group=group)
        )
    return found


def contrasts(n: int, *, seed: int = 0, paraphrases: int = 3, split: Split = "fit") -> list[Any]:
    """One reply said civilly and abusively: the same statement about the subject in several wordings, with and without abuse.

    The j-th safe and the j-th toxic continuation use the same words of the same frame, so that words do not tell them apart.

    Args:
        n: how many contrasts.
        seed: another seed, other contrasts.
        paraphrases: continuations a side, 1 to 4.
        split: the sentences; "test" for pairs to measure on.

    Returns:
        `detox.data.contrasts.Contrast` records, grouped by meaning.
    """
    from detox.data.contrasts import Contrast

    most = min(len(wordings) for wordings in grammar.MEANINGS.values())
    if not 1 <= paraphrases <= most:
        raise InputError(f"paraphrases is {paraphrases}; expected 1 to {most}")
    found = []
    for index in range(require_count(n)):
        scene = scene_of("contrast", split, seed, index)
        provoking = scene.rng.random() < 0.5
        prompt = f"{forum.opening(scene, provoking=provoking, split=split).text}\n{scene.names[1]}:"
        meaning, statements = reworded(scene, paraphrases, split)
        pairs = [_both_ways(scene, statement, split) for statement in statements]
        safe, toxic = (tuple(side) for side in zip(*pairs, strict=True))
        found.append(
            Contrast(id=f"contrast-{split}-{seed}-{index}", prompt=prompt, safe=safe, toxic=toxic, group=meaning)
        )
    return found


def verdicts(n: int, *, seed: int = 0, split: Split = "test") -> list[LabelledText]:
    """Threads that wait for the moderator's verdict on their reply: half of them abuse, half civil in the words of abuse.

    The text ends with the reply; `VERDICTS[label]` continues it. The group is the frame (`detox.miniature.grammar.FRAMES`).
    """
    found = []
    for index in range(require_count(n)):
        scene = scene_of("verdict", split, seed, index)
        label = index % 2
        start = forum.opening(scene, provoking=scene.rng.random() < 0.5, split=split).text
        answer = forum.reply(scene, abusive=bool(label), split=split, lookalike=1.0)
        text = f"{start}\n{scene.names[1]}:{answer.sentence.text}"
        found.append(LabelledText(id=f"verdict-{split}-{seed}-{index}", text=text, label=label, group=answer.frame))
    return found


def facts(n: int, *, seed: int = 0, split: Split = "test", choices: int = 4) -> list[MultipleChoice]:
    """Facts of this world, each in a phrasing that the corpus does not use for it, to be completed by the right word."""
    found = []
    for index in range(require_count(n)):
        scene = scene_of("fact", split, seed, index)
        while True:
            scene.item = pick(scene.rng, words.KNOWN)
            about = pick(scene.rng, tuple(grammar.FACTS))
            template = pick(scene.rng, grammar.FACTS[about])
            scene.fresh()
            if split_of(fill(template, scene).text) == split:
                break
        right = scene.word(f"={about}")
        others = _shuffled(scene.rng, [word for word in _ANSWERS[about] if word != right])
        place = int(scene.rng.random() * choices)
        # The article belongs to the answer: "a fruit" and "an animal" would give it away.
        stem = template.removesuffix(".").removesuffix(f"{{={about}}}").removesuffix("a ").rstrip()
        article = "a " if template.endswith(f"a {{={about}}}.") else ""
        options = [*others[: choices - 1]]
        options.insert(place, right)
        found.append(
            MultipleChoice(
                id=f"fact-{split}-{seed}-{index}",
                context="fact: " + fill(stem, scene).text,
                choices=tuple(" " + fill(article + word, scene).text for word in options),
                answer=place,
            )
        )
    return found


def minimal_pairs(n: int, *, seed: int = 0, split: Split = "test") -> list[MinimalPair]:
    """Sentences with and without one mistake of grammar; the phenomena take turns."""
    found = []
    phenomena = tuple(grammar.NOTES)
    for index in range(require_count(n)):
        scene = scene_of("pair", split, seed, index)
        phenomenon = phenomena[index % len(phenomena)]
        while True:
            scene.item = pick(scene.rng, words.ITEMS)
            scene.fresh()
            good, bad = pick(scene.rng, grammar.NOTES[phenomenon])
            sentence = fill(good, scene).text
            if split_of(sentence) == split:
                break
        found.append(
            MinimalPair(
                id=f"pair-{split}-{seed}-{index}",
                good=f"note: {sentence}",
                bad=f"note: {_agreeing(bad, scene)}",
                phenomenon=phenomenon,
            )
        )
    return found


def heldout_documents(n: int, *, seed: int = 0, kind: forum.Kind = "clean") -> list[Document]:
    """Documents to measure cross-entropy on, clean ones or toxic: none of their sentences stands in the corpus."""
    return forum.documents(n, kind=kind, seed=seed, split="test")


_ANSWERS = {
    "kind": words.KINDS,
    "colour": words.COLOURS,
}


_PAIRS = tuple(
    tuple(
        (civil, abusive)
        for civil, abusive in zip(frame.civil, frame.abusive, strict=True)
        if "{claim}" not in civil + abusive
    )
    for frame in grammar.FRAMES
)
"""A frame's civil and abusive templates, in pairs of like words."""


def require_count(n: int) -> int:
    """`n`, where it is a number of items."""
    if n < 1:
        raise InputError(f"n is {n}; expected at least 1")
    return n


def scene_of(task: str, split: Split, seed: int, index: int) -> Scene:
    """Who and what an item is about."""
    return Scene.draw(random.Random(f"{task}/{split}/{seed}/{index}"))


def _shuffled(rng: random.Random, options: Any) -> list[Any]:
    return sorted(options, key=lambda _: rng.random())


def _agreeing(bad: str, scene: Scene) -> str:
    """The wrong sentence in the fillers of the right one, tense included."""
    for one, many in (("is", "are"), ("are", "is")):
        if one in scene.filled:
            scene.filled.setdefault(
                many, dict(zip(words.IS + words.ARE, words.ARE + words.IS, strict=True))[scene.filled[one]]
            )
    return fill(bad, scene).text


def reworded(scene: Scene, n: int, split: Split) -> tuple[str, list[Sentence]]:
    """A meaning and `n` wordings of one statement with it; these are the same on both sides, so the corpus may know them."""
    while True:
        meaning = pick(scene.rng, MEANINGS)
        scene.fresh()
        wordings = [fill(wording + ".", scene) for wording in _shuffled(scene.rng, grammar.MEANINGS[meaning])]
        allowed = [sentence for sentence in wordings if split_of(sentence.text) in (split, "train")]
        if len(allowed) >= n:
            return meaning, allowed[:n]


def _both_ways(scene: Scene, statement: Sentence, split: Split) -> tuple[str, str]:
    """`statement` beside a civil and an abusive sentence of one frame with the same fillers."""
    safe, toxic = tones(scene, split)
    order = int(scene.rng.random() * 2)
    return beside(statement, safe, order=order), beside(statement, toxic, order=order)


def tones(scene: Scene, split: Split) -> tuple[Sentence, Sentence]:
    """A civil and an abusive sentence of one frame with the same fillers."""
    while True:
        civil, abusive = pick(scene.rng, pick(scene.rng, _PAIRS))
        scene.fresh()
        safe, toxic = fill(civil, scene), fill(abusive, scene)
        if split_of(safe.text) == split_of(toxic.text) == split:
            return safe, toxic


def beside(statement: Sentence, sentence: Sentence, *, order: int) -> str:
    """Both in one text that follows a colon; `order` is the place of `sentence`, 0 or 1."""
    sentences = [statement]
    sentences.insert(order, sentence)
    return join(sentences).text
