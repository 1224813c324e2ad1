"""Comments on Wikipedia and news sites: labelled, scored, and as documents."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from detox.data.contrasts import Contrast
from detox.data.data_set import DataSet, HubSource, LocalFile, Reader, Row
from detox.data.records import Document, LabelledText, Prompt, Span


def read_labelled(rows: Iterable[Row]) -> Iterator[LabelledText]:
    """`id`, `text` and `label` (1 toxic, 0 not)."""
    for row in rows:
        yield LabelledText(id=row["id"], text=row["text"], label=row["label"])


def read_wiki_hub(rows: Iterable[Row]) -> Iterator[LabelledText]:
    """`comment_text` and `label`."""
    for number, row in enumerate(rows):
        yield LabelledText(id=f"wiki-{row['_split']}-{number}", text=row["comment_text"], label=row["label"])


def documents_with_label(label: int, source: str, read: Reader = read_labelled) -> Reader:
    """A reader of the texts with one label as documents of `source`; in a toxic one the whole text is risky."""

    def documents(rows: Iterable[Row]) -> Iterator[Document]:
        for one in read(rows):
            if isinstance(one, LabelledText) and one.label == label and one.text:
                spans = (Span(0, len(one.text)),) if label == 1 else ()
                yield Document(id=one.id, text=one.text, spans=spans, source=source)

    return documents


def toxic_turns(read: Reader = read_labelled) -> Reader:
    """A reader of the toxic texts as prompts: what somebody says, to see what is answered."""

    def prompts(rows: Iterable[Row]) -> Iterator[Prompt]:
        for one in read(rows):
            if isinstance(one, LabelledText) and one.label == 1 and one.text:
                yield Prompt(id=one.id, text=one.text)

    return prompts


def read_context_comments(rows: Iterable[Row]) -> Iterator[LabelledText]:
    """People's label, and Perspective's score."""
    for row in rows:
        yield LabelledText(id=row["id"], text=row["text"], label=row["label"], score=row["perspective_toxicity"])


def read_clean_context_comments(rows: Iterable[Row]) -> Iterator[Document]:
    """Comments that neither people nor Perspective (below 0.5) call toxic."""
    for one in read_context_comments(rows):
        if one.label == 0 and one.score is not None and one.score < 0.5:
            yield Document(id=one.id, text=one.text, source="cat_wiki_clean")


def read_context_dialogues(rows: Iterable[Row]) -> Iterator[Contrast]:
    """A comment as the user's turn and a civil answer to it: label 0 and Perspective below 0.2, neither longer than 300 characters."""
    for row in rows:
        turn, reply = row["parent"], row["text"]
        civil = row["label"] == 0 and row["perspective_toxicity"] < 0.2
        if civil and turn and reply and max(len(turn), len(reply)) <= 300:
            yield Contrast(id=row["id"], prompt=turn, safe=(reply,), toxic=())


def read_perspective_wiki(rows: Iterable[Row]) -> Iterator[LabelledText]:
    """Perspective's score (TOXICITY, version 6), no label."""
    for row in rows:
        yield LabelledText(id=row["id"], text=row["text"], label=None, score=row["toxicity_v6"])


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


WIKI_FILE = LocalFile(
    "jigsaw_wiki_balanced.jsonl.gz", "f0b941a5cfd7b86a426d92902cecbbdb146a663b3ce0aa6c9679d552891888f7"
)
WIKI_LICENCE = "CC0 (Jigsaw 2018); text CC BY-SA 3.0 (Wikipedia)"
CONTEXT_FILE = LocalFile(
    "cat_wiki_context.jsonl.gz", "15a499dd30eca3fae958be612f781dd6916f270ad546c51f3e9464a73de26073"
)
CONTEXT_LICENCE = "Apache-2.0 (ipavlopoulos/context_toxicity); text CC BY-SA (Wikipedia)"
SPANS_FILE = LocalFile("toxic_spans.jsonl.gz", "a2fc2e36767f543674d27877ed744ef2d330c297d5d88488d2e4a50b26c2f14f")


def _wiki_hub(read: Reader) -> HubSource:
    return HubSource(
        id="OxAISH-AL-LLM/wiki_toxic",
        revision="refs/convert/parquet",
        split="train",
        heldout_split="validation",
        columns=("comment_text", "label"),
        read=read,
        confirmed="public code that maps these columns (about 10 % toxic: all comments, not the balanced file)",
    )


SETS = (
    DataSet(
        name="jigsaw_wiki_balanced",
        kind="labelled",
        licence=WIKI_LICENCE,
        note="Wikipedia talk comments. On the hub: all of them, about 10 % toxic.",
        file=WIKI_FILE,
        columns=("id", "text", "label"),
        read=read_labelled,
        hub=_wiki_hub(read_wiki_hub),
    ),
    DataSet(
        name="jigsaw_wiki_toxic",
        kind="documents",
        licence=WIKI_LICENCE,
        note="The toxic ones; the whole comment is the span.",
        file=WIKI_FILE,
        columns=("id", "text", "label"),
        read=documents_with_label(1, "jigsaw_wiki_toxic"),
        hub=_wiki_hub(documents_with_label(1, "jigsaw_wiki_toxic", read_wiki_hub)),
    ),
    DataSet(
        name="jigsaw_wiki_toxic_turns",
        kind="prompts",
        licence=WIKI_LICENCE,
        note="The toxic ones as prompts: a toxic turn to be answered.",
        file=WIKI_FILE,
        columns=("id", "text", "label"),
        read=toxic_turns(),
        hub=_wiki_hub(toxic_turns(read_wiki_hub)),
    ),
    DataSet(
        name="jigsaw_wiki_clean",
        kind="documents",
        licence=WIKI_LICENCE,
        note="The others.",
        file=WIKI_FILE,
        columns=("id", "text", "label"),
        read=documents_with_label(0, "jigsaw_wiki_clean"),
        hub=_wiki_hub(documents_with_label(0, "jigsaw_wiki_clean", read_wiki_hub)),
    ),
    DataSet(
        name="cat_wiki_context",
        kind="labelled",
        licence=CONTEXT_LICENCE,
        note="Wikipedia talk comments at the natural rate, about 1 % toxic: for specificity, not recall.",
        file=CONTEXT_FILE,
        columns=("id", "text", "label", "perspective_toxicity"),
        read=read_context_comments,
    ),
    DataSet(
        name="cat_wiki_clean",
        kind="documents",
        licence=CONTEXT_LICENCE,
        note="The comments that neither people nor Perspective call toxic.",
        file=CONTEXT_FILE,
        columns=("id", "text", "label", "perspective_toxicity"),
        read=read_clean_context_comments,
    ),
    DataSet(
        name="cat_wiki_dialogues",
        kind="contrasts",
        licence=CONTEXT_LICENCE,
        note="Short comments with a civil answer, for instruction tuning: no toxic side.",
        file=CONTEXT_FILE,
        columns=("id", "text", "label", "perspective_toxicity", "parent"),
        read=read_context_dialogues,
    ),
    DataSet(
        name="perspective_wiki_2k",
        kind="scored",
        licence="Apache-2.0 (conversationai/perspectiveapi); text CC BY-SA (Wikipedia)",
        note="Perspective's own published scores of 2018.",
        file=LocalFile(
            "perspective_wiki_2k.jsonl.gz", "54362271e3d4a1b8520cb986b3ddbe6049b313a58268ded987f986ea3c30d8ae"
        ),
        columns=("id", "text", "toxicity_v6"),
        read=read_perspective_wiki,
    ),
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
