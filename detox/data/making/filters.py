"""Which paraphrases are kept: not a copy, of like length, of like meaning, and on the right side of toxicity.

Toxicity is judged by two scorers or more, none of which is the one that the result will be reported by: pairs that were chosen by a
scorer flatter a model that is judged by it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from detox.data.making.similarity import Embedder, cosines
from detox.data.subsets import normalised
from detox.errors import InputError, require_known
from detox.scorers.protocol import Scorer, ScorerCard, score_texts

COPY, BOTH_SIDES, REPEAT = "copy", "both sides", "repeat"
LENGTH, SIMILARITY, TOXICITY, UNSCORED = "length", "similarity", "toxicity", "unscored"

REPEATS = (COPY, BOTH_SIDES, REPEAT)
"""Told by the text alone: says the same words as its seed, as a text of the other side, as an earlier one of its own."""

MEANINGS = (LENGTH, SIMILARITY, TOXICITY, UNSCORED)
"""Told by measurement. "unscored" is a text whose toxicity a scorer cannot tell, where that is needed."""

RULES = ("any", "all")


class Candidate(NamedTuple):
    """A paraphrase that may be kept: of what group and side, and the sentence whose paraphrase it is."""

    group: str
    side: str
    anchor: str
    text: str


class Verdict(NamedTuple):
    """What is wrong with a candidate (names of all filters that it fails, in their order), and what was measured."""

    failed: tuple[str, ...]
    similarity: float | None
    called_toxic_by: tuple[str, ...]


def repeats(candidates: Sequence[Candidate], *, across_groups: bool = False) -> list[str | None]:
    """For each candidate the one of `REPEATS` that it fails, or None. Case, punctuation and spacing make no difference.

    Args:
        candidates: in their order; of a text that repeats, the first stays.
        across_groups: the paraphrases of other seeds count too.
    """
    keys = [("" if across_groups else one.group, normalised(one.text)) for one in candidates]
    sides: dict[tuple[str, str], set[str]] = {}
    for one, key in zip(candidates, keys, strict=True):
        sides.setdefault(key, set()).add(one.side)
    seen: set[tuple[str, str]] = set()
    found: list[str | None] = []
    for one, key in zip(candidates, keys, strict=True):
        if key[1] == normalised(one.anchor):
            found.append(COPY)
        elif len(sides[key]) > 1:
            found.append(BOTH_SIDES)
        elif key in seen:
            found.append(REPEAT)
        else:
            found.append(None)
        seen.add(key)
    return found


def require_other_than(headline: ScorerCard, scorers: Sequence[Scorer]) -> list[str]:
    """Refuse to choose pairs by the scorer that results will be reported by.

    Returns:
        Names of data that a scorer of the filter has in common with the headline: not forbidden, but to be known.

    Raises:
        InputError: one of `scorers` is the headline scorer.
    """
    for scorer in scorers:
        if scorer.card.name == headline.name or scorer.card.identity() == headline.identity():
            raise InputError(
                f"scorer {scorer.card.name!r} filters and is the headline too; filter by others than the one that is reported"
            )
    return sorted({name for scorer in scorers for name in scorer.card.trained_on} & set(headline.trained_on))


@dataclass(frozen=True, kw_only=True)
class Filters:
    """What a paraphrase is measured by.

    Attributes:
        scorers: of toxicity; two or more.
        embedder: of sentences; None leaves similarity out, which the record then says.
        toxic_above: a text is called toxic by a scorer that gives this score or a higher one.
        toxic_by: "any": a toxic paraphrase must be called toxic by one scorer at least; "all": by each. A safe one by none.
        min_similarity: cosine to the seed, at least. On the training pairs of ParaDetox and APPDIA 99 % of pairs of two different
            sentences stay below .35, and about 95 % of the true ones are above .4.
        min_length, max_length: characters, in those of the seed.

    Raises:
        InputError: fewer than two scorers, two of the same name, numbers out of order.
        UnknownName: another rule.
    """

    scorers: tuple[Scorer, ...]
    embedder: Embedder | None
    toxic_above: float = 0.5
    toxic_by: str = "any"
    min_similarity: float = 0.4
    min_length: float = 0.5
    max_length: float = 2.0

    def __post_init__(self) -> None:
        names = [scorer.card.name for scorer in self.scorers]
        if len(set(names)) < 2 or len(set(names)) < len(names):
            raise InputError(f"scorers {', '.join(names) or 'none'}; expected two different ones or more")
        require_known("rule of toxicity", self.toxic_by, RULES)
        if not 0 < self.toxic_above <= 1:
            raise InputError(f"toxic_above is {self.toxic_above}; expected a score in (0, 1]")
        if not -1 <= self.min_similarity <= 1:
            raise InputError(f"min_similarity is {self.min_similarity}; expected a cosine in [-1, 1]")
        if not 0 <= self.min_length <= 1 <= self.max_length:
            raise InputError(
                f"lengths from {self.min_length} to {self.max_length} of the seed's; expected a range around 1"
            )

    def judge(self, candidates: Sequence[Candidate]) -> list[Verdict]:
        """Measure each candidate; `REPEATS` are not looked at."""
        texts = [one.text for one in candidates]
        similarities = (
            None if self.embedder is None else cosines(self.embedder, texts, [one.anchor for one in candidates])
        )
        unique = list(dict.fromkeys(texts))
        scores: dict[str, list[float]] = {text: [] for text in unique}
        for scorer in self.scorers:
            for text, score in zip(unique, score_texts(scorer, unique), strict=True):
                scores[text].append(score.value)
        verdicts = []
        for index, one in enumerate(candidates):
            similarity = None if similarities is None else float(similarities[index])
            failed = (
                LENGTH if not self.min_length <= len(one.text) / max(1, len(one.anchor)) <= self.max_length else None,
                SIMILARITY if similarity is not None and not similarity >= self.min_similarity else None,
                self._toxicity(one.side, scores[one.text]),
            )
            toxic_by = tuple(
                scorer.card.name
                for scorer, score in zip(self.scorers, scores[one.text], strict=True)
                if score >= self.toxic_above
            )
            verdicts.append(Verdict(tuple(name for name in failed if name), similarity, toxic_by))
        return verdicts

    def _toxicity(self, side: str, scores: list[float]) -> str | None:
        known = [score >= self.toxic_above for score in scores if not math.isnan(score)]
        unknown = len(known) < len(scores)
        if side == "safe":
            return TOXICITY if any(known) else UNSCORED if unknown else None
        if self.toxic_by == "any":
            return None if any(known) else UNSCORED if unknown else TOXICITY
        return TOXICITY if not all(known) else UNSCORED if unknown else None

    def describe(self) -> dict[str, Any]:
        """Settings, scorers and embedder, as JSON."""
        return {
            "order": [*REPEATS, *MEANINGS],
            "length": {"least": self.min_length, "most": self.max_length},
            "similarity": None
            if self.embedder is None
            else {"least": self.min_similarity, "embedder": dict(self.embedder.identity())},
            "toxicity": {
                "toxic_above": self.toxic_above,
                "toxic_by": self.toxic_by,
                "scorers": [_without_quality(scorer.card.to_dict()) for scorer in self.scorers],
            },
        }


def _without_quality(card: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in card.items() if key != "quality"}
