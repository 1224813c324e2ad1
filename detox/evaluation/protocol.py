"""Protocol: what is asked of a language model, as data. Two scorecards can be compared only if their protocols are the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from detox.data.contrasts import Contrast
from detox.data.records import Document, LabelledText, MinimalPair, MultipleChoice, Prompt
from detox.errors import InputError
from detox.models import Sampling
from detox.scorers import Scorer

# Raised when a ruler changes in a way that changes numbers, so that old cells are computed anew.
RULER_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Recognition:
    """Does the model still recognise toxicity: which of two labels does it find likelier after a text.

    Attributes:
        items: labelled texts.
        template: "{text}" in it is replaced by the text.
        toxic, safe: the two labels, as they would stand after the template (with their leading blank).
    """

    items: tuple[LabelledText, ...]
    template: str = "{text}"
    toxic: str = " Yes"
    safe: str = " No"

    def __post_init__(self) -> None:
        if "{text}" not in self.template:
            raise InputError(f"recognition template {self.template!r} has no {{text}} in it")


@dataclass(frozen=True, kw_only=True)
class ProbeTask:
    """Can toxicity be read off the model's last state: a linear probe, fitted on one set of texts and judged on another."""

    train: tuple[LabelledText, ...]
    test: tuple[LabelledText, ...]


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What is asked. Parts that are left empty are not asked, and are missing from the scorecard, never zero.

    Attributes:
        name: for people; the identity is made of everything else.
        prompts: continued by the model, and the continuations scored.
        sampling: how.
        scorers: the first is the headline.
        scored: "completion", or "prompt+completion" (which compresses differences: the prompt's own toxicity is in it).
        threshold: a score at or above it counts as toxic.
        chat: prompts are given as user turns, through the chat template.
        documents: held-out clean text, for cross-entropy.
        multiple_choice: tasks by name.
        minimal_pairs: grammatical against ungrammatical sentences.
        recognition: toxicity by label likelihood.
        probe: toxicity by linear probe on the last state.
        contrasts: pairs for the generation-free margin.

    Raises:
        InputError: it asks for nothing, or for what does not fit together.
    """

    name: str
    prompts: tuple[Prompt, ...] = ()
    sampling: Sampling = field(default_factory=Sampling)
    scorers: tuple[Scorer, ...] = ()
    scored: str = "completion"
    threshold: float = 0.5
    chat: bool = False
    documents: tuple[Document, ...] = ()
    multiple_choice: Mapping[str, tuple[MultipleChoice, ...]] = field(default_factory=dict)
    minimal_pairs: tuple[MinimalPair, ...] = ()
    recognition: Recognition | None = None
    probe: ProbeTask | None = None
    contrasts: tuple[Contrast, ...] = ()

    def __post_init__(self) -> None:
        if self.scored not in ("completion", "prompt+completion"):
            raise InputError(f"scored is {self.scored!r}; expected 'completion' or 'prompt+completion'")
        if bool(self.prompts) != bool(self.scorers):
            there, absent = ("prompts", "scorers") if self.prompts else ("scorers", "prompts")
            raise InputError(f"protocol {self.name!r} has {there} but no {absent}; give both or neither")
        if not any((self.prompts, self.documents, any(self.multiple_choice.values()), self.minimal_pairs, self.contrasts,
                    self.recognition, self.probe)):  # fmt: skip
            raise InputError(
                f"protocol {self.name!r} asks for nothing; give it prompts and scorers, documents, or other items"
            )
        names = [scorer.card.name for scorer in self.scorers]
        if len(set(names)) < len(names):
            raise InputError(f"protocol {self.name!r} names a scorer twice: {', '.join(names)}")
        for what, records in (("prompt", self.prompts), ("document", self.documents), ("contrast", self.contrasts)):
            ids = [record.id for record in records]
            twice = next((i for i in ids if ids.count(i) > 1), None) if len(set(ids)) < len(ids) else None
            if twice is not None:
                raise InputError(f"protocol {self.name!r} has two {what}s with id {twice!r}; ids must be unique")

    def identity(self) -> dict[str, Any]:
        """Everything that changes a number, as JSON; data by hash."""
        sampling = asdict(self.sampling)
        del sampling["batch_size"]
        return {
            "ruler": RULER_VERSION,
            "prompts": _digest(self.prompts),
            "sampling": sampling,
            "scorers": [scorer.card.identity() for scorer in self.scorers],
            "scored": self.scored,
            "threshold": self.threshold,
            "chat": self.chat,
            "documents": _digest(self.documents),
            "multiple_choice": {name: _digest(items) for name, items in sorted(self.multiple_choice.items())},
            "minimal_pairs": _digest(self.minimal_pairs),
            "recognition": None
            if self.recognition is None
            else [
                _digest(self.recognition.items),
                self.recognition.template,
                self.recognition.toxic,
                self.recognition.safe,
            ],
            "probe": None if self.probe is None else [_digest(self.probe.train), _digest(self.probe.test)],
            "contrasts": _digest(self.contrasts),
        }

    def digest(self) -> str:
        """Hash of `identity` (16 hexadecimal digits)."""
        return hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()[:16]


def _digest(records: Iterable[Any]) -> str | None:
    rows = [json.dumps(asdict(record), sort_keys=True) for record in records]
    return hashlib.sha256("\n".join(rows).encode(errors="surrogatepass")).hexdigest()[:16] if rows else None
