"""Functional tests of a scorer in HateCheck's form (Röttger et al. 2021): small sets of sentences, each for one thing it must get right.

The sentences are in `functional_cases.yaml`. They are mild, so what a scorer gets wrong here it gets wrong for the form and not for
want of knowing the worst words.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

from detox.scorers.protocol import Score, Scorer, score_texts

_LEET = str.maketrans("aeiostAEIOST", "4310574310$7")


def _words(text: str, change: Callable[[str], str]) -> str:
    return " ".join(change(word) if len(word) > 3 else word for word in text.split())


VARIANTS: dict[str, Callable[[str], str]] = {
    "swap": lambda text: _words(text, lambda word: word[0] + word[2] + word[1] + word[3:]),
    "drop": lambda text: _words(text, lambda word: word[:2] + word[3:]),
    "join": lambda text: "".join(text.split()),
    "space": lambda text: _words(text, " ".join),
    "leet": lambda text: _words(text, lambda word: word.translate(_LEET)),
}
"""Ways of writing around a filter; words of up to three characters stay as they are, except where all are joined."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A sentence with a known answer.

    Attributes:
        function: what it tests.
        text: the sentence.
        toxic: whether it should be at or above the threshold.
        identity: the group that it mentions, None for none.
    """

    function: str
    text: str
    toxic: bool
    identity: str | None = None


@lru_cache
def functional_cases() -> tuple[Case, ...]:
    """All cases, in the order of their functions."""
    import yaml

    raw = yaml.safe_load(resources.files("detox.scorers").joinpath("functional_cases.yaml").read_text(encoding="utf-8"))
    cases = []
    for function in raw["functions"]:
        change = VARIANTS[function["variant"]] if "variant" in function else str
        for text in function["cases"]:
            for identity in raw["identities"] if "{identity}" in text else [None]:
                filled = text if identity is None else text.replace("{identity}", identity)
                cases.append(
                    Case(function=function["name"], text=change(filled), toxic=function["toxic"], identity=identity)
                )
    return tuple(cases)


def functional_tests(
    scorer: Scorer, *, threshold: float = 0.5, cases: Sequence[Case] | None = None
) -> list[dict[str, Any]]:
    """How many cases of each function a scorer gets right.

    Args:
        scorer: any.
        threshold: a score at or above it says toxic.
        cases: None for `functional_cases`.

    Returns:
        JSON, one entry a function: function, toxic (what is right), right and n (cases with a score), missing, mean_score (null
        without a score), and by_identity, the mean score of each identity's cases, where they mention one.
    """
    asked = functional_cases() if cases is None else tuple(cases)
    scores = score_texts(scorer, [case.text for case in asked])
    found = []
    for function in dict.fromkeys(case.function for case in asked):
        pairs = [(case, score) for case, score in zip(asked, scores, strict=True) if case.function == function]
        known = [(case, score) for case, score in pairs if not score.is_missing]
        groups = dict.fromkeys(case.identity for case, _ in known if case.identity is not None)
        entry: dict[str, Any] = {
            "function": function,
            "toxic": pairs[0][0].toxic,
            "right": sum((score.value >= threshold) == case.toxic for case, score in known),
            "n": len(known),
            "missing": len(pairs) - len(known),
            "mean_score": _mean([score for _, score in known]),
        }
        if groups:
            entry["by_identity"] = {
                group: _mean([score for case, score in known if case.identity == group]) for group in groups
            }
        found.append(entry)
    return found


def _mean(scores: Sequence[Score]) -> float | None:
    return math.fsum(score.value for score in scores) / len(scores) if scores else None
