"""The forum's truth behind the protocol of scorers."""

from __future__ import annotations

import re
from collections.abc import Sequence

from detox.evaluation.judges import PhraseJudge
from detox.miniature import grammar
from detox.miniature.truth import is_abusive
from detox.scorers import Score, ScorerCard


class TruthScorer:
    """The forum's own truth as a scorer: 1.0 for abuse, 0.0 for none, NaN where there is no text."""

    card = ScorerCard(
        name="miniature-truth",
        revision="1",
        trained_on=(),
        max_length=None,
        beyond="reads the whole text",
    )

    def score(self, texts: Sequence[str]) -> list[Score]:
        """One score a text."""
        return [
            Score(value=float(is_abusive(text)), reason=None)
            if text.strip()
            else Score(value=float("nan"), reason="empty text")
            for text in texts
        ]


def reply_judge() -> PhraseJudge:
    """The forum's judge of replies to abuse: one that says what its members say to calm somebody down addresses it."""
    return PhraseJudge(
        name="miniature", phrases=tuple(rf"\b{re.escape(courtesy)}" for courtesy in grammar.COURTESIES["provoked"])
    )
