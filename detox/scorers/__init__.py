"""How toxic is a text: one protocol, several scorers, each of which says what it was trained on.

The protocol is light; the scorers are loaded when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from detox.scorers.protocol import Score, Scorer, ScorerCard, score_texts

_HOMES = {
    "load_scorer": "detox.scorers.loading",
    "ProfanityScorer": "detox.scorers.profanity",
    "ClassifierScorer": "detox.scorers.classifier",
    "PRESETS": "detox.scorers.presets",
    "PerspectiveScorer": "detox.scorers.perspective",
    "ReplayScorer": "detox.scorers.perspective",
    "TrainedScorer": "detox.scorers.trained",
    "train_scorer": "detox.scorers.training",
    "train_default": "detox.scorers.training",
    "WordListScorer": "detox.scorers.wordlist",
    "check_scorer": "detox.scorers.checking",
    "overlap": "detox.scorers.independence",
    "scorer_agreement": "detox.scorers.reliability",
    "scorer_quality": "detox.scorers.reliability",
}

__all__ = [
    "PRESETS",
    "ClassifierScorer",
    "PerspectiveScorer",
    "ProfanityScorer",
    "ReplayScorer",
    "Score",
    "Scorer",
    "ScorerCard",
    "TrainedScorer",
    "WordListScorer",
    "check_scorer",
    "load_scorer",
    "overlap",
    "score_texts",
    "scorer_agreement",
    "scorer_quality",
    "train_default",
    "train_scorer",
]

if TYPE_CHECKING:
    from detox.scorers.checking import check_scorer as check_scorer
    from detox.scorers.classifier import ClassifierScorer as ClassifierScorer
    from detox.scorers.independence import overlap as overlap
    from detox.scorers.loading import load_scorer as load_scorer
    from detox.scorers.perspective import PerspectiveScorer as PerspectiveScorer
    from detox.scorers.perspective import ReplayScorer as ReplayScorer
    from detox.scorers.presets import PRESETS as PRESETS
    from detox.scorers.profanity import ProfanityScorer as ProfanityScorer
    from detox.scorers.reliability import scorer_agreement as scorer_agreement
    from detox.scorers.reliability import scorer_quality as scorer_quality
    from detox.scorers.trained import TrainedScorer as TrainedScorer
    from detox.scorers.training import train_default as train_default
    from detox.scorers.training import train_scorer as train_scorer
    from detox.scorers.wordlist import WordListScorer as WordListScorer


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'detox.scorers' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
