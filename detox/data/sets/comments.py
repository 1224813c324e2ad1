"""Comments on news sites and elsewhere: labelled, scored, and as documents."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from detox.data.data_set import DataSet, HubSource, LocalFile, Row
from detox.data.records import Document, LabelledText, Span


def read_labelled(rows: Iterable[Row]) -> Iterator[LabelledText]:
    """`id`, `text` and `label` (1 toxic, 0 not)."""
    for row in rows:
        yield LabelledText(id=row["id"], text=row["text"], label=row["label"])


def read_civil_hub(rows: Iterable[Row]) -> Iterator[LabelledText]:
    """`toxicity` is the share of annotators who said so; the label is their majority, as in the Jigsaw challenge."""
    for number, row in enumerate(rows):
        score = float(row["toxicity"])
        yield LabelledText(id=f"civil-{row['_split']}-{number}", text=row["text"], label=int(score >= 0.5), score=score)


def read_toxic_spans(rows: Iterable[Row]) -> Iterator[Document]:
    """The characters that more than half of the annotators marked; posts without any are left out."""
    for row in rows:
        spans = tuple(Span(start, end) for start, end in row["spans"])
        if spans:
            yield Document(id=row["id"], text=row["text"], spans=spans, source="toxic_spans")


def read_toxic_spans_hub(rows: Iterable[Row]) -> Iterator[Document]:
    """`position` lists the marked characters one by one, as JSON text."""
    for number, row in enumerate(rows):
        position = row["position"]
        marked = json.loads(position) if isinstance(position, str) else position
        spans = runs(marked or [])
        if spans:
            yield Document(
                id=f"tspan-{row['_split']}-{number}", text=row["text_of_post"], spans=spans, source="toxic_spans"
            )


def read_toxic_spans_labelled(rows: Iterable[Row]) -> Iterator[LabelledText]:
    """Label 1 where there is a majority span, 0 where most annotators found nothing, None between.

    Score: the share of annotators who found something.
    """
    for row in rows:
        nothing = row["frac_said_not_toxic"]
        label = 1 if row["spans"] else 0 if nothing > 0.5 else None
        yield LabelledText(id=row["id"], text=row["text"], label=label, score=1.0 - nothing)


def read_cannot_rewrite(rows: Iterable[Row]) -> Iterator[LabelledText]:
    """Label by the first reason given: toxic content is 1, not toxic is 0, anything else unknown."""
    labels = {"toxic_content": 1, "not_toxic": 0}
    for row in rows:
        yield LabelledText(id=row["id"], text=row["text"], label=labels.get(row["reason"][0]))


def read_madlibs(rows: Iterable[Row]) -> Iterator[LabelledText]:
    """Group is the template that a sentence was filled from."""
    for row in rows:
        yield LabelledText(id=row["id"], text=row["text"], label=row["label"], group=row["template"])


def runs(characters: Iterable[int]) -> tuple[Span, ...]:
    """The spans that a set of character offsets covers."""
    spans: list[Span] = []
    for offset in sorted(set(characters)):
        if spans and spans[-1].end == offset:
            spans[-1] = Span(spans[-1].start, offset + 1)
        else:
            spans.append(Span(offset, offset + 1))
    return tuple(spans)


SPANS_FILE = LocalFile("toxic_spans.jsonl.gz", "a2fc2e36767f543674d27877ed744ef2d330c297d5d88488d2e4a50b26c2f14f")

SETS = (
    DataSet(
        name="civil_comments",
        kind="labelled",
        licence="CC0-1.0",
        note="1.8 million comments on news sites: all are read even where a limit is given.",
        hub=HubSource(
            id="google/civil_comments",
            revision="f2970eb3a55777454c94069077cc8d9b5866312d",
            split="train",
            heldout_split="validation",
            columns=("text", "toxicity"),
            read=read_civil_hub,
            confirmed="hub card; public code that pins this commit",
        ),
    ),
    DataSet(
        name="toxic_spans",
        kind="documents",
        licence="CC0-1.0",
        note="Civil Comments posts with the characters that a majority marked; the 6,127 posts without are left out.",
        file=SPANS_FILE,
        columns=("id", "text", "spans"),
        read=read_toxic_spans,
        hub=HubSource(
            id="heegyu/toxic-spans",
            split="train",
            heldout_split="test",
            columns=("text_of_post", "position"),
            read=read_toxic_spans_hub,
            confirmed="public code that reads these columns",
        ),
    ),
    DataSet(
        name="toxic_spans_labelled",
        kind="labelled",
        licence="CC0-1.0",
        note="Every post was chosen as toxic by Civil Comments raters, so that label 0 is weak evidence.",
        file=SPANS_FILE,
        columns=("id", "text", "spans", "frac_said_not_toxic"),
        read=read_toxic_spans_labelled,
    ),
    DataSet(
        name="jigsaw_sentences",
        kind="labelled",
        licence="none stated; upstream Jigsaw CC0",
        note="Silver labels from a classifier, lower case, tokenized: easy and noisy.",
        file=LocalFile("jigsaw_sentences.jsonl.gz", "b3e0a5bce352f84f07a5538f6a1e09bfe89e89eedbb3ccf4b98dc9fbccd1d3e4"),
        columns=("id", "text", "label"),
        read=read_labelled,
    ),
    DataSet(
        name="paradetox_cannot_rewrite",
        kind="labelled",
        licence="CC0-1.0",
        note="Toxic sentences that could not be made neutral, with the reason; 1,288 are in paradetox too.",
        file=LocalFile(
            "paradetox_cannot_rewrite.jsonl.gz", "12c6b6870e3f1fd926e3d81720a69fce005101b3cea4d432189ad7b821328e15"
        ),
        columns=("id", "text", "reason"),
        read=read_cannot_rewrite,
    ),
    DataSet(
        name="madlibs_bias",
        kind="labelled",
        licence="Apache-2.0",
        note="Templates filled with identity terms, half toxic: for the unintended bias of a scorer.",
        file=LocalFile("madlibs_bias.jsonl.gz", "ba1c36ca0f4f1ba921c09ee71cbf4b610dff8d9dc6a90a6c5d32a0dcef00684c"),
        columns=("id", "text", "label", "template"),
        read=read_madlibs,
        evaluation=True,
    ),
)
