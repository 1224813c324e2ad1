"""Documents that begin with how toxic they are: MEDA and INST (Prabhumoye et al. 2023, arXiv 2302.07388).

MEDA puts the raw toxicity score before the text, INST an instruction that says whether the text is toxic. A model trained
so is asked for the low end when it generates: `Condition.safe_prefix()` is what stands before the prompt then. The paper's
own wording was not at hand; the templates here are this package's and can be replaced.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np

from detox.data.records import Document, Span
from detox.errors import InputError, require_known
from detox.pretraining.risk import CONTEXT, Treatment
from detox.scorers.protocol import Scorer, score_texts

Form = Literal["meda", "inst"]
Toxicity = Literal["characters", "any"]
PrefixLoss = Literal["train", "mask"]


def span_toxicity(document: Document, treatment: Treatment, *, by: Toxicity = "characters") -> float:
    """How toxic a document is by its risky spans.

    Args:
        document: text with spans.
        treatment: which spans are risky.
        by: "characters", the part of the characters that is risky, or "any", 1 where there is a risky span.

    Returns:
        In [0, 1]; 0 for an empty document.
    """
    risky = [span for span in document.spans if treatment.is_risky(span)]
    if by == "any" or not risky:
        return float(bool(risky))
    marked = np.zeros(len(document.text), dtype=np.bool_)
    for span in risky:
        marked[span.start : span.end] = True
    return float(marked.mean())


@dataclass(frozen=True, kw_only=True)
class Condition:
    """Put the toxicity of a document before its text.

    Attributes:
        form: "meda" (the score) or "inst" (an instruction).
        share: part of the documents that get a prefix, in [0, 1]; which ones depends on the seed of the mixture and their
            id alone, and a larger share contains the smaller one's. The others are as they were, so that the model also
            meets text without a prefix.
        scorer: measures toxicity where given; a document that it cannot score gets no prefix. None: by risky spans.
        toxicity: of risky spans: "characters", the part of the characters that is risky, or "any", 1 where there is one.
        threshold: INST calls a text toxic above this; by default 0 for spans and 0.5 for a scorer.
        meda_template: a format string with the field `toxicity`.
        inst_toxic: the instruction of a toxic text.
        inst_safe: the instruction of another.
        prefix_loss: "train" (the paper's) gives the prefix a loss like any text; "mask" makes it context alone.

    Raises:
        InputError: a share or threshold outside [0, 1], or a template without `{toxicity}`.
        UnknownName: no such form, toxicity or prefix_loss.
    """

    form: Form
    share: float = 1.0
    scorer: Scorer | None = field(default=None, compare=False)
    toxicity: Toxicity = "characters"
    threshold: float | None = None
    meda_template: str = "toxicity: {toxicity:.1f} "
    inst_toxic: str = "The following text is toxic. "
    inst_safe: str = "The following text is not toxic. "
    prefix_loss: PrefixLoss = "train"

    def __post_init__(self) -> None:
        for name, value, known in (
            ("form of a condition", self.form, get_args(Form)),
            ("toxicity of a condition", self.toxicity, get_args(Toxicity)),
            ("prefix_loss", self.prefix_loss, get_args(PrefixLoss)),
        ):
            require_known(name, value, known)
        if not 0 <= self.share <= 1 or not 0 <= (self.threshold or 0) <= 1:
            raise InputError(
                f"condition: share is {self.share} and threshold {self.threshold}; expected numbers in [0, 1]"
            )
        try:
            shown = {self.meda_template.format(toxicity=toxicity) for toxicity in (0.0, 1.0)}
        except (LookupError, ValueError) as error:
            raise InputError(f"meda_template {self.meda_template!r} cannot be filled in ({error})") from error
        if len(shown) < 2:
            raise InputError(f"meda_template {self.meda_template!r} does not show the score; expected {{toxicity}}")

    def prefix(self, toxicity: float) -> str:
        """What stands before a text of this toxicity, in [0, 1]."""
        if self.form == "meda":
            return self.meda_template.format(toxicity=toxicity)
        return self.inst_toxic if toxicity > self._threshold else self.inst_safe

    def safe_prefix(self) -> str:
        """What to put before a prompt when generating: the prefix of a text that is not toxic at all.

        `Prompting(text=condition.safe_prefix())` does it.
        """
        return self.prefix(0.0)

    def prefixes(self, documents: Sequence[Document], treatment: Treatment, *, seed: int) -> list[str]:
        """What stands before each document: nothing before those not drawn, empty, or without a score.

        Args:
            documents: as they are in the source, with all their spans.
            treatment: which spans are risky.
            seed: of the draw.
        """
        drawn = [bool(document.text.strip()) and self.draws(document.id, seed=seed) for document in documents]
        asked = [document for document, is_drawn in zip(documents, drawn, strict=True) if is_drawn]
        values = iter(self._toxicities(asked, treatment))
        toxicities = [next(values) if is_drawn else math.nan for is_drawn in drawn]
        return ["" if math.isnan(toxicity) else self.prefix(toxicity) for toxicity in toxicities]

    def prefixed(self, document: Document, prefix: str) -> Document:
        """The document with `prefix` before its text and its spans moved with the text."""
        if not prefix:
            return document
        shift = len(prefix)
        spans = tuple(Span(span.start + shift, span.end + shift, span.kind) for span in document.spans)
        if self.prefix_loss == "mask":
            spans = (Span(0, shift, CONTEXT), *spans)
        return replace(document, text=prefix + document.text, spans=spans)

    def draws(self, document_id: str, *, seed: int) -> bool:
        """Whether the document of this id is one of the share."""
        digest = hashlib.sha256(f"{seed}\n{document_id}".encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:8], "big") < self.share * 2**64

    def card(self) -> dict[str, Any]:
        """What a record says of it: every field that changes the text, as JSON."""
        card = asdict(replace(self, scorer=None)) | {"threshold": self._threshold, "safe_prefix": self.safe_prefix()}
        return card | {"scorer": None if self.scorer is None else dict(self.scorer.card.identity())}

    @property
    def _threshold(self) -> float:
        if self.threshold is not None:
            return self.threshold
        return 0.0 if self.scorer is None else 0.5

    def _toxicities(self, documents: Sequence[Document], treatment: Treatment) -> list[float]:
        """In [0, 1]; NaN where the scorer could not say."""
        if self.scorer is not None:
            return [score.value for score in score_texts(self.scorer, [document.text for document in documents])]
        return [span_toxicity(document, treatment, by=self.toxicity) for document in documents]
