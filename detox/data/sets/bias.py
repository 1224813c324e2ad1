"""Side effects on how groups of people are written about: BBQ and CrowS-Pairs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from detox.data.data_set import DataSet, HubSource, LocalFile, Row
from detox.data.records import BiasQuestion, MinimalPair, MultipleChoice
from detox.data.sets.questions import question
from detox.errors import InputError

# The ways in which BBQ says that it cannot be known, as lm-eval's utils list them after HELM.
UNKNOWN = (
    "unknown", "cannot answer", "can't be determined", "cannot be determined", "can't answer", "not known", "not enough info",
    "not enough information", "not answerable", "undetermined",
)  # fmt: skip


def read_bbq(rows: Iterable[Row]) -> Iterator[MultipleChoice]:
    """Context, question and three answers, one of which says that it cannot be known."""
    for row in rows:
        # Accuracy means different things in the two conditions, so that the id must tell them apart.
        yield _bbq(f"{row['id']}-{row['context_condition']}-{row['polarity']}", row, row["choices"], row["answer"])


def read_bbq_hub(rows: Iterable[Row]) -> Iterator[MultipleChoice]:
    """`ans0`, `ans1`, `ans2` and `label`."""
    for number, row in enumerate(rows):
        id = f"bbq-{row['category']}-{number}-{row['context_condition']}-{row['question_polarity']}"
        yield _bbq(id, row, [row["ans0"], row["ans1"], row["ans2"]], row["label"])


def read_crows_pairs(rows: Iterable[Row]) -> Iterator[MinimalPair]:
    """`good` is the less, `bad` the more stereotyped sentence: an unbiased model finds neither likelier."""
    for row in rows:
        yield MinimalPair(
            id=row["id"], good=row["less_stereotyped"], bad=row["more_stereotyped"], phenomenon=row["bias_type"]
        )


def read_crows_pairs_hub(rows: Iterable[Row]) -> Iterator[MinimalPair]:
    """`sent_more`, `sent_less` and `bias_type`."""
    for number, row in enumerate(rows):
        yield MinimalPair(
            id=f"crows-{number}", good=row["sent_less"], bad=row["sent_more"], phenomenon=str(row["bias_type"])
        )


def read_bias_questions(rows: Iterable[Row]) -> Iterator[BiasQuestion]:
    """With the biased answer where exactly one choice names the stereotyped group, as a word of its own."""
    for row in rows:
        named = [
            any(re.search(rf"\b{re.escape(group)}\b", choice, re.IGNORECASE) for group in row["stereotyped_groups"])
            for choice in row["choices"]
        ]
        known = named if sum(named) == 1 else None
        id = f"{row['id']}-{row['context_condition']}-{row['polarity']}"
        yield _bias_question(id, row, row["choices"], row["answer"], row["polarity"], known)


def read_bias_questions_hub(rows: Iterable[Row]) -> Iterator[BiasQuestion]:
    """The stereotyped group is looked for in `answer_info`, by the rule of lm-eval's utils."""
    for number, row in enumerate(rows):
        id = f"bbq-{row['category']}-{number}-{row['context_condition']}-{row['question_polarity']}"
        targets = {group.lower() for group in row["additional_metadata"]["stereotyped_groups"]}
        groups = [_groups_of("_".join(row["answer_info"][f"ans{i}"])) for i in range(3)]
        choices = [row["ans0"], row["ans1"], row["ans2"]]
        named = [not targets.isdisjoint(own) for own in groups]
        yield _bias_question(id, row, choices, row["label"], row["question_polarity"], named)


# How lm-eval makes the groups of an answer and the stereotyped groups comparable.
_SPELLED = (
    ("M-", "M_"), ("F-", "F_"), ("lowSES-", "lowSES_"), ("highSES-", "highSES_"), ("lowSES", "low SES"), ("highSES", "high SES"),
    ("nonObese", "non Obese"), ("nonDisabled", "non Disabled"), ("nonTrans", "non Trans"),
)  # fmt: skip


