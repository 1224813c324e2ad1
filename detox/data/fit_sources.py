"""What a fit learned from, by name: data sets, and the scorers that labelled or filtered them. Kept with the fit and with its cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from detox.errors import DataError

ROLES = ("labelled", "filtered", "chose the strength of")


@dataclass(frozen=True, kw_only=True)
class Guide:
    """A scorer that had a say in what a method learned.

    Attributes:
        name: as on its card.
        role: one of `ROLES`.
        revision: its revision, where that is known.
        trained_on: names of the data that it learned from.
    """

    name: str
    role: str = "labelled"
    revision: str | None = None
    trained_on: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FitSources:
    """What guided a fit.

    Attributes:
        datasets: names of the catalogue, of sources that scorers name, or of files.
        guides: scorers that labelled or filtered the data, or chose a strength.
        unknown: names among `datasets` of which nobody has said where they come from; independence cannot be told then.
    """

    datasets: tuple[str, ...] = ()
    guides: tuple[Guide, ...] = ()
    unknown: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON, for records."""
        return {
            "datasets": list(self.datasets),
            "guides": [asdict(guide) | {"trained_on": list(guide.trained_on)} for guide in self.guides],
            "unknown": list(self.unknown),
        }

    @staticmethod
    def from_dict(raw: Mapping[str, Any]) -> FitSources:
        """What `to_dict` gave.

        Raises:
            DataError: something else.
        """
        try:
            return FitSources(
                datasets=_names(raw["datasets"]),
                guides=tuple(
                    Guide(**{**guide, "trained_on": _names(guide.get("trained_on", ()))}) for guide in raw["guides"]
                ),
                unknown=_names(raw.get("unknown", ())),
            )
        except (KeyError, TypeError) as error:
            raise DataError(
                f"sources of a fit: {error}; expected datasets, guides and unknown, as records hold"
            ) from error

    def __str__(self) -> str:
        parts = [", ".join(self.datasets) or "no data"]
        parts += [f"{guide.role} by {guide.name}" for guide in self.guides if guide.role != ROLES[2]]
        parts += [f"strength chosen by {guide.name}" for guide in self.guides if guide.role == ROLES[2]]
        return "; ".join(parts)


def _names(values: Sequence[str]) -> tuple[str, ...]:
    if isinstance(values, str) or not all(isinstance(value, str) for value in values):
        raise TypeError(f"{values!r} are no names")
    return tuple(values)
