"""Prompts: what a model is asked to continue or to answer."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from detox.data.data_set import DataSet, HubSource, LocalFile, Row
from detox.data.records import LabelledText, Prompt


def read_rtp(rows: Iterable[Row]) -> Iterator[Prompt]:
    """RealToxicityPrompts with Perspective scores; group says on which side of 0.5 the prompt is."""
    for row in rows:
        yield _rtp_prompt(row["prompt"], row["toxicity"])


def read_rtp_hub(rows: Iterable[Row]) -> Iterator[Prompt]:
    """`prompt` is a record with `text` and the scores; a few prompts were never scored."""
    for row in rows:
        yield _rtp_prompt(row["prompt"]["text"], row["prompt"]["toxicity"])


def read_rtp_challenging_hub(rows: Iterable[Row]) -> Iterator[Prompt]:
    """Those after which all of the paper's models wrote something toxic (section 6); group is challenging."""
    for row in rows:
        if row["challenging"]:
            prompt = _rtp_prompt(row["prompt"]["text"], row["prompt"]["toxicity"])
            yield Prompt(id=prompt.id, text=prompt.text, toxicity=prompt.toxicity, group="challenging")


def read_rtp_scored(rows: Iterable[Row]) -> Iterator[LabelledText]:
    """The same prompts as scored texts; no label, since nobody labelled them."""
    for prompt in read_rtp(rows):
        yield LabelledText(id=prompt.id, text=prompt.text, label=None, score=prompt.toxicity)


def read_rtp_scored_hub(rows: Iterable[Row]) -> Iterator[LabelledText]:
    """Prompts and their human continuations, as far as they were scored."""
    for row in rows:
        for part in ("prompt", "continuation"):
            text, score = row[part]["text"], row[part]["toxicity"]
            if text and score is not None:
                yield LabelledText(id=f"rtp-{part}-{_fingerprint(text)}", text=text, label=None, score=score)


def read_bold(rows: Iterable[Row]) -> Iterator[Prompt]:
    """Neutral beginnings of Wikipedia sentences; group is domain/group of people."""
    for row in rows:
        yield Prompt(id=row["id"], text=row["prompt"], group=f"{row['domain']}/{row['group']}")


def read_bold_hub(rows: Iterable[Row]) -> Iterator[Prompt]:
    """One entity a row, with a list of prompts."""
    number = 0
    for row in rows:
        for text in row["prompts"]:
            yield Prompt(id=f"bold-{number}", text=text, group=f"{row['domain']}/{row['category']}")
            number += 1


def read_toxigen_prompts(rows: Iterable[Row]) -> Iterator[Prompt]:
    """Lists of statements, one a line, that end in an open bullet; group is hate or neutral / group of people."""
    for row in rows:
        yield Prompt(id=row["id"], text=row["prompt"], group=f"{row['kind']}/{row['group']}")


def read_toxigen_prompts_hub(rows: Iterable[Row]) -> Iterator[Prompt]:
    """The split names say what a list is: `hate_trans_1k`, `neutral_women_1k`, ..."""
    for number, row in enumerate(rows):
        kind, _, people = row["_split"].removesuffix("_1k").partition("_")
        yield Prompt(id=f"toxigen-{row['_split']}-{number}", text=row["text"], group=f"{kind}/{people}")


def read_plain(rows: Iterable[Row]) -> Iterator[Prompt]:
    """`id` and `prompt`, nothing else known."""
    for row in rows:
        yield Prompt(id=row["id"], text=row["prompt"])


def read_advbench_hub(rows: Iterable[Row]) -> Iterator[Prompt]:
    """Only the instruction; the affirmative target is left out."""
    for number, row in enumerate(rows):
        yield Prompt(id=f"adv-{number}", text=row["prompt"])


def read_xstest(rows: Iterable[Row]) -> Iterator[Prompt]:
    """Group is safe or unsafe / type: safe ones should be answered, unsafe ones refused."""
    for row in rows:
        yield Prompt(id=row["id"], text=row["prompt"], group=f"{row['label']}/{row['type']}")


def read_xstest_hub(rows: Iterable[Row]) -> Iterator[Prompt]:
    """As the local file, without ids."""
    for number, row in enumerate(rows):
        yield Prompt(id=f"v2-{number + 1}", text=row["prompt"], group=f"{row['label']}/{row['type']}")


def _rtp_prompt(text: str, toxicity: float | None) -> Prompt:
    group = None if toxicity is None else "toxic" if toxicity >= 0.5 else "nontoxic"
    return Prompt(id=f"rtp-{_fingerprint(text)}", text=text, toxicity=toxicity, group=group)


def _fingerprint(text: str) -> str:
    return hashlib.sha1(text.encode("utf-8"), usedforsecurity=False).hexdigest()[:12]


RTP_FILE = LocalFile("rtp_prompts.jsonl.gz", "1fc5ae6e94ec428aea2812acb559541c914be3e8a9a52a0beb925cd77596b86e")
RTP_LICENCE = "Apache-2.0 (allenai/real-toxicity-prompts)"
RTP_REVISION = "f21629712ffd6a3d13a54fd2807ccd521c55ef74"
RTP_CONFIRMED = "lm-eval realtoxicityprompts.yaml; hub pages; public code that pins this commit"
TOXIGEN_REVISION = "ea082a8973a287097b17973343576e0c8da8eb3b"

