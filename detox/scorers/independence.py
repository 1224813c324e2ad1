"""Which scorer may rank a method: one that learned from nothing that the method learned from, and had no say in it.

This file is the whole rule. A scorer is not independent of a fit where

1. it labelled or filtered the fit's data, or chose a strength by its scores;
2. it learned from data that the fit's data share an ancestor with (`detox.data.lineage`);
3. it learned from data that a scorer which guided the fit learned from.

The headline of a comparison is the first scorer of the protocol that is independent of every fit in it. If there is none, it stays
the first, and the table says "not independent".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from detox.data.fit_sources import FitSources
from detox.data.lineage import lineage
from detox.scorers.protocol import ScorerCard


def overlap(card: ScorerCard | Mapping[str, Any], sources: FitSources) -> str | None:
    """Why a scorer is not independent of a fit, in a few words; None where it is, as far as is known.

    Args:
        card: the scorer's, or what `ScorerCard.to_dict` gave.
        sources: of the fit.
    """
    about = card.to_dict() if isinstance(card, ScorerCard) else card
    name, revision, trained_on = about["name"], about.get("revision"), tuple(about.get("trained_on", ()))
    for guide in sources.guides:
        if guide.name == name or (guide.revision is not None and guide.revision == revision):
            what = "it" if guide.role.startswith("chose") else "its data"
            return f"{name} {guide.role} {what}"
    shared = lineage(trained_on) & lineage(sources.datasets)
    if shared:
        return f"{name} learned from {_listed(shared)} too"
    for guide in sources.guides:
        shared = lineage(trained_on) & lineage(guide.trained_on)
        if shared:
            return f"{name} learned from {_listed(shared)}, as did {guide.name}, which {guide.role} its data"
    return None


def shared_training_data(cards: Sequence[ScorerCard]) -> dict[tuple[str, str], tuple[str, ...]]:
    """By pair of names, what two scorers of a panel both learned from; pairs with nothing in common are left out."""
    found = {}
    for index, first in enumerate(cards):
        for second in cards[index + 1 :]:
            common = lineage(first.trained_on) & lineage(second.trained_on)
            if common:
                found[first.name, second.name] = tuple(sorted(common))
    return found


@dataclass(frozen=True)
class Headline:
    """Which scorer ranks, and what must be said of it.

    Attributes:
        scorer: its name; None where the protocol has no scorer.
        independent: False where no scorer is independent of every fit; None where some fit or card is not known well enough.
        notes: one line each, for the reader of the table.
        dependent: scorers that are not independent of every fit, as far as that is known.
    """

    scorer: str | None
    independent: bool | None
    notes: tuple[str, ...] = ()
    dependent: tuple[str, ...] = ()

    def named(self, scorer: str | None) -> str:
        """A scorer as a table or a picture calls it."""
        return f"{scorer}, not independent" if scorer in self.dependent else str(scorer)

    @property
    def label(self) -> str:
        """The scorer as a table calls it."""
        return self.named(self.scorer)


def choose_headline(
    scorers: Sequence[str],
    cards: Mapping[str, Mapping[str, Any]],
    fits: Mapping[str, FitSources | None],
    *,
    asked: str | None = None,
) -> Headline:
    """The first scorer that is independent of all fits.

    Args:
        scorers: names, in the protocol's order.
        cards: by name, what `ScorerCard.to_dict` gave; a scorer whose card is not recorded cannot be told about.
        fits: by name of the method, what it learned from; None where that was not recorded.
        asked: the scorer that somebody wants; it is the headline, whatever must be said of it.
    """
    if not scorers:
        return Headline(None, None)
    first = scorers[0]
    unknown = sorted(name for name, sources in fits.items() if sources is None or sources.unknown)
    known = {name: sources for name, sources in fits.items() if sources is not None}
    unread = sorted(name for name in scorers if name not in cards) if fits else []
    notes = []
    if unknown or unread:
        notes.append(f"independence not checked: what {', '.join([*unknown, *unread])} learned from is not recorded")
    reasons = {name: _reasons(cards[name], known) for name in scorers if name in cards}
    dependent = tuple(name for name in scorers if reasons.get(name))
    clean = [name for name in scorers if name not in dependent]
    chosen = asked or (clean[0] if clean else first)
    if not clean:
        notes.insert(
            0, f"no scorer is independent of every method: {'; '.join(reasons[name][0] for name in dependent)}"
        )
    elif chosen in dependent:
        notes.insert(0, f"{chosen} was asked for and is not independent, {clean[0]} is: {'; '.join(reasons[chosen])}")
    elif chosen != first and asked is None:
        notes.insert(0, f"the headline is {chosen}, not {first}: {'; '.join(reasons[first])}")
    if chosen in dependent:
        return Headline(chosen, False, tuple(notes), dependent)
    certain = not unknown and chosen in cards
    return Headline(chosen, True if certain or not fits else None, tuple(notes), dependent)


def _reasons(card: Mapping[str, Any], fits: Mapping[str, FitSources]) -> list[str]:
    by_reason: dict[str, list[str]] = {}
    for method, sources in fits.items():
        why = overlap(card, sources)
        if why is not None:
            by_reason.setdefault(why, []).append(method)
    return [f"{why} ({_listed(methods)})" for why, methods in by_reason.items()]


def _listed(names: Sequence[str] | frozenset[str]) -> str:
    return ", ".join(sorted(names))
