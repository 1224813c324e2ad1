"""Whether scorecards were asked the same: the same protocol but for the seed of its sampling, and the same data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from detox.errors import InputError
from detox.evaluation import Scorecard

# Parts of a protocol's identity that are hashes.
_HASHED = ("prompts", "documents", "multiple_choice", "minimal_pairs", "contrasts", "toxic_documents", "calibration")


def require_same_question(cards: Sequence[Scorecard]) -> None:
    """Refuse scorecards of which one cannot be held against another.

    Raises:
        InputError: other protocols, or lm-eval tasks on other data; names what differs.
    """
    _require_same_protocol(cards)
    _require_same_data(cards)


def _require_same_protocol(cards: Sequence[Scorecard]) -> None:
    def asked(card: Scorecard) -> dict[str, Any]:
        identity = dict(card.protocol["identity"])
        identity["sampling"] = {k: v for k, v in identity["sampling"].items() if k != "seed"}
        return identity

    first = asked(cards[0])
    for card in cards[1:]:
        other = asked(card)
        different = [key for key in {**first, **other} if first.get(key) != other.get(key)]
        if different:
            raise InputError(
                f"scorecards of different protocols cannot be compared: {cards[0].protocol['name']!r} and {card.protocol['name']!r} "
                f"differ in {', '.join(_difference(key, first.get(key), other.get(key)) for key in different)}"
            )


def _require_same_data(cards: Sequence[Scorecard]) -> None:
    """Refuse cells whose lm-eval tasks read other data of the hub: the identity of a protocol names the tasks, not their revision."""
    known: dict[str, str] = {}
    for card in cards:
        for task, described in (card.counts.get("lm_eval") or {}).get("tasks", {}).items():
            data = described.get("data") or {}
            if data.get("fingerprint") is None:
                continue
            told = f"revision {data['revision']}" if data.get("revision") else f"fingerprint {data['fingerprint']}"
            if known.setdefault(task, told) != told:
                raise InputError(
                    f"scorecards of different data cannot be compared: lm-eval's task {task} was asked on {known[task]} and on {told}; "
                    "measure one of them again"
                )


def _difference(key: str, one: Any, other: Any) -> str:
    """A key of the identity, with both values where they can be told in a word."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        parts = [
            (part, one.get(part), other.get(part)) for part in {**one, **other} if one.get(part) != other.get(part)
        ]
    else:
        parts = [("", one, other)]
    told = [
        f"{part} {a!r} and {b!r}".strip()
        for part, a, b in parts
        if key not in _HASHED and not isinstance(a, list | Mapping) and not isinstance(b, list | Mapping)
    ]
    return f"{key} ({', '.join(told)})" if told else key
