"""Contrasts by a model in this process: kept, counted, gone on with, and what is wrong in one line."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from detox.data import normalised, read_contrasts
from detox.data.contrasts import digest
from detox.data.making import ModelWriter, Seed, make_contrasts
from detox.data.making.prompts import SIDES
from detox.data.making.writers import Answered, Text, Unanswered
from detox.errors import DataError, InputError, OutputError, UnknownName
from tests.data.making.conftest import INSTRUCTIONS, SAMPLING, loose_filters


@pytest.fixture
def writer(writing):
    return ModelWriter(lm=writing, sampling=SAMPLING, instructions=INSTRUCTIONS, name="planted")


class Scripted:
    """Answers from a table; raises KeyboardInterrupt where it says so."""

    sampling = SAMPLING

    def __init__(self, table, name="scripted"):
        self.table, self.name, self.asked = table, name, []

    def identity(self):
        return {"kind": "scripted", "name": self.name}

    describe = identity

    def write(self, requests):
        for request in requests:
            self.asked.append(request)
            answers = self.table(request)
            if answers is None:
                raise KeyboardInterrupt
            if isinstance(answers, str):
                yield Unanswered(request, answers)
            else:
                yield Answered(request, tuple(Text(text, "stop") for text in answers))


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_model_makes_contrasts_that_are_what_they_say(writer, seeds, tmp_path):
    filters = loose_filters(max_length=10.0)
    given = [*seeds, Seed("again", seeds[0].text.upper())]
    made = make_contrasts(given, writer, tmp_path / "pairs.jsonl", filters=filters, min_safe=2, min_toxic=1)
    contrasts = read_contrasts(tmp_path / "pairs.jsonl")
    assert contrasts == made.contrasts
    assert contrasts
    for one in contrasts:
        assert one.prompt == ""
        assert one.group == one.id
        assert len(one.safe) >= 2
        assert all("rude" not in text for text in one.safe)
        assert all("rude" in text for text in one.toxic)
        texts = [normalised(text) for text in (*one.safe, *one.toxic)]
        assert len(texts) == len(set(texts))
    record = json.loads((tmp_path / "pairs.record.json").read_text())
    assert record == made.record
    assert record["seeds"]["given"] == 13
    assert record["seeds"]["repeated"] == 1
    assert record["contrasts"]["written"] + record["contrasts"]["too_few"] == 12
    assert record["contrasts"]["sha256"] == digest(contrasts)
    assert record["writer"]["fingerprint"] == writer.lm.fingerprint()
    for side in SIDES:
        counts = record["counts"][side]
        assert counts["answers"] == 12 * SAMPLING.num_return_sequences
        assert counts["kept"] + sum(counts["dropped"].values()) == counts["answers"]
        for name, number in counts["failed"].items():
            assert number >= counts["dropped"][name]
    assert str(tmp_path) not in json.dumps(record)
    assert len(lines(tmp_path / "pairs.answers.jsonl")) == 1 + 2 * 12


def test_what_was_interrupted_goes_on_to_the_same_files(writer, seeds, tmp_path, monkeypatch):
    (tmp_path / "whole").mkdir()
    make_contrasts(seeds, writer, tmp_path / "whole" / "pairs.jsonl", filters=loose_filters())
    (tmp_path / "parts").mkdir()
    output = tmp_path / "parts" / "pairs.jsonl"
    import detox.data.making.writers as writers

    asked = []

    def failing(lm, prompts, sampling):
        asked.append(len(prompts))
        if len(asked) == 4:
            raise KeyboardInterrupt
        return original(lm, prompts, sampling)

    original = writers.generate
    monkeypatch.setattr(writers, "generate", failing)
    with pytest.raises(KeyboardInterrupt):
        make_contrasts(seeds, writer, output, filters=loose_filters())
    assert asked == [2, 2, 2, 2]  # eight texts a batch, four a request
    state = tmp_path / "parts" / "pairs.answers.jsonl"
    assert len(lines(state)) == 1 + 6
    with state.open("ab") as file:
        file.write(b'{"id": "s3", "side": "to')  # as a kill leaves it
    monkeypatch.setattr(writers, "generate", original)
    make_contrasts(seeds, writer, output, filters=loose_filters())
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def test_other_filters_and_more_seeds_ask_for_nothing_again(tmp_path):
    writer = Scripted(lambda request: [f"kind {request.text} {n}" if request.side == "safe" else f"rude {request.text} {n}" for n in range(3)])  # fmt: skip  # noqa: E501
    seeds = [Seed("a", "one two three"), Seed("b", "four five six")]
    output = tmp_path / "pairs.jsonl.gz"
    assert len(make_contrasts(seeds, writer, output, filters=loose_filters()).contrasts) == 2
    assert len(writer.asked) == 4
    made = make_contrasts(seeds, writer, output, filters=loose_filters(min_similarity=0.1), at_most=2)
    assert len(writer.asked) == 4
    assert made.record["counts"]["safe"]["dropped"]["more than asked for"] == 2
    assert [len(one.safe) for one in read_contrasts(output)] == [2, 2]
    make_contrasts([Seed("c", "seven eight"), *seeds], writer, output, filters=loose_filters())
    assert len(writer.asked) == 6
    # A number that has changed is nothing; a text that has changed is another seed.
    make_contrasts([Seed("b", "one two three"), Seed("z", "four five six")], writer, output, filters=loose_filters())
    assert len(writer.asked) == 6
    make_contrasts([Seed("a", "one two")], writer, output, filters=loose_filters())
    assert len(writer.asked) == 8
    assert [one.id for one in read_contrasts(output)] == ["a"]


def test_the_likest_come_first_where_not_all_are_taken(tmp_path):
    answers = {"safe": ["far off", "one two five", "one two three five"], "toxic": ["rude far", "one rude two"]}
    made = make_contrasts(
        [Seed("a", "one two three four")], Scripted(lambda request: answers[request.side]), tmp_path / "pairs.jsonl",
        filters=loose_filters(), at_most=1,
    )  # fmt: skip
    assert made.contrasts[0].safe == ("one two three five",)
    assert made.contrasts[0].toxic == ("one rude two",)


def test_a_seed_with_too_few_is_named_with_the_reasons(tmp_path):
    def table(request):
        if request.seed == "b":
            return ["rude thing", "", "I cannot help with that", request.text]
        return [f"kind {request.seed}"] if request.side == "safe" else [f"rude {request.seed}"]

    seeds = [Seed("a", "one two"), Seed("b", "three four")]
    made = make_contrasts(seeds, Scripted(table), tmp_path / "pairs.jsonl", filters=loose_filters())
    assert [one.id for one in made.contrasts] == ["a"]
    (few,) = made.too_few
    assert (few.seed, few.safe, few.toxic) == ("b", 0, 0)
    assert few.why.startswith("safe: 0 of 4 (")
    for part in ("1 empty", "1 refused", "1 copy", "1 both sides"):
        assert part in few.why
    assert made.refused == {"safe": 1 / 5, "toxic": 1 / 5}


def test_what_was_not_answered_is_asked_again(tmp_path):
    silent = {"b"}

    def table(request):
        if request.seed in silent and request.side == "toxic":
            return "the sentence is too long"
        return [f"kind {request.seed}"] if request.side == "safe" else [f"rude {request.seed}"]

    writer = Scripted(table)
    seeds = [Seed("a", "one two"), Seed("b", "three four")]
    made = make_contrasts(seeds, writer, tmp_path / "pairs.jsonl", filters=loose_filters())
    assert [one.id for one in made.contrasts] == ["a"]
    assert [(one.request.seed, one.request.side) for one in made.unanswered] == [("b", "toxic")]
    assert made.record["seeds"]["unanswered"] == 1
    assert made.too_few == []
    silent.clear()
    made = make_contrasts(seeds, writer, tmp_path / "pairs.jsonl", filters=loose_filters())
    assert [one.id for one in made.contrasts] == ["a", "b"]
    assert len(writer.asked) == 5
    silent.add("c")
    with pytest.raises(InputError, match="not one of 1 requests was answered, the first: the sentence is too long"):
        make_contrasts(
            [Seed("c", "x y")],
            Scripted(lambda request: "the sentence is too long" if request.side == "toxic" else []),
            tmp_path / "other.jsonl",
            filters=loose_filters(),
        )


def test_one_sentence_too_long_for_the_model_is_no_end_of_the_others(writer, tmp_path):
    seeds = [Seed("long", "topic1 " * 100), Seed("short", "topic1 topic2 kind3")]
    made = make_contrasts(seeds, writer, tmp_path / "pairs.jsonl", filters=loose_filters())
    assert [one.id for one in made.contrasts] == ["short"]
    assert {one.request.seed for one in made.unanswered} == {"long"}
    assert "the model's context holds 64" in made.unanswered[0].reason


def test_answers_of_another_writer_are_not_gone_on_with(writer, seeds, tmp_path):
    output = tmp_path / "pairs.jsonl"
    make_contrasts(seeds[:2], writer, output, filters=loose_filters())
    with pytest.raises(InputError, match=r"begun with sampling temperature 1.0, now it is 0.7; give another"):
        make_contrasts(
            seeds, replace(writer, sampling=replace(SAMPLING, temperature=0.7)), output, filters=loose_filters()
        )
    with pytest.raises(InputError, match="begun with kind 'model', now it is 'scripted'"):
        make_contrasts(seeds, Scripted(lambda request: []), output, filters=loose_filters())


def test_one_process_at_a_time(writer, seeds, tmp_path):
    from detox.data.making.state import opened

    with (
        opened(tmp_path / "pairs.answers.jsonl", writer.identity()),
        pytest.raises(InputError, match="another process is adding to"),
    ):
        make_contrasts(seeds, writer, tmp_path / "pairs.jsonl", filters=loose_filters())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"id": "x"}\n', "pairs.answers.jsonl:1: not the first line of answers"),
        (b"hello", "pairs.answers.jsonl:1: not the first line of answers"),
        (b'{"writing": {"kind": "scripted", "name": "scripted"}}\n{"id": 3}\n', "pairs.answers.jsonl:2: not a line of"),
        (b'{"writing": {"kind": "scripted", "name": "scripted"}}\n{"id\n{}\n', "pairs.answers.jsonl:2: not JSON"),
    ],
)
def test_a_file_of_something_else_is_left_alone(content, said, tmp_path):
    path = tmp_path / "pairs.answers.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=said):
        make_contrasts([Seed("a", "b c")], Scripted(lambda r: []), tmp_path / "pairs.jsonl", filters=loose_filters())
    assert path.read_bytes() == content


def test_cut_off_anywhere_the_file_of_answers_goes_on(tmp_path):
    writer = Scripted(lambda request: [f"kind {request.seed}"] if request.side == "safe" else [f"rude {request.seed}"])
    seeds = [Seed("a", "one two"), Seed("b", "drei vier fünf")]
    make_contrasts(seeds, writer, tmp_path / "pairs.jsonl", filters=loose_filters())
    whole, state = contents(tmp_path), tmp_path / "pairs.answers.jsonl"
    data = state.read_bytes()
    for cut in range(0, len(data), 3):
        state.write_bytes(data[:cut])
        asked = len(writer.asked)
        make_contrasts(seeds, writer, tmp_path / "pairs.jsonl", filters=loose_filters())
        assert contents(tmp_path) == whole
        assert len(writer.asked) - asked == 4 - max(0, data[:cut].count(b"\n") - 1)


def test_nothing_left_is_an_error_that_says_why(tmp_path):
    writer = Scripted(lambda request: ["rude " + request.text, "I cannot write that"])
    with pytest.raises(InputError, match=r"no seed has enough paraphrases \(safe: 0 of 2 \(1 refused, 1 both sides\)"):
        make_contrasts([Seed("a", "one two")], writer, tmp_path / "pairs.jsonl", filters=loose_filters())
    assert not (tmp_path / "pairs.jsonl").exists()
    assert len(lines(tmp_path / "pairs.answers.jsonl")) == 3


@pytest.mark.parametrize(
    ("name", "options", "error", "said"),
    [
        ("pairs.json", {}, InputError, "ends in .jsonl or .jsonl.gz"),
        (".jsonl", {}, InputError, "ends in .jsonl"),
        ("folder.jsonl", {}, OutputError, "is a folder"),
        ("pairs.jsonl", {"min_safe": 0}, InputError, "min_safe is 0"),
        ("pairs.jsonl", {"min_toxic": 3, "at_most": 2}, InputError, "at_most is 2"),
        ("file.txt/pairs.jsonl", {}, OutputError, "cannot write to"),
    ],
)
def test_what_cannot_be_meant(name, options, error, said, tmp_path):
    (tmp_path / "folder.jsonl").mkdir()
    (tmp_path / "file.txt").write_text("x")
    with pytest.raises(error, match=said):
        make_contrasts([Seed("a", "b")], Scripted(lambda r: []), tmp_path / name, filters=loose_filters(), **options)
    with pytest.raises(InputError, match="no seeds"):
        make_contrasts([], Scripted(lambda r: []), tmp_path / "pairs.jsonl", filters=loose_filters())


def test_a_form_that_is_none(writing):
    with pytest.raises(UnknownName, match="did you mean 'chat'"):
        ModelWriter(lm=writing, form="chatt")
    assert ModelWriter(lm=writing).form == "plain"  # no chat template


def test_texts_that_no_file_can_hold_are_made_fit(tmp_path):
    writer = Scripted(lambda request: ["kind \ud800 \0thing"] if request.side == "safe" else ["rude"])
    made = make_contrasts([Seed("a", "one two")], writer, tmp_path / "pairs.jsonl", filters=loose_filters())
    assert made.contrasts[0].safe == ("kind \ufffd thing",)
    assert make_contrasts([Seed("a", "one two")], writer, tmp_path / "pairs.jsonl", filters=loose_filters()).record == made.record  # fmt: skip  # noqa: E501


def test_a_detoxified_model_may_write(writing, seeds, tmp_path):
    from detox.detoxifiers import Prompting

    with Prompting(text="topic1 says kind1 ").applied(writing) as safer:
        writer = ModelWriter(lm=safer, sampling=SAMPLING, instructions=INSTRUCTIONS)
        made = make_contrasts(seeds[:3], writer, tmp_path / "pairs.jsonl", filters=loose_filters())
    assert made.record["writer"]["edits"] != []
    assert made.record["writer"]["fingerprint"] != writing.fingerprint()
