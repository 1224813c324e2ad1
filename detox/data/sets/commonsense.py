"""Multiple choice and cloze about everyday life, in the prompt forms of lm-eval."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from detox.data.data_set import DataSet, HubSource, LocalFile, Row
from detox.data.records import Cloze, MultipleChoice
from detox.data.sets.questions import CONFIRMED, SUPER_GLUE_REVISION, lettered, question

CONNECTORS = {"cause": "because", "effect": "therefore"}


def read_commonsense_qa(rows: Iterable[Row]) -> Iterator[MultipleChoice]:
    """Five lettered choices, answered by the letter."""
    for row in rows:
        yield lettered(row["id"], f"Question: {row['question'].strip()}", row["choices"], row["answer"])


def read_commonsense_qa_hub(rows: Iterable[Row]) -> Iterator[MultipleChoice]:
    """`choices` holds texts and labels; `answerKey` is one of the labels."""
    for row in rows:
        ask = f"Question: {row['question'].strip()}"
        answer = row["choices"]["label"].index(row["answerKey"])
        yield lettered(row["id"], ask, row["choices"]["text"], answer)


def read_copa(rows: Iterable[Row]) -> Iterator[MultipleChoice]:
    """A sentence without its stop, "because" or "therefore", and two sentences."""
    for row in rows:
        yield _copa(row["id"], row["question"], row["kind"], row["choices"], row["answer"])


def read_copa_hub(rows: Iterable[Row]) -> Iterator[MultipleChoice]:
    """`question` says cause or effect."""
    for number, row in enumerate(rows):
        yield _copa(f"copa-{number}", row["premise"], row["question"], [row["choice1"], row["choice2"]], row["label"])


def read_hellaswag(rows: Iterable[Row]) -> Iterator[MultipleChoice]:
    """`question` is "activity: context"; the context's second part keeps its lower case, unlike lm-eval's."""
    for row in rows:
        choices = [unbracketed(choice) for choice in row["choices"]]
        yield question(row["id"], unbracketed(row["question"]), choices, row["answer"])


def read_hellaswag_hub(rows: Iterable[Row]) -> Iterator[MultipleChoice]:
    """Activity, two parts of a context and four endings; `label` is a number as text."""
    for number, row in enumerate(rows):
        context = f"{row['activity_label']}: {row['ctx_a']} {row['ctx_b'].capitalize()}"
        choices = [unbracketed(ending) for ending in row["endings"]]
        yield question(f"hs-{number}", unbracketed(context), choices, int(row["label"]))


def read_piqa(rows: Iterable[Row]) -> Iterator[MultipleChoice]:
    """A goal and two ways to it."""
    for row in rows:
        yield question(row["id"], f"Question: {row['question']}\nAnswer:", row["choices"], row["answer"])


def read_piqa_hub(rows: Iterable[Row]) -> Iterator[MultipleChoice]:
    """`goal`, `sol1`, `sol2`, `label`."""
    for number, row in enumerate(rows):
        context = f"Question: {row['goal']}\nAnswer:"
        yield question(f"piqa-{number}", context, [row["sol1"], row["sol2"]], row["label"])


def read_social_iqa(rows: Iterable[Row]) -> Iterator[MultipleChoice]:
    """`question` is the situation and the question."""
    for row in rows:
        yield question(row["id"], f"Q: {row['question']}\nA:", row["choices"], row["answer"])


def read_social_iqa_hub(rows: Iterable[Row]) -> Iterator[MultipleChoice]:
    """`label` counts from 1, as text."""
    for number, row in enumerate(rows):
        choices = [row["answerA"], row["answerB"], row["answerC"]]
        context = f"Q: {row['context']} {row['question']}\nA:"
        yield question(f"siqa-{number}", context, choices, int(row["label"]) - 1)


def read_winogrande(rows: Iterable[Row]) -> Iterator[MultipleChoice]:
    """Partial evaluation: the likelihood of what follows the blank, after each option in its place."""
    for row in rows:
        yield _winogrande(row["id"], row["sentence"], row["choices"], row["answer"])


def read_winogrande_hub(rows: Iterable[Row]) -> Iterator[MultipleChoice]:
    """`answer` is "1" or "2"."""
    for number, row in enumerate(rows):
        choices = [row["option1"], row["option2"]]
        yield _winogrande(f"wg-{number}", row["sentence"], choices, {"1": 0, "2": 1}[row["answer"]])


def read_lambada(rows: Iterable[Row]) -> Iterator[Cloze]:
    """A passage and its last word."""
    for row in rows:
        yield Cloze(id=row["id"], context=row["context"], target=" " + row["target"])


def read_lambada_hub(rows: Iterable[Row]) -> Iterator[Cloze]:
    """`text`, cut at its last space."""
    for number, row in enumerate(rows):
        context, _, target = row["text"].rpartition(" ")
        yield Cloze(id=f"lambada-{number}", context=context, target=" " + target)


def unbracketed(text: str) -> str:
    """HellaSwag's text without the marks of WikiHow, as lm-eval has it."""
    text = text.strip().replace(" [title]", ". ")
    return re.sub(r"\[.*?\]", "", text).replace("  ", " ")


def _copa(id: str, premise: str, kind: str, choices: list[str], answer: int) -> MultipleChoice:
    context = f"{premise.strip()[:-1]} {CONNECTORS[kind]}"
    return question(id, context, [choice[0].lower() + choice[1:] for choice in choices], answer)


