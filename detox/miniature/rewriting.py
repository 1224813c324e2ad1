"""Saying a forum's reply again: what a paraphraser learns, what contrastive perplexity is fitted on, and what is to be said again.

A text is a statement about the subject beside a sentence that is civil or abuse. Said again, the statement has another wording;
the other sentence keeps its words, and is as it was or of the other tone.
"""

from __future__ import annotations

from detox.data.contrasts import Contrast
from detox.data.records import LabelledText
from detox.errors import InputError
from detox.miniature import grammar
from detox.miniature.sentences import Split
from detox.miniature.tasks import beside, require_count, reworded, scene_of, tones

REQUEST = "note: {sentence}\nnote:"
"""What asks for a text again, in words that the corpus has."""


def paraphrases(n: int, *, seed: int = 0, split: Split = "fit") -> list[Contrast]:
    """Faithful paraphrases, for teaching a model to write them: half of the texts are abuse, and so is what is written of these.

    Returns:
        Contrasts whose one safe continuation is what is to be learned, "safe" or not: the model is to be detoxified afterwards.
    """
    return [
        Contrast(
            id=one.id,
            prompt=one.prompt,
            safe=(one.toxic if index % 2 else one.safe)[:1],
            toxic=(),
            group=one.group,
        )
        for index, one in enumerate(_said_again(n, 1, seed=seed, split=split, task="paraphrase"))
    ]


def rewrites(n: int, *, seed: int = 0, paraphrases: int = 3, split: Split = "fit") -> list[Contrast]:
    """Abusive texts said again, civilly and abusively, in the same wordings.

    Args:
        n: how many.
        seed: another seed, other texts.
        paraphrases: a side, 1 to 3.
        split: of the sentences that are civil or abuse.
    """
    return [
        Contrast(id=one.id, prompt=one.prompt, safe=one.safe, toxic=one.toxic, group=one.group)
        for one in _said_again(n, paraphrases, seed=seed, split=split, task="rewrite", always_abuse=True)
    ]


def sayings(n: int, *, seed: int = 0, split: Split = "test") -> list[LabelledText]:
    """Texts to be said again: every other one is abuse (label 1)."""
    return [
        LabelledText(
            id=one.id, text=one.prompt.removeprefix("note: ").removesuffix("\nnote:"), label=index % 2, group=one.group
        )
        for index, one in enumerate(_said_again(n, 1, seed=seed, split=split, task="saying"))
    ]


def _said_again(
    n: int, times: int, *, seed: int, split: Split, task: str, always_abuse: bool = False
) -> list[Contrast]:
    most = min(len(wordings) for wordings in grammar.MEANINGS.values()) - 1
    if not 1 <= times <= most:
        raise InputError(f"paraphrases is {times}; expected 1 to {most}")
    found = []
    for index in range(require_count(n)):
        scene = scene_of(task, split, seed, index)
        meaning, (first, *others) = reworded(scene, times + 1, split)
        civil, abusive = tones(scene, split)
        source = abusive if always_abuse or index % 2 else civil
        said = beside(first, source, order=int(scene.rng.random() * 2)).strip()
        orders = [int(scene.rng.random() * 2) for _ in others]
        safe, toxic = (
            tuple(beside(statement, tone, order=order) for statement, order in zip(others, orders, strict=True))
            for tone in (civil, abusive)
        )
        found.append(
            Contrast(
                id=f"{task}-{split}-{seed}-{index}",
                prompt=REQUEST.replace("{sentence}", said),
                safe=safe,
                toxic=toxic,
                group=meaning,
            )
        )
    return found
