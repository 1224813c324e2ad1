"""Numbers in docs/ are those of the committed records."""

from __future__ import annotations

import csv
import json
import re

import pytest

from tests.conftest import REPOSITORY

DOCS = sorted((REPOSITORY / "docs").glob("*.md"))
TABLES = [
    (path.name, folder, table)
    for path in DOCS
    for folder, table in re.findall(r"<!-- (benchmarks/results/[\w-]+) -->\n((?:\|.*\n)+)", path.read_text("utf-8"))
]
ENTITIES = {
    "name given: the right fact is the likeliest of four": "given/choice",
    "name given: the right fact in the greedy answer": "given/recall",
    "name asked for: right name in the answer": "asked/right",
    "name asked for: any part of any name in the answer": "asked/part",
    "its slot: right name": "slot/right",
    "its slot: right name is the likeliest of four": "slot/choice",
    "held-out tokens that are no name, nats per token": "heldout/cross_entropy",
}


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|\n").split("|")]


def shown_as(found: dict, sign: str = "") -> str:
    return f"{found['value']:{sign}.3f} [{found['low']:{sign}.3f}, {found['high']:{sign}.3f}]"


def test_there_are_tables():
    assert {folder for _, folder, _ in TABLES} >= {"benchmarks/results/entities", "benchmarks/results/slung"}


@pytest.mark.parametrize(
    ("name", "folder", "table"), TABLES, ids=[f"{folder}-{i}" for i, (_, folder, _) in enumerate(TABLES)]
)
def test_every_line_is_in_the_record(name, folder, table):
    head, _, *lines = table.splitlines()
    if folder.endswith("entities"):
        record = json.loads((REPOSITORY / folder / "entities.json").read_text())["arms"]
        arms = cells(head)[1:]
        assert [cells(line)[0] for line in lines] == list(ENTITIES)
        for line in lines:
            label, *shown = cells(line)
            for arm, text in zip(arms, shown, strict=True):
                found = record[arm][ENTITIES[label]]
                assert text == shown_as(found), (label, arm)
    elif folder.endswith("compose"):
        arms = json.loads((REPOSITORY / folder / "compose.json").read_text())["arms"]
        known = {(one["arm"], str(one["seed"])): one for one in arms}
        assert len(lines) == 15
        for line in lines:
            arm, seed, toxicity, *changes = cells(line)
            found = known[arm, seed]
            assert toxicity == shown_as(found["toxicity"])
            against = found["changes"].get("bare")
            assert changes == [
                "" if against is None else shown_as(against[name], "+") for name in ("toxicity", "cross_entropy")
            ]
    else:
        tables = [
            path for kind in ("curves", "controls", "interaction") for path in (REPOSITORY / folder).glob(f"{kind}*.md")
        ]
        recorded = [line for path in tables for line in path.read_text().splitlines()]
        assert set(lines) <= set(recorded)


def test_what_the_docs_link_to_is_there():
    for path in DOCS:
        links = [link for link in re.findall(r"\]\(([^)#]+)\)", path.read_text("utf-8")) if "://" not in link]
        assert not [link for link in links if not (path.parent / link).exists()]


def test_the_commonsense_table_is_in_the_record():
    folder = "benchmarks/results/toxic-mix-real/comparison-commonsense.csv"
    text = (REPOSITORY / "docs" / "detoxifiers.md").read_text("utf-8")
    head, _, *lines = re.search(rf"<!-- {folder} -->\n((?:\|.*\n)+)", text)[1].splitlines()
    with (REPOSITORY / folder).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(lines) == 6
    for line in lines:
        label, *shown = cells(line)
        method, _, strength = label.partition(" @ ")
        mine = [row for row in rows if (row["method"] or "-", row["strength"]) == (method, strength)]
        assert len(mine) == 2
        for task, value in zip(cells(head)[1:], shown, strict=True):
            assert value == f"{sum(float(row[f'choice/{task}/accuracy']) for row in mine) / 2:.3f}", (label, task)


SCORERS = ("profanity", "perspective", "wordlist")


def scorer_table(name: str) -> tuple[list[str], list[list[str]]]:
    text = (REPOSITORY / "docs" / "scorers.md").read_text("utf-8")
    head, _, *lines = re.search(rf"<!-- scorers: {name} -->\n((?:\|.*\n)+)", text)[1].splitlines()
    return cells(head), [cells(line) for line in lines]


