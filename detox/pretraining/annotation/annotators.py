"""Risk labels on documents: from a scorer of sentences, from a word list, from spans that are there already.

    annotator = SentenceAnnotator(load_scorer("profanity"), toxic_above=0.9, middle_above=0.1)
    for document in annotate(documents, annotator):
        document.spans  # risky sentences of kind "toxic", the middle band of kind "toxic:middle"

A scorer has three bands, as in selective loss (Wang et al. 2025): risky above one threshold, safe up to another, and a
middle between them. The middle band gets a kind of its own, so that its policy (train on it, mask it, drop it) is
chosen when training and the same labels serve every policy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, get_args

from detox.data.jsonl import unusable_text
from detox.data.records import TOXIC, Document, Span, is_middle, middle_kind
from detox.errors import DataError, InputError, require_known
from detox.pretraining.annotation.counts import AnnotationCounts
from detox.pretraining.annotation.sentences import SEGMENTER, sentences
from detox.scorers.protocol import Score, Scorer, score_texts
from detox.scorers.wordlist import WordListScorer

Invalid = Literal["error", "skip"]
Missing = Literal["middle", "risky", "safe", "error"]

TOXIC_ABOVE, MIDDLE_ABOVE = 0.99, 1e-4
"""The thresholds of Wang et al. 2025, chosen for a fastText tagger; another scorer needs its own."""

_BATCH = 1_000_000  # characters whose sentences are scored in one call: batches of a scorer stay full across documents


def merge_spans(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Spans of one kind that overlap or touch become one; spans of different kinds are left to overlap.

    Returns:
        The same characters with the same kinds, in order; of each kind disjoint, with a character between any two.
    """
    merged: list[Span] = []
    last: dict[str, int] = {}  # kind -> place in `merged` of its last span
    for span in sorted(spans):
        at = last.get(span.kind)
        if at is not None and span.start <= merged[at].end:
            if span.end > merged[at].end:
                merged[at] = replace(merged[at], end=span.end)
        else:
            last[span.kind] = len(merged)
            merged.append(span)
    return tuple(sorted(merged))


def annotate(
    documents: Iterable[Document],
    annotator: Annotator,
    *,
    invalid: Invalid = "error",
    counts: AnnotationCounts | None = None,
) -> Iterator[Document]:
    """Add the spans that `annotator` finds to those that the documents have, in order, holding few documents at a time.

    Args:
        documents: any number of them; an empty text stays as it is.
        annotator: a `SentenceAnnotator`, `WordAnnotator`, `SpanAnnotator`, or a class of your own.
        invalid: what to do with a text that cannot be stored and tokenized (a NUL character, a lone surrogate): "error",
            or "skip", which leaves the document out and counts it.
        counts: is added to, document by document.

    Yields:
        The documents, with spans that are merged by kind (`merge_spans`).

    Raises:
        DataError: an invalid text, where those are not skipped; names the document.
        InputError: a sentence that could not be scored, where that is an error; something that is no Document.
        UnknownName: no such `invalid`.
    """
    require_known("invalid", invalid, get_args(Invalid))
    counts = AnnotationCounts() if counts is None else counts
    return _annotated(documents, annotator, invalid, counts)


def _annotated(
    documents: Iterable[Document], annotator: Annotator, invalid: Invalid, counts: AnnotationCounts
) -> Iterator[Document]:
    batch: list[Document] = []
    characters = 0
    for document in documents:
        if not isinstance(document, Document):
            raise InputError(f"got {type(document).__name__}; expected Document records")
        problem = unusable_text(document.text)
        if problem is not None:
            line = f"document {document.id!r}: {problem}; expected text that UTF-8 can hold"
            if invalid == "error":
                raise DataError(line)
            counts.add_invalid(line)
            continue
        batch.append(document)
        characters += len(document.text)
        if characters >= _BATCH:
            yield from _batch(batch, annotator, counts)
            batch, characters = [], 0
    if batch:
        yield from _batch(batch, annotator, counts)


def _batch(batch: list[Document], annotator: Annotator, counts: AnnotationCounts) -> Iterator[Document]:
    for document, spans in zip(batch, annotator.find(batch, counts), strict=True):
        merged = merge_spans((*document.spans, *spans))
        counts.documents += 1
        counts.empty_documents += not document.text
        counts.characters += len(document.text)
        for span in merged:
            counts.characters_by_kind[span.kind] += span.end - span.start
        yield document if merged == document.spans else replace(document, spans=merged)


def require_kind(kind: str) -> str:
    """`kind`, if it can be the kind of a span.

    Raises:
        InputError: it is blank, cannot be stored, or is the kind of a middle band.
    """
    if not isinstance(kind, str) or not kind.strip() or unusable_text(kind) or is_middle(kind):
        raise InputError(f"kind is {kind!r}; expected a short text that names the risk and does not end in ':middle'")
    return kind


