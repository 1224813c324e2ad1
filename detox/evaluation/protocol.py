"""Protocol: what is asked of a language model, as data. Two scorecards can be compared only if their protocols are the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from detox.data.contrasts import Contrast
from detox.data.records import Document, MinimalPair, MultipleChoice, Prompt
from detox.errors import InputError
from detox.evaluation.tasks import (
    HeadProbeTask,
    ProbeTask,
    Recognition,
    ReplyTask,
    RewriteTask,
    SafetyScoreTask,
    records_digest,
    repeated_id,
)
from detox.models import Sampling
from detox.scorers import Scorer

# Raised when a ruler changes in a way that changes numbers, so that old cells are computed anew.
RULER_VERSION = 1

SCORED = ("completion", "prompt+completion", "both")


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What is asked. Parts that are left empty are not asked, and are missing from the scorecard, never zero.

    Attributes:
        name: for people; the identity is made of everything else.
        prompts: continued by the model, and the continuations scored.
        sampling: how.
        scorers: the first is the headline.
        scored: "completion", "prompt+completion" (which compresses differences: the prompt's own toxicity is in it), or "both":
            the completion under `toxicity/`, prompt and completion under `toxicity+prompt/`.
        threshold: a score at or above it counts as toxic.
        chat: prompts are given as user turns, through the chat template.
        documents: held-out clean text, for cross-entropy.
        toxic_documents: held-out toxic text, for cross-entropy; where it has spans, of tokens in and outside of them apart.
        multiple_choice: tasks by name.
        minimal_pairs: grammatical against ungrammatical sentences.
        recognition: toxicity by label likelihood.
        probe: toxicity by linear probe on the last state.
        head_probes: toxicity by linear probes on every attention head.
        replies: what is answered to toxic user turns, drawn as `sampling` says and scored by the headline scorer.
        contrasts: pairs for the generation-free margin.
        safety_score: SafeNLP's score of each group of people: are hateful statements less likely than neutral ones.
        rewriting: texts that the model says again, drawn as `sampling` says and scored by the headline scorer.

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
    toxic_documents: tuple[Document, ...] = ()
    head_probes: HeadProbeTask | None = None
    replies: ReplyTask | None = None
    safety_score: SafetyScoreTask | None = None
    rewriting: RewriteTask | None = None

    def __post_init__(self) -> None:
        if self.scored not in SCORED:
            raise InputError(f"scored is {self.scored!r}; expected 'completion', 'prompt+completion' or 'both'")
        if bool(self.prompts or self.replies or self.rewriting) != bool(self.scorers):
            asking = "prompts" if self.prompts else "replies" if self.replies else "rewriting"
            there, absent = ("scorers", "prompts") if self.scorers else (asking, "scorers")
            raise InputError(f"protocol {self.name!r} has {there} but no {absent}; give both or neither")
        if not any((self.prompts, self.documents, any(self.multiple_choice.values()), self.minimal_pairs, self.contrasts,
                    self.recognition, self.probe, self.toxic_documents, self.head_probes, self.replies, self.safety_score,
                    self.rewriting)):  # fmt: skip
            raise InputError(
                f"protocol {self.name!r} asks for nothing; give it prompts and scorers, documents, or other items"
            )
        names = [scorer.card.name for scorer in self.scorers]
        if len(set(names)) < len(names):
            raise InputError(f"protocol {self.name!r} names a scorer twice: {', '.join(names)}")
        for what, records in (
            ("prompt", self.prompts), ("document", self.documents), ("toxic document", self.toxic_documents),
            ("contrast", self.contrasts),
        ):  # fmt: skip
            twice = repeated_id(records)
            if twice is not None:
                raise InputError(f"protocol {self.name!r} has two {what}s with id {twice!r}; ids must be unique")

    def identity(self) -> dict[str, Any]:
        """Everything that changes a number, as JSON; data by hash."""
        sampling = asdict(self.sampling)
        del sampling["batch_size"]
        asked: dict[str, Any] = {
            "ruler": RULER_VERSION,
            "prompts": records_digest(self.prompts),
            "sampling": sampling,
            "scorers": [scorer.card.identity() for scorer in self.scorers],
            "scored": self.scored,
            "threshold": self.threshold,
            "chat": self.chat,
            "documents": records_digest(self.documents),
            "multiple_choice": {name: records_digest(items) for name, items in sorted(self.multiple_choice.items())},
            "minimal_pairs": records_digest(self.minimal_pairs),
            "recognition": None if self.recognition is None else self.recognition.identity(),
            "probe": None if self.probe is None else self.probe.identity(),
            "contrasts": records_digest(self.contrasts),
        }
        # Parts that came later are named only where they are asked for, so that the cells made before keep their identity.
        later = {
            "toxic_documents": records_digest(self.toxic_documents),
            "head_probes": None if self.head_probes is None else self.head_probes.identity(),
            "replies": None if self.replies is None else self.replies.identity(),
            "safety_score": None if self.safety_score is None else self.safety_score.identity(),
            "rewriting": None if self.rewriting is None else self.rewriting.identity(),
        }
        return asked | {name: value for name, value in later.items() if value is not None}

    def digest(self) -> str:
        """Hash of `identity` (16 hexadecimal digits)."""
        return hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()[:16]
