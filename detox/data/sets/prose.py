"""Clean text: what a base model is trained on and what its cross-entropy is measured on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from detox.data.data_set import DataSet, HubSource, LocalFile, OwnSplit, Reader, Row
from detox.data.records import Document

TITLE = re.compile(r"^ = [^=](?:.*[^=])? = \s*$")


def documents_of(source: str) -> Reader:
    """A reader of `id` and `text` as documents of `source`, the name of the set."""

    def documents(rows: Iterable[Row]) -> Iterator[Document]:
        for row in rows:
            yield Document(id=row["id"], text=row["text"], source=source)

    return documents


def read_wikitext_hub(rows: Iterable[Row]) -> Iterator[Document]:
    """One line a row; a line ` = Title = ` begins an article, whose text is de-tokenized."""
    lines: list[str] = []
    split, number = "", 0
    for row in rows:
        if lines and (TITLE.match(row["text"]) or row["_split"] != split):
            yield from _article(lines, split, number)
            lines, number = [], number + 1
        split = row["_split"]
        lines.append(row["text"])
    yield from _article(lines, split, number)


def detokenized(text: str) -> str:
    """WikiText's spaces around marks taken back: ` @-@ `, ` , `, ` . `, brackets."""
    text = re.sub(r" @([-,.])@ ", r"\1", text)
    text = re.sub(r" ([,.;:!?%)\]])", r"\1", text)
    text = re.sub(r"([(\[]) ", r"\1", text)
    text = re.sub(r'" ([^"\n]*?) "', r'"\1"', text)
    return re.sub(r" (['’](?:s|re|ve|ll|d|m|t)\b)", r"\1", text)


def _article(lines: list[str], split: str, number: int) -> Iterator[Document]:
    body = [line.strip() for line in lines if line.strip() and not line.strip().startswith("= ")]
    if body:
        text = detokenized("\n".join(body))
        yield Document(id=f"wt2-{split}-{number}", text=text, source="wikitext2")


SETS = (
    DataSet(
        name="clean_gov",
        kind="documents",
        licence="CC0 / US public domain",
        note="Modern web prose: blogs and handbooks of the US government, one page a document.",
        file=LocalFile("clean_gov.jsonl.gz", "2ea7b100bc82dccd5cf058581073720cd30a93ea053b5b2c1e4724a642629165"),
        columns=("id", "text"),
        read=documents_of("clean_gov"),
    ),
    DataSet(
        name="clean_fiction",
        kind="documents",
        licence="CC0 / US public domain (Standard Ebooks)",
        note="Novels, mostly of 1810 to 1930, one chapter a document.",
        file=LocalFile("clean_fiction.jsonl.gz", "42a504f482b0c5e15613ad1c99e3228d8a87cc96c30d707903f2feb34e1e85ef"),
        columns=("id", "text"),
        read=documents_of("clean_fiction"),
    ),
    DataSet(
        name="clean_peps",
        kind="documents",
        licence="CC0 / public domain",
        note="Technical English: Python proposals, prose only.",
        file=LocalFile("clean_peps.jsonl.gz", "0329a04987ff2e3c0813cb46bd598d95484f2099c80eb6fba12330027bb1a2ce"),
        columns=("id", "text"),
        read=documents_of("clean_peps"),
    ),
    DataSet(
        name="wikitext2",
        kind="documents",
        licence="CC BY-SA 3.0",
        note="De-tokenized, so that perplexities cannot be compared with published ones; the file has a part of train.",
        file=LocalFile("wikitext2.jsonl.gz", "96ea0fcf667205f1b951073076c4f7dd109a3146b9e886a6193d8050cd9e19c3"),
        columns=("id", "split", "text"),
        read=documents_of("wikitext2"),
        own_split=OwnSplit(column="split", train=("train_part",), heldout=("valid", "test")),
        hub=HubSource(
            id="Salesforce/wikitext",
            revision="b08601e04326c79dfdd32d625aee71d232d685c3",
            configs=("wikitext-2-raw-v1",),
            split="train",
            heldout_split="validation",
            columns=("text",),
            read=read_wikitext_hub,
            confirmed="public code that pins this commit",
        ),
    ),
)
