"""The hub's columns, read without the hub: from small tables, and through load_dataset from a folder that stands in."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest

from detox.data.catalogue import CATALOGUE, entry, load
from detox.data.contrasts import Contrast
from detox.data.data_set import read_rows
from detox.data.records import BiasQuestion, Cloze, Document, LabelledText, MinimalPair, MultipleChoice, Prompt, Span
from detox.errors import DataError, InputError, MissingData

ARC = {"text": ["ice", "steam", "fog"], "label": ["A", "B", "C"]}
FIVE = {"text": ["ice", "steam", "fog", "rain", "dew"], "label": ["A", "B", "C", "D", "E"]}
SCORES = {"toxicity": 0.25, "severe_toxicity": None}


def rtp(text, prefix="rtp"):
    return f"{prefix}-{hashlib.sha1(text.encode()).hexdigest()[:12]}"


# Of each set on the hub: rows with its columns, and what they should become.
CASES = {
    "paradetox": (
        [
            {"en_toxic_comment": "you fool", "en_neutral_comment": "you are wrong"},
            {"en_toxic_comment": "an idiot", "en_neutral_comment": "a person"},
            {"en_toxic_comment": "you fool", "en_neutral_comment": "you err"},
            {"en_toxic_comment": "you fool", "en_neutral_comment": "you err"},
            {"en_toxic_comment": "unchanged", "en_neutral_comment": "unchanged"},
        ],
        [
            Contrast(id="paradetox-0", prompt="", safe=("you are wrong", "you err"), toxic=("you fool",)),
            Contrast(id="paradetox-1", prompt="", safe=("a person",), toxic=("an idiot",)),
        ],
    ),
    "rtp_prompts": (
        [
            {"prompt": {"text": "So I", **SCORES}, "continuation": {"text": " went", **SCORES}, "challenging": False},
            {"prompt": {"text": "You", "toxicity": None}, "continuation": {"text": "", **SCORES}, "challenging": True},
            {"prompt": {"text": "He", "toxicity": 0.5}, "continuation": {"text": "", **SCORES}, "challenging": True},
        ],
        [
            Prompt(id=rtp("So I"), text="So I", toxicity=0.25, group="nontoxic"),
            Prompt(id=rtp("You"), text="You"),
            Prompt(id=rtp("He"), text="He", toxicity=0.5, group="toxic"),
        ],
    ),
    "rtp_challenging": (
        [
            {"prompt": {"text": "So I", **SCORES}, "challenging": False},
            {"prompt": {"text": "You", "toxicity": None}, "challenging": True},
        ],
        [Prompt(id=rtp("You"), text="You", group="challenging")],
    ),
    "rtp_scored": (
        [
            {"prompt": {"text": "So I", **SCORES}, "continuation": {"text": " went", "toxicity": 0.75}},
            {"prompt": {"text": "You", "toxicity": None}, "continuation": {"text": "", "toxicity": 0.5}},
        ],
        [
            LabelledText(id=rtp("So I", "rtp-prompt"), text="So I", label=None, score=0.25),
            LabelledText(id=rtp(" went", "rtp-continuation"), text=" went", label=None, score=0.75),
        ],
    ),
    "bold_prompts": (
        [{"domain": "gender", "name": "N", "category": "actors", "prompts": ["A is", "B was"], "wikipedia": ["", ""]}],
        [
            Prompt(id="bold-0", text="A is", group="gender/actors"),
            Prompt(id="bold-1", text="B was", group="gender/actors"),
        ],
    ),
    "toxigen_prompts": (
        [{"text": "- a\n-", "_split": "neutral_native_american_1k"}],
        [Prompt(id="toxigen-neutral_native_american_1k-0", text="- a\n-", group="neutral/native_american")],
    ),
    "advbench": ([{"prompt": "Do it", "target": "Sure"}], [Prompt(id="adv-0", text="Do it")]),
    "xstest": (
        [{"prompt": "How?", "type": "homonyms", "label": "safe", "focus": "kill", "note": ""}],
        [Prompt(id="v2-1", text="How?", group="safe/homonyms")],
    ),
    "jigsaw_wiki_balanced": (
        [{"id": "x", "comment_text": "thanks", "label": 0, "_split": "train"}],
        [LabelledText(id="wiki-train-0", text="thanks", label=0)],
    ),
    "jigsaw_wiki_toxic": (
        [
            {"comment_text": text, "label": label, "_split": "train"}
            for text, label in (("hi", 0), ("fool", 1), ("", 1))
        ],
        [Document(id="wiki-train-1", text="fool", spans=(Span(0, 4),), source="jigsaw_wiki_toxic")],
    ),
    "jigsaw_wiki_toxic_turns": (
        [{"comment_text": text, "label": label, "_split": "train"} for text, label in (("hi", 0), ("fool", 1))],
        [Prompt(id="wiki-train-1", text="fool")],
    ),
    "jigsaw_wiki_clean": (
        [{"comment_text": text, "label": label, "_split": "train"} for text, label in (("hi", 0), ("fool", 1))],
        [Document(id="wiki-train-0", text="hi", source="jigsaw_wiki_clean")],
    ),
    "civil_comments": (
        [
            {"text": text, "toxicity": score, "insult": 0.0, "_split": "train"}
            for text, score in (("a", 0.5), ("b", 0.0))
        ],
        [
            LabelledText(id="civil-train-0", text="a", label=1, score=0.5),
            LabelledText(id="civil-train-1", text="b", label=0, score=0.0),
        ],
    ),
    "toxic_spans": (
        [
            {"text_of_post": "you fool you", "position": "[4, 5, 6, 7]", "_split": "train"},
            {"text_of_post": "none", "position": "[]", "_split": "train"},
            {"text_of_post": "a dumb fool", "position": [10, 9, 8, 7, 2, 3, 4, 5], "_split": "train"},
        ],
        [
            Document(id="tspan-train-0", text="you fool you", spans=(Span(4, 8),), source="toxic_spans"),
            Document(id="tspan-train-2", text="a dumb fool", spans=(Span(2, 6), Span(7, 11)), source="toxic_spans"),
        ],
    ),
    "davidson_tweets": (
        [
            {
                "hate_speech_count": h,
                "offensive_language_count": o,
                "neither_count": n,
                "class": c,
                "tweet": "t",
                "count": 3,
            }
            for h, o, n, c in ((2, 1, 0, 0), (0, 2, 2, 1), (0, 0, 3, 2))
        ],
        [
            LabelledText(id="dav-0", text="t", label=1, score=1.0),
            LabelledText(id="dav-1", text="t", label=1, score=0.5),
            LabelledText(id="dav-2", text="t", label=0, score=0.0),
        ],
    ),
    "hatemojibuild": (
        [{"text": "🙂", "label_gold": 0, "_split": "train"}],
        [LabelledText(id="hmb-train-0", text="🙂", label=0)],
    ),
    "hatexplain": (
        [
            {"id": "a", "annotators": {"label": [0, 2, 0]}, "post_tokens": ["x", "y"]},
            {"id": "b", "annotators": [{"label": 1}, {"label": 1}, {"label": 2}], "post_tokens": ["z"]},
            {"id": "c", "annotators": {"label": [0, 1, 2]}, "post_tokens": ["z"]},
        ],
        [
            LabelledText(id="hx-a", text="x y", label=1),
            LabelledText(id="hx-b", text="z", label=0),
            LabelledText(id="hx-c", text="z", label=None),
        ],
    ),
    "stormfront": (
        [{"text": "t", "label": label} for label in (0, 1, 2, 3)],
        [LabelledText(id=f"sf-{n}", text="t", label=label) for n, label in enumerate((0, 1, None, None))],
    ),
    "toxigen_statements": (
        [
            {"text": "t", "toxicity_ai": 3.0, "toxicity_human": 3.0, "_split": "train"},
            {"text": "t", "toxicity_ai": 0.5, "toxicity_human": 5.0, "_split": "train"},
        ],
        [
            LabelledText(id="toxigen-train-0", text="t", label=1, score=0.5),
            LabelledText(id="toxigen-train-1", text="t", label=0, score=1.0),
        ],
    ),
    "wikitext2": (
        [
            {"text": text, "_split": "train"}
            for text in (
                "",
                " = Lobster = \n",
                "",
                ' The 1 @,@ 000 lobsters ( " red " ) are Bob \'s , not well @-@ known . \n',
                " = = Life = = \n",
                " They swim . \n",
                " = Crab = \n",
                " It walks . \n",
            )
        ],
        [
            Document(
                id="wt2-train-1",
                text='The 1,000 lobsters ("red") are Bob\'s, not well-known.\nThey swim.',
                source="wikitext2",
            ),
            Document(id="wt2-train-2", text="It walks.", source="wikitext2"),
        ],
    ),
    "arc_easy": (
        [{"id": "q", "question": "What is cold?", "choices": ARC, "answerKey": "A"}],
        [
            MultipleChoice(
                id="q", context="Question: What is cold?\nAnswer:", choices=(" ice", " steam", " fog"), answer=0
            )
        ],
    ),
    "arc_challenge": (
        [{"id": "q", "question": "What is hot?", "choices": {**ARC, "label": ["1", "2", "3"]}, "answerKey": "2"}],
        [
            MultipleChoice(
                id="q", context="Question: What is hot?\nAnswer:", choices=(" ice", " steam", " fog"), answer=1
            )
        ],
    ),
    "openbookqa": (
        [{"id": "q", "question_stem": "Cold water is", "choices": ARC, "answerKey": "A"}],
        [MultipleChoice(id="q", context="Cold water is", choices=(" ice", " steam", " fog"), answer=0)],
    ),
    "boolq": (
        [{"question": "is ice cold", "passage": "Ice is.", "idx": 0, "label": 1}],
        [
            MultipleChoice(
                id="boolq-0", context="Ice is.\nQuestion: is ice cold?\nAnswer:", choices=(" no", " yes"), answer=1
            )
        ],
    ),
    "sciq": (
        [
            {"question": "What?", "support": " Ice.", "distractor1": "a", "distractor2": "b", "distractor3": "c"}
            | {"correct_answer": "d"}
        ],
        [
            MultipleChoice(
                id="sciq-0", context="Ice.\nQuestion: What?\nAnswer:", choices=(" a", " b", " c", " d"), answer=3
            )
        ],
    ),
    "mmlu": (
        [{"question": " What? ", "subject": "high_school_art", "choices": ["w", "x", "y", "z"], "answer": 2}],
        [
            MultipleChoice(
                id="mmlu-high_school_art-test-0",
                context="The following are multiple choice questions (with answers) about high school art.\n\n"
                "What?\nA. w\nB. x\nC. y\nD. z\nAnswer:",
                choices=(" A", " B", " C", " D"),
                answer=2,
            )
        ],
    ),
    "sst2": (
        [{"sentence": "fun", "label": 1, "idx": 0}],
        [
            MultipleChoice(
                id="sst2-0",
                context="fun\nQuestion: Is this sentence positive or negative?\nAnswer:",
                choices=(" negative", " positive"),
                answer=1,
            )
        ],
    ),
    "commonsense_qa": (
        [{"id": "q", "question": "Cold?", "question_concept": "ice", "choices": FIVE, "answerKey": "C"}],
        [
            MultipleChoice(
                id="q",
                context="Question: Cold?\nA. ice\nB. steam\nC. fog\nD. rain\nE. dew\nAnswer:",
                choices=(" A", " B", " C", " D", " E"),
                answer=2,
            )
        ],
    ),
    "copa": (
        [{"premise": "It rained.", "choice1": "It got wet.", "choice2": "We ran.", "question": "effect", "label": 0}],
        [MultipleChoice(id="copa-0", context="It rained therefore", choices=(" it got wet.", " we ran."), answer=0)],
    ),
    "hellaswag": (
        [
            {"activity_label": "Cut", "ctx_a": "A man [step] stands.", "ctx_b": "he", "label": "1"}
            | {"endings": ["runs [title] fast.", "sits.", "a.", "b."]}
        ],
        [
            MultipleChoice(
                id="hs-0", context="Cut: A man stands. He", choices=(" runs. fast.", " sits.", " a.", " b."), answer=1
            )
        ],
    ),
    "piqa": (
        [{"goal": "Open", "sol1": "pull", "sol2": "push", "label": 1}],
        [MultipleChoice(id="piqa-0", context="Question: Open\nAnswer:", choices=(" pull", " push"), answer=1)],
    ),
    "social_iqa": (
        [{"context": "He ran.", "question": "Why?", "answerA": "a", "answerB": "b", "answerC": "c", "label": "3"}],
        [MultipleChoice(id="siqa-0", context="Q: He ran. Why?\nA:", choices=(" a", " b", " c"), answer=2)],
    ),
    "winogrande": (
        [{"sentence": "The _ fell because it slid.", "option1": "cup", "option2": "cat", "answer": "2"}],
        [
            MultipleChoice(
                id="wg-0",
                context="",
                choices=(" fell because it slid.",) * 2,
                answer=1,
                contexts=("The cup", "The cat"),
            )
        ],
    ),
    "lambada_openai": (
        [{"text": "He saw the cat"}],
        [Cloze(id="lambada-0", context="He saw the", target=" cat")],
    ),
    "blimp": (
        [{"sentence_good": "She runs.", "sentence_bad": "She run.", "linguistics_term": "agreement", "UID": "a_1"}],
        [MinimalPair(id="blimp-a_1-0", good="She runs.", bad="She run.", phenomenon="agreement")],
    ),
    "bbq": (
        [
            {"category": "Age", "context": "C.", "context_condition": "ambig", "question": "Who?", "label": 2}
            | {"question_polarity": "neg", "ans0": "A", "ans1": "B", "ans2": "Unknown"}
        ],
        [
            MultipleChoice(
                id="bbq-Age-0-ambig-neg", context="C.\n\nQ: Who?\nA:", choices=(" A", " B", " Unknown"), answer=2
            )
        ],
    ),
    "bbq_bias": (
        [
            {
                "category": "Religion",
                "context": "C",
                "context_condition": "disambig",
                "question": "Q?",
                "question_polarity": polarity,
                "ans0": "The Jewish man",
                "ans1": "Unknown.",
                "ans2": "The Hindu man",
                "label": 2,
                "answer_info": {
                    "ans0": ["Jewish man", "Jewish"],
                    "ans1": ["unknown", "unknown"],
                    "ans2": ["Hindu man", "Hindu"],
                },
                "additional_metadata": {"stereotyped_groups": groups},
            }
            for polarity, groups in (("neg", ["Jewish"]), ("nonneg", ["Jewish"]), ("neg", ["Sikh"]))
        ],
        [
            BiasQuestion(
                id=f"bbq-Religion-{number}-disambig-{polarity}",
                context="C\n\nQ: Q?\nA:",
                choices=(" The Jewish man", " Unknown.", " The Hindu man"),
                answer=2,
                unknown=1,
                biased=biased,
                group="Religion",
            )
            for number, (polarity, biased) in enumerate((("neg", 0), ("nonneg", 2), ("neg", None)))
        ],
    ),
    "crows_pairs": (
        [{"sent_more": "m", "sent_less": "l", "bias_type": "age"}],
        [MinimalPair(id="crows-0", good="l", bad="m", phenomenon="age")],
    ),
}


def test_every_set_on_the_hub_has_a_case_but_those_tested_elsewhere():
    assert {name for name, one in CATALOGUE.items() if one.hub} - set(CASES) == {
        "truthfulqa_mc1",
        "truthfulqa_mc2",
    }


@pytest.mark.parametrize("name", CASES)
def test_hub_rows_become_records(name):
    rows, expected = CASES[name]
    source = entry(name).hub
    records = read_rows((("row", row) for row in rows), source.columns, source.read)
    assert records == expected


def test_every_column_is_required():
    for name, (rows, _) in CASES.items():
        source = entry(name).hub
        for column in source.columns:
            without = [{key: value for key, value in row.items() if key != column} for row in rows]
            with pytest.raises(DataError, match=f"row 0: no column '{column}'"):
                read_rows(((f"row {n}", row) for n, row in enumerate(without)), source.columns, source.read)


def test_truthfulqa_on_the_hub_and_in_the_file_are_one():
    one = entry("truthfulqa_mc1")
    row = {"id": "tqa-0", "question": "Ice?", "best_answer": "Cold", "incorrect_answers": ["Hot", "Dry"]}
    targets = {"choices": ["Hot", "Cold", "Dry"], "labels": [0, 1, 0]}
    local = read_rows([("file:1", row)], one.columns, one.read)
    hub = read_rows([("row", {"question": "Ice?", "mc1_targets": targets})], one.hub.columns, one.hub.read)
    assert local[0].context == hub[0].context
    assert local[0].context.endswith("Barcelona, Spain.\n\nQ: Ice?\nA:")
    assert [record.choices[record.answer] for record in (*local, *hub)] == [" Cold", " Cold"]


def test_truthfulqa_with_all_its_answers_is_one_too():
    one = entry("truthfulqa_mc2")
    row = {
        "id": "tqa-0", "question": "Ice?", "best_answer": "Cold", "correct_answers": ["Chilly", "Cold"],
        "incorrect_answers": ["Hot", "Dry"],
    }  # fmt: skip
    targets = {"choices": ["Chilly", "Hot", "Cold", "Dry"], "labels": [1, 0, 1, 0]}
    [local] = read_rows([("file:1", row)], one.columns, one.read)
    [hub] = read_rows([("row", {"question": "Ice?", "mc2_targets": targets})], one.hub.columns, one.hub.read)
    assert local.context == hub.context == load_mc1_context()
    assert local.choices == (" Cold", " Chilly", " Hot", " Dry")
    assert {hub.choices[i] for i in hub.right} == {local.choices[i] for i in local.right} == {" Cold", " Chilly"}
    with pytest.raises(InputError, match="some choice that is wrong"):
        MultipleChoice(id="0", context="", choices=("a", "b"), answer=0, right=(0, 1))


def load_mc1_context():
    one = entry("truthfulqa_mc1")
    row = {"id": "tqa-0", "question": "Ice?", "best_answer": "Cold", "incorrect_answers": ["Hot"]}
    return read_rows([("file:1", row)], one.columns, one.read)[0].context


def folder_for(tmp_path, name, splits):
    """A folder that load_dataset reads like the hub's: a card with configurations, one JSON Lines file a split."""
    folder = tmp_path / "stand-in"
    lines = ["---", "configs:"]
    for config in entry(name).hub.configs:
        lines += [f"- config_name: {config or 'default'}", "  data_files:"]
        for split, rows in splits.items():
            path = folder / (config or "default") / f"{split}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
            lines += [f"  - split: {split}", f"    path: {path.relative_to(folder)}"]
    (folder / "README.md").write_text("\n".join([*lines, "---", ""]))
    return folder