class Annotator(Protocol):
    """Anything that finds risky spans in documents."""

    def find(self, documents: Sequence[Document], counts: AnnotationCounts) -> list[list[Span]]:
        """The spans found in each document, any order, overlaps allowed; counts what only the annotator knows."""
        ...

    def identity(self) -> dict[str, Any]:
        """What decides which spans are found, as JSON."""
        ...


@dataclass(frozen=True)
class SentenceAnnotator:
    """Spans are the sentences whose score is above a threshold.

    Attributes:
        scorer: any scorer; it is asked for many sentences of many documents at once.
        kind: of sentences with a score above `toxic_above`.
        toxic_above: in [0, 1].
        middle_above: in [0, toxic_above]; sentences above it, up to and with `toxic_above`, get `middle_kind(kind)`.
            The same as `toxic_above`: no middle band.
        missing: what a sentence counts as that the scorer could not score: "middle" (neither risky nor safe), "risky",
            "safe", or "error". They are counted with their reasons whatever is chosen.
        language: code of the language whose rules end sentences ("en", "de", "ja", ...); rules of others are English.

    Raises:
        InputError: thresholds out of order or out of range; a kind that is blank.
        UnknownName: no such `missing`.
    """

    scorer: Scorer
    kind: str = TOXIC
    toxic_above: float = TOXIC_ABOVE
    middle_above: float = MIDDLE_ABOVE
    missing: Missing = "middle"
    language: str = "en"

    def __post_init__(self) -> None:
        require_kind(self.kind)
        if not 0.0 <= self.middle_above <= self.toxic_above <= 1.0:
            raise InputError(
                f"toxic_above is {self.toxic_above} and middle_above {self.middle_above}; expected "
                "0 <= middle_above <= toxic_above <= 1"
            )
        require_known("missing", self.missing, get_args(Missing))

    def find(self, documents: Sequence[Document], counts: AnnotationCounts) -> list[list[Span]]:
        """See `Annotator`."""
        places = [sentences(document.text, language=self.language) for document in documents]
        asked: list[str] = []
        for document, of_document in zip(documents, places, strict=True):
            text = document.text
            asked += [text[start:end] for start, end in of_document]
        scores = score_texts(self.scorer, asked)
        bands = dict.fromkeys(("risky", "middle", "safe", "unscored"), 0)
        found: list[list[Span]] = []
        left = iter(scores)
        for document, of_document in zip(documents, places, strict=True):
            spans = []
            for place, score in zip(of_document, left, strict=False):  # of each document, its own
                if score.value <= self.middle_above:  # most; and never a missing one, which is NaN
                    continue
                band = self._band(score, bands, document, place, counts)
                if band != "safe":
                    spans.append(Span(*place, self.kind if band == "risky" else middle_kind(self.kind)))
            found.append(spans)
        bands["safe"] = len(asked) - sum(bands.values())
        counts.sentences += len(asked)
        counts.sentences_by_band.update(bands)
        return found

    def _band(
        self, score: Score, bands: dict[str, int], document: Document, place: tuple[int, int], counts: AnnotationCounts
    ) -> str:
        """What a sentence counts as that is not safe by its score."""
        if score.reason is None:
            band = "risky" if score.value > self.toxic_above else "middle"
            bands[band] += 1
            return band
        where = f"document {document.id!r}, characters [{place[0]}, {place[1]})"
        if self.missing == "error":
            raise InputError(
                f"{where}: scorer {self.scorer.card.name!r} could not score this sentence ({score.reason}); "
                "say what such sentences count as (missing: middle, risky or safe)"
            )
        counts.add_unscored(score.reason, where)
        bands["unscored"] += 1
        return self.missing

    def identity(self) -> dict[str, Any]:
        """See `Annotator`."""
        return {
            "by": "sentences",
            "kind": self.kind,
            "toxic_above": self.toxic_above,
            "middle_above": self.middle_above,
            "missing": self.missing,
            "segmenter": {**SEGMENTER, "language": self.language},
            "scorer": self.scorer.card.identity(),
        }


@dataclass(frozen=True)
class WordAnnotator:
    """Spans are the terms of a word list where they stand in the text."""

    words: WordListScorer
    kind: str = TOXIC

    def __post_init__(self) -> None:
        require_kind(self.kind)

    def find(self, documents: Sequence[Document], counts: AnnotationCounts) -> list[list[Span]]:
        """See `Annotator`."""
        return [[Span(start, end, self.kind) for start, end in self.words.spans(one.text)] for one in documents]

    def identity(self) -> dict[str, Any]:
        """See `Annotator`."""
        return {"by": "words", "kind": self.kind, "words": self.words.card.identity()}


@dataclass(frozen=True)
class SpanAnnotator:
    """Nothing is looked for: the spans that the documents have are checked and merged."""

    def find(self, documents: Sequence[Document], counts: AnnotationCounts) -> list[list[Span]]:
        """See `Annotator`."""
        return [[] for _ in documents]

    def identity(self) -> dict[str, Any]:
        """See `Annotator`."""
        return {"by": "spans"}
