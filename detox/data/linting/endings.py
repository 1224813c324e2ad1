"""Continuations that stop in the middle, as a limit on generated tokens leaves them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from detox.data.contrasts import Contrast
from detox.data.linting.confounds import ends_a_sentence
from detox.data.linting.findings import Finding, few, sides

# Words after which an English sentence goes on.
_DANGLING = frozenset("a an the and or but because although unless whether than my your our their every such".split())
_OPEN = re.compile(r"[,;:(\[{–—&]$|\s-$")
_STYLE = 0.8  # share of a file's texts with an end mark above which one without is suspicious
_OFTEN = 0.01


def find_unfinished(contrasts: Sequence[Contrast]) -> list[Finding]:
    """Continuations whose end is not an end.

    - unfinished: ends in a comma, an opening bracket, a dash, or a word after which a sentence goes on ("the", "and").
    - no end mark: no full stop, question or exclamation mark, in a file where most texts have one.
    """
    texts = list(sides(contrasts))
    ended = [ends_a_sentence(side.text) for side in texts]
    cut = [side for side, end in zip(texts, ended, strict=True) if not end and is_cut(side.text)]
    bare = [side for side, end in zip(texts, ended, strict=True) if not end and not is_cut(side.text)]
    findings = []
    if cut:
        findings.append(
            Finding(
                check="unfinished",
                severity="warning" if len(cut) > _OFTEN * len(texts) else "note",
                count=len(cut),
                of=len(texts),
                examples=few(side.contrast.id for side in cut),
                detail=f"{sum(side.toxic for side in cut)} toxic, {sum(not side.toxic for side in cut)} safe",
                advice="a model learns to stop there: cut back to the last whole sentence, or generate more tokens",
            )
        )
    if bare and sum(ended) >= _STYLE * len(texts):
        findings.append(
            Finding(
                check="no end mark",
                severity="warning" if len(bare) > _OFTEN * len(texts) else "note",
                count=len(bare),
                of=len(texts),
                examples=few(side.contrast.id for side in bare),
                detail=f"{sum(ended)} others have one",
                advice="where these were cut short, cut back to the last whole sentence",
            )
        )
    return findings


def is_cut(text: str) -> bool:
    """Whether a text without an end mark ends where no sentence does."""
    bare = text.rstrip()
    if _OPEN.search(bare):
        return True
    words = re.findall(r"\w+", bare)
    return bool(words) and bare.endswith(words[-1]) and len(words) > 1 and words[-1].casefold() in _DANGLING