def _winogrande(id: str, sentence: str, choices: list[str], answer: int) -> MultipleChoice:
    blank = sentence.index("_")
    rest = " " + sentence[blank + 1 :].strip()
    contexts = tuple(sentence[:blank] + choice for choice in choices)
    return MultipleChoice(id=id, context="", choices=(rest,) * len(contexts), answer=answer, contexts=contexts)


SETS = (
    DataSet(
        name="commonsense_qa",
        kind="multiple-choice",
        licence="MIT",
        note="Validation.",
        file=LocalFile(
            "commonsenseqa_val.jsonl.gz", "eefb14242e237a1bd280f95939645871094adb747b2ca58b9cdf5b51efee199f"
        ),
        columns=("id", "question", "choices", "answer"),
        read=read_commonsense_qa,
        hub=HubSource(
            id="tau/commonsense_qa",
            revision="94630fe30dad47192a8546eb75f094926d47e155",
            split="validation",
            columns=("id", "question", "choices", "answerKey"),
            read=read_commonsense_qa_hub,
            confirmed=CONFIRMED,
        ),
        evaluation=True,
    ),
    DataSet(
        name="copa",
        kind="multiple-choice",
        licence="BSD-2-Clause (Gordon et al.)",
        note="Validation; one space before a choice, where lm-eval has two.",
        file=LocalFile("copa_val.jsonl.gz", "091245d88e7c564aedd1989ff897bdfcfc50b5d2c61341eefb378711cf03654f"),
        columns=("id", "question", "kind", "choices", "answer"),
        read=read_copa,
        hub=HubSource(
            id="aps/super_glue",
            revision=SUPER_GLUE_REVISION,
            configs=("copa",),
            split="validation",
            columns=("premise", "question", "choice1", "choice2", "label"),
            read=read_copa_hub,
            confirmed=CONFIRMED,
        ),
        evaluation=True,
    ),
    DataSet(
        name="hellaswag",
        kind="multiple-choice",
        licence="MIT (rowanz/hellaswag)",
        note="Validation; the file has 994 of 10,042.",
        file=LocalFile(
            "hellaswag_val_full.jsonl.gz", "6329cea7ef24d1413b651d47c5b793c59b17e3d7f74c31dff0b4edae278cb291"
        ),
        columns=("id", "question", "choices", "answer"),
        read=read_hellaswag,
        hub=HubSource(
            id="Rowan/hellaswag",
            revision="218ec52e09a7e7462a5400043bb9a69a41d06b76",
            split="validation",
            columns=("activity_label", "ctx_a", "ctx_b", "endings", "label"),
            read=read_hellaswag_hub,
            confirmed=CONFIRMED,
        ),
        evaluation=True,
    ),
    DataSet(
        name="piqa",
        kind="multiple-choice",
        licence="AFL-3.0",
        note="Validation.",
        file=LocalFile("piqa_val.jsonl.gz", "a5bfe224d1c214f5efe5b096690589e71013262fef74d63cbfcbd08960b7e40e"),
        columns=("id", "question", "choices", "answer"),
        read=read_piqa,
        hub=HubSource(
            id="baber/piqa",
            revision="142f6d7367fd9877f0fb3b5734ea6a545f54cdd1",
            split="validation",
            columns=("goal", "sol1", "sol2", "label"),
            read=read_piqa_hub,
            confirmed=CONFIRMED,
        ),
        evaluation=True,
    ),
    DataSet(
        name="social_iqa",
        kind="multiple-choice",
        licence="CC BY 4.0",
        note="Validation.",
        file=LocalFile("siqa_val.jsonl.gz", "bff47a819d8f808bf4fb6cedec3d90a5ed100b0967617a61d265cbbd125e00cb"),
        columns=("id", "question", "choices", "answer"),
        read=read_social_iqa,
        hub=HubSource(
            id="lighteval/siqa",
            revision="54c6a1f8cb6daf4f5abf24a601852612fb35eb25",
            split="validation",
            columns=("context", "question", "answerA", "answerB", "answerC", "label"),
            read=read_social_iqa_hub,
            confirmed=CONFIRMED,
        ),
        evaluation=True,
    ),
    DataSet(
        name="winogrande",
        kind="multiple-choice",
        licence="CC BY (AI2)",
        note="Validation.",
        file=LocalFile("winogrande_val.jsonl.gz", "10011705a3e068cbf8d441625e58196904dd1d5b455f1705fee4486cfc295e41"),
        columns=("id", "sentence", "choices", "answer"),
        read=read_winogrande,
        hub=HubSource(
            id="allenai/winogrande",
            revision="01e74176c63542e6b0bcb004dcdea22d94fb67b5",
            configs=("winogrande_xl",),
            split="validation",
            columns=("sentence", "option1", "option2", "answer"),
            read=read_winogrande_hub,
            confirmed=CONFIRMED,
        ),
        evaluation=True,
    ),
    DataSet(
        name="lambada_openai",
        kind="cloze",
        licence="CC BY 4.0 (Paperno et al.)",
        note="Test; the file has 1,040 of 5,153.",
        file=LocalFile("lambada_openai.jsonl.gz", "b12ce3350996981d2b6dad77d2c65dc4495129458e7d3fc5652fa6efc2b92a3b"),
        columns=("id", "context", "target"),
        read=read_lambada,
        hub=HubSource(
            id="EleutherAI/lambada_openai",
            configs=("default",),
            split="test",
            columns=("text",),
            read=read_lambada_hub,
            confirmed="lm-eval's task of that name",
        ),
        evaluation=True,
    ),
)