def _groups_of(info: str) -> set[str]:
    for old, new in _SPELLED:
        info = info.replace(old, new)
    woman, man = ("woman", "F_woman"), ("man", "M_man")
    for old, new in (woman if "woman" in info else man, ("girl", "F_girl"), ("boy", "M_boy")):
        info = info.replace(old, new)
    return set(info.lower().split("_"))


def _bias_question(
    id: str, row: Row, choices: Sequence[str], answer: int, polarity: str, stereotyped: Sequence[bool] | None
) -> BiasQuestion:
    """The stereotype chooses the stereotyped group where the question is negative, and the other one where it is not."""
    unknown = [place for place, choice in enumerate(choices) if choice.lower().strip(" .") in UNKNOWN]
    if len(unknown) != 1:
        raise InputError(f"question {id!r} has {len(unknown)} choices that say that it cannot be known; expected one")
    chosen = [] if stereotyped is None else [
        place for place, named in enumerate(stereotyped) if place != unknown[0] and named == (polarity == "neg")
    ]  # fmt: skip
    return BiasQuestion(
        id=id,
        context=f"{row['context']}\n\nQ: {row['question']}\nA:",
        choices=tuple(f" {choice}" for choice in choices),
        answer=answer,
        unknown=unknown[0],
        biased=chosen[0] if len(chosen) == 1 else None,
        ambiguous=str(row["context_condition"]).startswith("amb"),
        group=row["category"],
    )


def _bbq(id: str, row: Row, choices: list[str], answer: int) -> MultipleChoice:
    return question(id, f"{row['context']}\n\nQ: {row['question']}\nA:", choices, answer)


_BBQ_FILE = LocalFile("bbq_small.jsonl.gz", "332339590a18c298eaafd6332d35dc05970aaec5704ccae230df98ba332ab4ce")
_BBQ_COLUMNS = ("id", "context", "context_condition", "polarity", "question", "choices", "answer")
_BBQ_HUB = HubSource(
    id="oskarvanderwal/bbq",
    configs=("All",),
    split="test",
    columns=(
        "category", "context", "context_condition", "question", "question_polarity", "ans0", "ans1", "ans2", "label",
    ),
    read=read_bbq_hub,
    confirmed="lm-eval bbq_multiple_choice.yaml and its utils",
)  # fmt: skip

SETS = (
    DataSet(
        name="bbq",
        kind="multiple-choice",
        licence="CC BY 4.0",
        note="Ids end in ambig or disambig and neg or nonneg. Three answers as written, without lm-eval's synonyms.",
        file=_BBQ_FILE,
        columns=_BBQ_COLUMNS,
        read=read_bbq,
        hub=_BBQ_HUB,
        evaluation=True,
    ),
    DataSet(
        name="bbq_bias",
        kind="bias-questions",
        licence="CC BY 4.0",
        note="The questions of bbq with the biased answer; in the file it is known for some categories only, on the hub for nearly all.",
        file=_BBQ_FILE,
        columns=("id", "category", *_BBQ_COLUMNS[1:], "stereotyped_groups"),
        read=read_bias_questions,
        hub=replace(
            _BBQ_HUB,
            columns=(*_BBQ_HUB.columns, "answer_info", "additional_metadata"),
            read=read_bias_questions_hub,
        ),
        evaluation=True,
    ),
    DataSet(
        name="crows_pairs",
        kind="stereotype-pairs",
        licence="CC BY-SA 4.0",
        note="Known problems of validity (Blodgett et al. 2021): a relative measure only.",
        file=LocalFile("crows_pairs.jsonl.gz", "3233ba55057b7c2a4c1fec2fd92a3b2d95bcb4e90df7acd357f1946258a41b1e"),
        columns=("id", "more_stereotyped", "less_stereotyped", "bias_type"),
        read=read_crows_pairs,
        hub=HubSource(
            id="jannalu/crows_pairs_multilingual",
            configs=("english",),
            split="test",
            columns=("sent_more", "sent_less", "bias_type"),
            read=read_crows_pairs_hub,
            confirmed="lm-eval crows_pairs_english.yaml and its utils",
        ),
        evaluation=True,
    ),
)
