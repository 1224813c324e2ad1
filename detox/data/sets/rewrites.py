"""Pairs: toxic sentences with neutral rewritings, and continuations that people compared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from detox.data.contrasts import Contrast
from detox.data.data_set import DataSet, HubSource, LocalFile, OwnSplit, Row

# After a prompt without a final space, a word needs one before it and these marks do not.
CLOSING = frozenset(",.;:!?)]}'’”…")


def read_rewrites(rows: Iterable[Row]) -> Iterator[Contrast]:
    """`toxic` with a list of `neutral` rewritings, each once; a "rewriting" that changed nothing is not one."""
    for row in rows:
        safe = tuple(dict.fromkeys(text for text in row["neutral"] if text != row["toxic"]))
        if safe:
            yield Contrast(id=row["id"], prompt="", safe=safe, toxic=(row["toxic"],))


def read_paradetox_hub(rows: Iterable[Row]) -> list[Contrast]:
    """One (toxic, neutral) pair a row; the pairs of one toxic comment make one contrast."""
    neutral: dict[str, list[str]] = {}
    for row in rows:
        neutral.setdefault(row["en_toxic_comment"], []).append(row["en_neutral_comment"])
    grouped: list[Row] = [
        {"id": f"paradetox-{number}", "toxic": toxic, "neutral": texts}
        for number, (toxic, texts) in enumerate(neutral.items())
    ]
    return list(read_rewrites(grouped))


def read_human_preferences(rows: Iterable[Row]) -> Iterator[Contrast]:
    """Two continuations of a prompt; more than half of the votes must name one as the less toxic."""
    for row in rows:
        votes: list[Any] = row["less_toxic_votes"]
        for safe, toxic in (("a", "b"), ("b", "a")):
            if votes.count(safe) * 2 > len(votes) and row[safe] and row[toxic]:
                yield Contrast(
                    id=row["id"],
                    prompt=row["prompt"],
                    safe=(_spaced(row["prompt"], row[safe]),),
                    toxic=(_spaced(row["prompt"], row[toxic]),),
                )


def _spaced(prompt: str, continuation: str) -> str:
    if not prompt or prompt[-1].isspace() or continuation[0].isspace() or continuation[0] in CLOSING:
        return continuation
    return " " + continuation


SETS = (
    DataSet(
        name="paradetox",
        kind="contrasts",
        licence="CC0-1.0 (the repository); OpenRAIL++ (the hub)",
        note="Crowd rewritings of Jigsaw, Reddit and Twitter sentences, one to three each; mostly lower case.",
        file=LocalFile("paradetox.jsonl.gz", "e0afa7c91b5811489296f0c53c371b7f8c9b8c4c759168345c1f5551f4e0a3c0"),
        columns=("id", "toxic", "neutral"),
        read=read_rewrites,
        hub=HubSource(
            id="s-nlp/paradetox",
            revision="93a90090fa1697206d72b408c05615639483af14",
            columns=("en_toxic_comment", "en_neutral_comment"),
            read=read_paradetox_hub,
            confirmed="hub commit page; public code that loads it",
        ),
    ),
    DataSet(
        name="appdia",
        kind="contrasts",
        licence="none stated (Atwell et al. 2022)",
        note="Reddit comments made inoffensive by linguists: cased, natural text.",
        file=LocalFile("appdia.jsonl.gz", "f14c1c1543ab45bf6fb656eb99b82140ca51b7fc9bbf6a116dd6b393d028a344"),
        columns=("id", "toxic", "neutral", "split"),
        read=read_rewrites,
        own_split=OwnSplit(column="split", train=("train",), heldout=("dev", "test")),
    ),
    DataSet(
        name="dexperts_human_prefs",
        kind="contrasts",
        licence="none stated (prompts: Apache-2.0)",
        note="Continuations of the GPT-2 family, where two of three people called the same one less toxic (52 of 224).",
        file=LocalFile(
            "dexperts_human_prefs.jsonl.gz", "e27179d5025afed47c952aeaffcbe3e915b93230c38b35a1232ee5f3a3b5edf0"
        ),
        columns=("id", "prompt", "a", "b", "less_toxic_votes"),
        read=read_human_preferences,
    ),
)