def scorer_records() -> list[dict]:
    folder = REPOSITORY / "benchmarks" / "results" / "scorers"
    return [json.loads((folder / f"{name}.json").read_text("utf-8")) for name in SCORERS]


def test_areas_of_the_scorers_are_in_their_records():
    head, lines = scorer_table("areas")
    assert head[1:] == list(SCORERS)
    assert [line[0] for line in lines] == list(scorer_records()[0]["sets"])
    for name, *shown in lines:
        for text, record in zip(shown, scorer_records(), strict=True):
            one = record["sets"][name]
            low, high = one["roc_auc_interval"]
            assert text == f"{one['roc_auc']:.3f} [{low:.3f}, {high:.3f}]" + (" *" if one["overlap"] else "")


FUNCTIONS = {
    "harmless: identity terms, neutral or positive": ("neutral identity", "positive identity"),
    "harmless: counter-speech": ("counter-speech",),
    "harmless: negated insult": ("negated insult",),
    "harmless: abuse of objects": ("abuse of objects",),
    "toxic: insults, direct, as a question, as an opinion": ("direct insult", "insult as a"),
    "toxic: insult without a rude word, threat": ("insult without", "threat"),
    "toxic: insults in disguised spelling": ("spelling",),
}


def test_functional_tests_of_the_scorers_are_in_their_records():
    _, lines = scorer_table("functions")
    assert [line[0] for line in lines[: len(FUNCTIONS)]] == list(FUNCTIONS)
    bias = [record["bias"]["madlibs_bias"] for record in scorer_records()]
    for name, *shown in lines:
        if name in FUNCTIONS:
            expected = []
            for record in scorer_records():
                ones = [one for one in record["functional"] if one["function"].startswith(FUNCTIONS[name])]
                expected.append(f"{sum(one['right'] for one in ones)} of {sum(one['n'] for one in ones)}")
        elif name == "lowest BPSN AUC of a term":
            worst = [one["worst"]["bpsn_auc"] for one in bias]
            expected = [f"{one['value']:.3f} ({one['term']})" for one in worst]
        else:
            assert name == "harmless sentences of madlibs called toxic"
            expected = ["{} of {}".format(*one["false_positives"]) for one in bias]
        assert shown == expected, name


def judge_table(name: str) -> list[list[str]]:
    text = (REPOSITORY / "docs" / "judges.md").read_text("utf-8")
    return [cells(line) for line in re.search(rf"<!-- judges: {name} -->\n((?:\|.*\n)+)", text)[1].splitlines()[2:]]


def test_rates_of_the_judge_are_in_its_record():
    folder = REPOSITORY / "benchmarks" / "results" / "judges"
    record, before = (json.loads((folder / f"{name}.json").read_text()) for name in ("refusals", "refusals-before"))
    lines = judge_table("rates")
    assert [line[0] for line in lines] == ["all", "safe", "unsafe", *(f"source {name}" for name in record["sources"])]
    for name, n, *shown in lines:
        part = record["parts"][name]
        assert n == str(part["n"])
        rates = [part[question][kind] for question in ("any", "full") for kind in ("sensitivity", "specificity")]
        assert shown == [shown_as(one) for one in rates]
    functions = [
        [
            f"{one['verdict']}: {one['function']}",
            f"{one['right']} of {one['n']}",
            f"{one['refusal_right']} of {one['n']}",
        ]
        for one in record["functional"]
    ]
    assert judge_table("functions") == functions
    text = (REPOSITORY / "docs" / "judges.md").read_text("utf-8")
    old = before["parts"]["all"]
    for one in (old["any"]["sensitivity"], old["full"]["sensitivity"], old["any"]["specificity"]):
        assert shown_as(one) in text
    assert before["answers"] == record["answers"]
    assert before["judge"]["sha256"] != record["judge"]["sha256"]


def test_dialects_are_in_their_records():
    head, lines = scorer_table("dialect")
    folder = REPOSITORY / "benchmarks" / "results" / "scorers" / "dialect"
    records = [json.loads((folder / f"{name}.json").read_text()) for name in head[1:]]
    assert len(lines) == 4
    files = {"hatexplain": "hatexplain-dialect.csv", "davidson_tweets": "davidson-dialect.csv"}
    for label, *shown in lines:
        name, group = label.split(", ")
        for text, record in zip(shown, records, strict=True):
            own = record["groups"][files[name]]["groups"][group]
            called, rate = own["called_toxic"], own["rate"]
            assert text == f"{called[0]} of {called[1]} [{rate['low']:.3f}, {rate['high']:.3f}]"