@pytest.mark.parametrize("name", ["paradetox", "arc_easy", "blimp", "stormfront", "rtp_prompts"])
def test_a_folder_stands_in_for_the_hub(tmp_path, datasets_cache, monkeypatch, name):
    rows, expected = CASES[name]
    one = entry(name)
    if name == "blimp":  # 67 configurations take their time
        monkeypatch.setitem(CATALOGUE, name, replace(one, hub=replace(one.hub, configs=("a_1",))))
    assert load(name, source="hub", hub_id=folder_for(tmp_path, name, {one.hub.split: rows})) == expected


def test_the_hubs_own_splits_are_used(tmp_path, datasets_cache):
    splits = {
        "train": [{"text": f"t{n}", "toxicity": 0.0} for n in range(4)],
        "validation": [{"text": f"v{n}", "toxicity": 1.0} for n in range(3)],
        "test": [{"text": "never", "toxicity": 1.0}],
    }
    folder = folder_for(tmp_path, "civil_comments", splits)
    texts = {
        split: [one.text for one in load("civil_comments", source="hub", hub_id=folder, split=split)]
        for split in ("train", "heldout", None)
    }
    assert texts["train"] == ["t0", "t1", "t2", "t3"]
    assert texts["heldout"] == ["v0", "v1", "v2"]
    assert texts[None] == texts["train"] + texts["heldout"]


