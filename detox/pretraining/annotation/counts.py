"""What an annotation found, in numbers that add up over parts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

_EXAMPLES = 10


@dataclass
class AnnotationCounts:
    """What an annotation found. Counts of parts add up: `counts += other`.

    Attributes:
        documents: annotated; `empty_documents` of them have no character.
        characters: of these documents.
        characters_by_kind: characters inside spans, by kind; kinds may overlap.
        sentences: asked of a scorer; 0 for other annotators.
        sentences_by_band: "risky", "middle", "safe" and "unscored" add up to `sentences`.
        unscored: sentences that could not be scored, by the scorer's reason.
        unscored_examples: the first of them: document and characters, never the text.
        invalid: rows and documents that were skipped.
        invalid_examples: what was wrong with the first of them.
    """

    documents: int = 0
    empty_documents: int = 0
    characters: int = 0
    characters_by_kind: Counter[str] = field(default_factory=Counter)
    sentences: int = 0
    sentences_by_band: Counter[str] = field(default_factory=Counter)
    unscored: Counter[str] = field(default_factory=Counter)
    unscored_examples: list[str] = field(default_factory=list)
    invalid: int = 0
    invalid_examples: list[str] = field(default_factory=list)

    def add_invalid(self, line: str) -> None:
        """Count one that was skipped, and keep why if it is among the first."""
        self.invalid += 1
        self.invalid_examples = [*self.invalid_examples, line][:_EXAMPLES]

    def add_unscored(self, reason: str, where: str) -> None:
        """Count one sentence that could not be scored."""
        self.unscored[reason] += 1
        if len(self.unscored_examples) < _EXAMPLES:
            self.unscored_examples.append(f"{where}: {reason}")

    def __iadd__(self, other: AnnotationCounts) -> AnnotationCounts:
        for name, value in vars(other).items():
            mine = getattr(self, name) + value
            setattr(self, name, mine[:_EXAMPLES] if isinstance(mine, list) else mine)
        return self

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            key: dict(sorted(value.items())) if isinstance(value, dict) else value for key, value in vars(self).items()
        }

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> AnnotationCounts:
        """From what `to_dict` gave."""
        parts: dict[str, Any] = {key: Counter(part) if isinstance(part, dict) else part for key, part in value.items()}
        return cls(**parts)