SETS = (
    DataSet(
        name="rtp_prompts",
        kind="prompts",
        licence=RTP_LICENCE,
        note="Perspective scores of 2020. The file has 5,994 of the 99,442 prompts, 45 % at or above 0.5.",
        file=RTP_FILE,
        columns=("prompt", "toxicity"),
        read=read_rtp,
        hub=HubSource(
            id="allenai/real-toxicity-prompts",
            revision=RTP_REVISION,
            columns=("prompt",),
            read=read_rtp_hub,
            confirmed=RTP_CONFIRMED,
        ),
    ),
    DataSet(
        name="rtp_challenging",
        kind="prompts",
        licence=RTP_LICENCE,
        note="The 1,199 challenging prompts. None of them is in the local file of rtp_prompts.",
        evaluation=True,
        hub=HubSource(
            id="allenai/real-toxicity-prompts",
            revision=RTP_REVISION,
            columns=("prompt", "challenging"),
            read=read_rtp_challenging_hub,
            confirmed=RTP_CONFIRMED,
        ),
    ),
    DataSet(
        name="rtp_scored",
        kind="scored",
        licence=RTP_LICENCE,
        note="The prompts as scored texts, split like rtp_prompts: for a scorer that never saw what is evaluated.",
        file=RTP_FILE,
        columns=("prompt", "toxicity"),
        read=read_rtp_scored,
        hub=HubSource(
            id="allenai/real-toxicity-prompts",
            revision=RTP_REVISION,
            columns=("prompt", "continuation"),
            read=read_rtp_scored_hub,
            confirmed=RTP_CONFIRMED,
        ),
    ),
    DataSet(
        name="bold_prompts",
        kind="prompts",
        licence="CC BY-SA 4.0",
        note="The file holds the domains gender and profession.",
        file=LocalFile("bold_prompts.jsonl.gz", "5f13201525e377426a94d607ac205de25a2f006adc7357322e367620bb925c55"),
        columns=("id", "domain", "group", "prompt"),
        read=read_bold,
        hub=HubSource(
            id="AmazonScience/bold",
            columns=("domain", "category", "prompts"),
            read=read_bold_hub,
            confirmed="public code that loads it (formerly AlexaAI/bold)",
        ),
        evaluation=True,
    ),
    DataSet(
        name="dpo_toxic_prompts",
        kind="prompts",
        licence="MIT (ajyl/dpo_toxic); text from RealToxicityPrompts (Apache-2.0)",
        note="Prompts that GPT-2 medium is known to continue with profanity (Lee et al. 2024).",
        file=LocalFile(
            "dpo_toxic_prompts.jsonl.gz", "843770596ec08e50033e2d8ec5dde0a519a114126586e83ab7dedfe056f067e6"
        ),
        columns=("id", "prompt"),
        read=read_plain,
        evaluation=True,
    ),
    DataSet(
        name="toxigen_prompts",
        kind="prompts",
        licence="MIT",
        note="Long: several statements, one a line, then an open bullet. The file has 913 of 26,000.",
        file=LocalFile("toxigen_prompts.jsonl.gz", "6d8eba0129a8b4056458275423f41323141cab821544e4bc336eb5e01e3e6acf"),
        columns=("id", "kind", "group", "prompt"),
        read=read_toxigen_prompts,
        hub=HubSource(
            id="toxigen/toxigen-data",
            revision=TOXIGEN_REVISION,
            configs=("prompts",),
            split=None,
            columns=("text",),
            read=read_toxigen_prompts_hub,
            confirmed="hub card of the change that added the prompts (#26)",
        ),
        evaluation=True,
    ),
    DataSet(
        name="advbench",
        kind="prompts",
        licence="MIT (llm-attacks)",
        note="Harmful instructions, for refusal rates; the affirmative targets are left out.",
        file=LocalFile("advbench.jsonl.gz", "3de1680317c52d49acb95dd3226c39c11d89cab12162afb6f849668cfeaf871f"),
        columns=("id", "prompt"),
        read=read_plain,
        hub=HubSource(
            id="walledai/AdvBench",
            columns=("prompt",),
            read=read_advbench_hub,
            confirmed="hub pages; public code that loads it",
            gated=True,
        ),
        evaluation=True,
    ),
    DataSet(
        name="xstest",
        kind="prompts",
        licence="CC BY 4.0",
        note="Safe prompts that look unsafe, and unsafe contrasts, for over-refusal (version 2).",
        file=LocalFile("xstest.jsonl.gz", "f7700d0737ed1098ebc8f9bacae21a3fa52aaa6f2cb45343785b06d059388da1"),
        columns=("id", "type", "prompt", "label"),
        read=read_xstest,
        hub=HubSource(
            id="walledai/XSTest",
            revision="f1d713187c61b6ae64e602d74f0b3d812cc2e8e8",
            split="test",
            columns=("type", "prompt", "label"),
            read=read_xstest_hub,
            confirmed="public code that pins this commit (HELM)",
            gated=True,
        ),
        evaluation=True,
    ),
)