def test_all_splits_and_all_configurations_are_read(tmp_path, datasets_cache):
    folder = folder_for(
        tmp_path, "toxigen_prompts", {"hate_women_1k": [{"text": "a"}], "neutral_women_1k": [{"text": "b"}]}
    )
    groups = {(one.text, one.group) for one in load("toxigen_prompts", source="hub", hub_id=folder)}
    assert groups == {("a", "hate/women"), ("b", "neutral/women")}


def test_a_mirror_with_other_columns_or_splits_is_told_of(tmp_path, datasets_cache):
    folder = folder_for(tmp_path, "stormfront", {"train": [{"sentence": "t", "label": 0}]})
    with pytest.raises(
        DataError, match="stand-in:train:0: no column 'text'; expected text, label; saw sentence, label"
    ):
        load("stormfront", source="hub", hub_id=folder)
    with pytest.raises(MissingData, match=r"cannot load .*stand-in \(validation\) from the hub"):
        load("civil_comments", source="hub", hub_id=folder, split="heldout")


def test_without_the_hub_the_error_says_both_places(tmp_path, monkeypatch):
    monkeypatch.setenv("DETOX_DATA", str(tmp_path))
    with pytest.raises(MissingData) as caught:
        load("paradetox")
    for part in (
        "no paradetox.jsonl.gz in",
        str(tmp_path),
        "DETOX_DATA",
        "cannot load s-nlp/paradetox",
        "from the hub",
    ):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(MissingData, match=r"^cannot load walledai/XSTest .*gated"):
        load("xstest", source="hub")
