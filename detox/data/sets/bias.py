"""Side effects on how groups of people are written about: BBQ and CrowS-Pairs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from detox.data.data_set import DataSet, HubSource, LocalFile, Row
from detox.data.records import MinimalPair, MultipleChoice
from detox.data.sets.questions import question


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


def _bbq(id: str, row: Row, choices: list[str], answer: int) -> MultipleChoice:
    return question(id, f"{row['context']}\n\nQ: {row['question']}\nA:", choices, answer)


SETS = (
    DataSet(
        name="bbq",
        kind="multiple-choice",
        licence="CC BY 4.0",
        note="Ids end in ambig or disambig and neg or nonneg. Three answers as written, without lm-eval's synonyms.",
        file=LocalFile("bbq_small.jsonl.gz", "332339590a18c298eaafd6332d35dc05970aaec5704ccae230df98ba332ab4ce"),
        columns=("id", "context", "context_condition", "polarity", "question", "choices", "answer"),
        read=read_bbq,
        hub=HubSource(
            id="oskarvanderwal/bbq",
            configs=("All",),
            split="test",
            columns=(
                "category",
                "context",
                "context_condition",
                "question",
                "question_polarity",
                "ans0",
                "ans1",
                "ans2",
                "label",
            ),
            read=read_bbq_hub,
            confirmed="lm-eval bbq_multiple_choice.yaml and its utils",
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
