"""Comments on Wikipedia's talk pages: labelled, scored, and as documents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from detox.data.contrasts import Contrast
from detox.data.data_set import DataSet, HubSource, LocalFile, Reader, Row
from detox.data.records import Document, LabelledText, Prompt, Span
from detox.data.sets.comments import read_labelled


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


WIKI_FILE = LocalFile(
    "jigsaw_wiki_balanced.jsonl.gz", "f0b941a5cfd7b86a426d92902cecbbdb146a663b3ce0aa6c9679d552891888f7"
)
WIKI_LICENCE = "CC0 (Jigsaw 2018); text CC BY-SA 3.0 (Wikipedia)"
CONTEXT_FILE = LocalFile(
    "cat_wiki_context.jsonl.gz", "15a499dd30eca3fae958be612f781dd6916f270ad546c51f3e9464a73de26073"
)
CONTEXT_LICENCE = "Apache-2.0 (ipavlopoulos/context_toxicity); text CC BY-SA (Wikipedia)"


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
)
