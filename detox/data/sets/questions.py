"""Multiple choice about what is known or read, in the prompt forms of lm-eval."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from detox.data.data_set import DataSet, HubSource, LocalFile, Row
from detox.data.records import MultipleChoice


def question(id: str, context: str, choices: Sequence[str], answer: int) -> MultipleChoice:
    """A question whose choices follow its context after one space."""
    return MultipleChoice(id=id, context=context, choices=tuple(f" {choice}" for choice in choices), answer=answer)


def lettered(id: str, ask: str, choices: Sequence[str], answer: int) -> MultipleChoice:
    """A question that lists its choices as A, B, C, ... and is answered by the letter."""
    letters = "ABCDEFGHIJ"[: len(choices)]
    lines = "\n".join(f"{letter}. {choice}" for letter, choice in zip(letters, choices, strict=True))
    return question(id, f"{ask.strip()}\n{lines}\nAnswer:", letters, answer)


def read_arc(rows: Iterable[Row]) -> Iterator[MultipleChoice]:
    """`question`, `choices` (texts) and `answer` (index)."""
    for row in rows:
        yield question(row["id"], f"Question: {row['question']}\nAnswer:", row["choices"], row["answer"])


def read_arc_hub(rows: Iterable[Row]) -> Iterator[MultipleChoice]:
    """`choices` holds texts and labels; `answerKey` is one of the labels."""
    for row in rows:
        context = f"Question: {row['question']}\nAnswer:"
        yield question(row["id"], context, row["choices"]["text"], row["choices"]["label"].index(row["answerKey"]))


def read_openbookqa(rows: Iterable[Row]) -> Iterator[MultipleChoice]:
    """The question is the beginning of a sentence."""
    for row in rows:
        yield question(row["id"], row["question"], row["choices"], row["answer"])


def read_openbookqa_hub(rows: Iterable[Row]) -> Iterator[MultipleChoice]:
    """As ARC, with `question_stem`."""
    for row in rows:
        labels: list[str] = row["choices"]["label"]
        yield question(row["id"], row["question_stem"], row["choices"]["text"], labels.index(row["answerKey"].lstrip()))


def read_boolq(rows: Iterable[Row]) -> Iterator[MultipleChoice]:
    """A passage and a yes-no question."""
    for row in rows:
        yield _boolq(row["id"], row, row["answer"])


def read_boolq_hub(rows: Iterable[Row]) -> Iterator[MultipleChoice]:
    """`label` is 0 for no, 1 for yes."""
    for number, row in enumerate(rows):
        yield _boolq(f"boolq-{number}", row, row["label"])


def read_sciq(rows: Iterable[Row]) -> Iterator[MultipleChoice]:
    """With its supporting passage, which may be empty; the right answer is always the last one."""
    for row in rows:
        yield _sciq(row["id"], row, row["choices"], row["answer"])


def read_sciq_hub(rows: Iterable[Row]) -> Iterator[MultipleChoice]:
    """Three distractors and `correct_answer`."""
    for number, row in enumerate(rows):
        choices = [row["distractor1"], row["distractor2"], row["distractor3"], row["correct_answer"]]
        yield _sciq(f"sciq-{number}", row, choices, 3)


def read_mmlu(rows: Iterable[Row]) -> Iterator[MultipleChoice]:
    """The test questions; the development questions are for few-shot prompts and are not evaluated."""
    for row in rows:
        if row["split"] == "test":
            yield _mmlu(row["id"], row)


def read_mmlu_hub(rows: Iterable[Row]) -> Iterator[MultipleChoice]:
    """The same columns, without ids."""
    for number, row in enumerate(rows):
        yield _mmlu(f"mmlu-{row['subject']}-test-{number}", row)


def read_sst2(rows: Iterable[Row]) -> Iterator[MultipleChoice]:
    """Is a sentence positive or negative?"""
    for row in rows:
        yield _sst2(row["id"], row["question"], row["answer"])


def read_sst2_hub(rows: Iterable[Row]) -> Iterator[MultipleChoice]:
    """`sentence` and `label`, 0 for negative."""
    for number, row in enumerate(rows):
        yield _sst2(f"sst2-{number}", row["sentence"], row["label"])


def _boolq(id: str, row: Row, answer: int) -> MultipleChoice:
    return question(id, f"{row['passage']}\nQuestion: {row['question']}?\nAnswer:", ("no", "yes"), answer)


def _sciq(id: str, row: Row, choices: Sequence[str], answer: int) -> MultipleChoice:
    return question(id, f"{row['support'].lstrip()}\nQuestion: {row['question']}\nAnswer:", choices, answer)


def _mmlu(id: str, row: Row) -> MultipleChoice:
    subject = row["subject"].replace("_", " ")
    head = f"The following are multiple choice questions (with answers) about {subject}.\n\n"
    return lettered(id, head + row["question"].strip(), row["choices"], row["answer"])


def _sst2(id: str, sentence: str, answer: int) -> MultipleChoice:
    context = f"{sentence}\nQuestion: Is this sentence positive or negative?\nAnswer:"
    return question(id, context, ("negative", "positive"), answer)


ARC_REVISION = "210d026faf9955653af8916fad021475a3f00453"
SUPER_GLUE_REVISION = "3de24cf8022e94f4ee4b9d55a6f539891524d646"
CONFIRMED = "lm-eval's task of that name; public code that pins this commit"


def _arc(name: str, config: str, sha256: str) -> DataSet:
    return DataSet(
        name=name,
        kind="multiple-choice",
        licence="CC BY-SA 4.0",
        note="Validation.",
        file=LocalFile(f"{name}_val.jsonl.gz", sha256),
        columns=("id", "question", "choices", "answer"),
        read=read_arc,
        hub=HubSource(
            id="allenai/ai2_arc",
            revision=ARC_REVISION,
            configs=(config,),
            split="validation",
            columns=("id", "question", "choices", "answerKey"),
            read=read_arc_hub,
            confirmed=CONFIRMED,
        ),
        evaluation=True,
    )


SETS = (
    _arc("arc_easy", "ARC-Easy", "b6bc9712ae6887f2a875919566e07c2bc06ab0352f9f167294e3be93424f2a36"),
    _arc("arc_challenge", "ARC-Challenge", "ae86b869e5052b197c2674ee36edad411a33493dd43b5dfcdde61893d553d48b"),
    DataSet(
        name="openbookqa",
        kind="multiple-choice",
        licence="Apache-2.0 (AI2 release)",
        note="Validation.",
        file=LocalFile("openbookqa_val.jsonl.gz", "01b5ed79e07f539e10b2ec706a733dfa84c63db3bee884c67bf5c3c4eb0b6d5e"),
        columns=("id", "question", "choices", "answer"),
        read=read_openbookqa,
        hub=HubSource(
            id="allenai/openbookqa",
            revision="388097ea7776314e93a529163e0fea805b8a6454",
            configs=("main",),
            split="validation",
            columns=("id", "question_stem", "choices", "answerKey"),
            read=read_openbookqa_hub,
            confirmed=CONFIRMED,
        ),
        evaluation=True,
    ),
    DataSet(
        name="boolq",
        kind="multiple-choice",
        licence="CC BY-SA 3.0",
        note="Validation, 62 % yes.",
        file=LocalFile("boolq_val.jsonl.gz", "336a0e72060e9d1e87a7dc62297d9b7b86ea2bfaa5a4962ff28ce6d69d1847c2"),
        columns=("id", "passage", "question", "answer"),
        read=read_boolq,
        hub=HubSource(
            id="aps/super_glue",
            revision=SUPER_GLUE_REVISION,
            configs=("boolq",),
            split="validation",
            columns=("passage", "question", "label"),
            read=read_boolq_hub,
            confirmed=CONFIRMED,
        ),
        evaluation=True,
    ),
    DataSet(
        name="sciq",
        kind="multiple-choice",
        licence="CC BY-NC 3.0",
        note="Validation; the answer is always the last choice, so score by likelihood only.",
        file=LocalFile("sciq_val.jsonl.gz", "da120497fb301c9226b838170c213e634a142f83c1ae46e7d70adefd0bcaa4d0"),
        columns=("id", "question", "support", "choices", "answer"),
        read=read_sciq,
        hub=HubSource(
            id="allenai/sciq",
            revision="2c94ad3e1aafab77146f384e23536f97a4849815",
            split="validation",
            columns=("question", "support", "distractor1", "distractor2", "distractor3", "correct_answer"),
            read=read_sciq_hub,
            confirmed=CONFIRMED,
        ),
        evaluation=True,
    ),
    DataSet(
        name="mmlu",
        kind="multiple-choice",
        licence="MIT",
        note="Test questions of 57 subjects, no shots; the file has up to 40 a subject.",
        file=LocalFile("mmlu_small.jsonl.gz", "c017af23f51472fac7d2c9e4d530a5b740d961414e6d3c9a7e47f69a410f0ec8"),
        columns=("id", "subject", "split", "question", "choices", "answer"),
        read=read_mmlu,
        hub=HubSource(
            id="cais/mmlu",
            revision="c30699e8356da336a370243923dbaf21066bb9fe",
            configs=("all",),
            split="test",
            columns=("subject", "question", "choices", "answer"),
            read=read_mmlu_hub,
            confirmed=CONFIRMED,
        ),
        evaluation=True,
    ),
    DataSet(
        name="sst2",
        kind="multiple-choice",
        licence="none clear (Stanford, research)",
        note="Validation.",
        file=LocalFile("sst2_val.jsonl.gz", "e5b48fb4940ce2477bce1d72da396f8e2d0e7c3734e61e0a4e52986366c58655"),
        columns=("id", "question", "answer"),
        read=read_sst2,
        hub=HubSource(
            id="nyu-mll/glue",
            revision="bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c",
            configs=("sst2",),
            split="validation",
            columns=("sentence", "label"),
            read=read_sst2_hub,
            confirmed=CONFIRMED,
        ),
        evaluation=True,
    ),
)
