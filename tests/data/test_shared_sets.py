"""The real files: read whole, hashes checked. Nothing of their text is written here."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from detox.data.catalogue import CATALOGUE, load, load_as, names
from detox.data.corpora import CLEAN, TOXIC, clean_corpus, corpus_sizes, toxic_corpus
from detox.data.data_set import KINDS
from detox.data.records import (
    Cloze,
    Document,
    LabelledText,
    LexiconTerm,
    MinimalPair,
    MultipleChoice,
    Prompt,
    group_names,
)
from detox.data.sets.prompts import read_rtp_hub
from detox.data.subsets import normalised, split_of, stratum, texts_of

pytestmark = [pytest.mark.shared_data, pytest.mark.usefixtures("shared_data")]

LOCAL = sorted(name for name, one in CATALOGUE.items() if one.file)
COUNTS = {
    "advbench": 180,
    "appdia": 1755,
    "arc_challenge": 299,
    "arc_easy": 570,
    "bbq": 476,
    "bbq_bias": 476,
    "blimp": 2652,
    "bold_prompts": 3857,
    "boolq": 502,
    "cat_wiki_clean": 6279,
    "cat_wiki_context": 6449,
    "cat_wiki_dialogues": 2115,
    "clean_fiction": 334,
    "clean_gov": 1585,
    "clean_peps": 133,
    "commonsense_qa": 365,
    "conda_game_chat": 7996,
    "conda_game_chat_spans": 7993,
    "copa": 100,
    "crows_pairs": 597,
    "davidson_tweets": 9795,
    "dexperts_human_prefs": 52,
    "dpo_toxic_prompts": 282,
    "edos_sexism": 6996,
    "hatemojibuild": 5067,
    "hatexplain": 7987,
    "hellaswag": 994,
    "implicit_hate": 3999,
    "jigsaw_sentences": 13243,
    "jigsaw_wiki_balanced": 7884,
    "jigsaw_wiki_clean": 4387,
    "jigsaw_wiki_toxic": 3497,
    "jigsaw_wiki_toxic_turns": 3497,
    "lambada_openai": 1040,
    "lexicons": 12129,
    "madlibs_bias": 2381,
    "mmlu": 2252,
    "openbookqa": 500,
    "paradetox": 10630,
    "paradetox_cannot_rewrite": 2893,
    "perspective_wiki_2k": 1006,
    "piqa": 569,
    "pol_perspective": 1083,
    "pol_posts": 13938,
    "rtp_prompts": 5994,
    "rtp_scored": 5994,
    "sciq": 313,
    "social_iqa": 595,
    "sst2": 872,
    "stormfront": 4410,
    "toxic_spans": 7816,
    "toxic_spans_labelled": 13943,
    "toxigen_groups": 4904,
    "toxigen_prompts": 913,
    "toxigen_statements": 4904,
    "truthfulqa_mc1": 262,
    "truthfulqa_mc2": 262,
    "wikitext2": 493,
    "winogrande": 384,
    "xstest": 197,
}


@pytest.fixture(scope="module")
def everything(shared_data):
    return {name: load(name, source="local") for name in LOCAL}


def test_every_file_is_the_pinned_one_and_every_row_is_read(everything):
    assert {name: len(records) for name, records in everything.items()} == COUNTS


def test_every_file_of_the_folder_is_in_the_catalogue(shared_data):
    files = {path.name for path in shared_data.glob("*.jsonl.gz")}
    assert files == {one.file.name for one in CATALOGUE.values() if one.file}


def test_ids_are_unique_and_types_are_those_of_the_kind(everything):
    for name, records in everything.items():
        assert len({one.id for one in records}) == len(records), name
        assert {type(one) for one in records} == {KINDS[CATALOGUE[name].kind]}, name
        assert all(text.strip() for one in records for text in texts_of(one)), name


@pytest.mark.slow
def test_the_sides_are_a_partition(everything):
    for name in LOCAL:
        if not CATALOGUE[name].evaluation:
            train, heldout = (load(name, split=side, source="local") for side in ("train", "heldout"))
            assert train, name
            assert heldout, name
            assert Counter(one.id for one in (*train, *heldout)) == Counter(one.id for one in everything[name]), name


@pytest.mark.slow
def test_sets_split_by_the_text_never_share_one_across_sides(everything):
    sides = {}
    for name, records in everything.items():
        one = CATALOGUE[name]
        if one.evaluation or one.own_split or one.kind in ("contrasts", "lexicon"):
            continue
        heldout = {record.id for record in load(name, split="heldout", source="local")}
        for record in records:
            side = "heldout" if record.id in heldout else "train"
            assert sides.setdefault(normalised(record.text), side) == side == split_of(record.text)


def test_labels_scores_and_spans_are_what_they_should_be(everything):
    for name, records in everything.items():
        kind = CATALOGUE[name].kind
        if kind == "labelled":
            assert {0, 1} <= {one.label for one in records}, name
        if kind == "scored":
            assert all(one.score is not None and one.label is None for one in records), name
    toxic = everything["jigsaw_wiki_toxic"]
    assert all(one.spans[0].start == 0 and one.spans[0].end == len(one.text) for one in toxic)
    spans = everything["toxic_spans"]
    assert all(one.spans for one in spans)
    inside = sum(span.end - span.start for one in spans for span in one.spans)
    assert 0.03 < inside / sum(len(one.text) for one in spans) < 0.1
    words = Counter(
        one.text[span.start : span.end] == one.text[span.start : span.end].strip()
        for one in spans
        for span in one.spans
    )
    assert words[True] / words.total() > 0.95
    chat = everything["conda_game_chat_spans"]
    assert sum(bool(one.spans) for one in chat) > 1300
    assert all(" " not in one.text[span.start : span.end] for one in chat for span in one.spans)


def test_statements_with_their_groups_are_the_same_statements(everything):
    with_groups, without = everything["toxigen_groups"], everything["toxigen_statements"]
    assert [replace(one, group=None) for one in with_groups] == without
    found = Counter((name, one.label) for one in with_groups for name in group_names(one.group))
    assert len({name for name, _ in found}) == 13
    assert min(found.values()) > 90
    assert all(one.group for one in with_groups)


def test_wikipedia_labels_agree_with_perspective(everything):
    for one in everything["cat_wiki_context"]:
        assert one.score is not None
    by_label = {label: [one.score for one in everything["cat_wiki_context"] if one.label == label] for label in (0, 1)}
    assert sum(by_label[1]) / len(by_label[1]) > 3 * sum(by_label[0]) / len(by_label[0])


def test_prompts_for_the_benchmark_are_enough_and_drawn_in_strata(everything):
    heldout = load_as(Prompt, "rtp_prompts", split="heldout")
    assert len(heldout) > 1100
    drawn = load_as(Prompt, "rtp_prompts", split="heldout", limit=1000, seed=3)
    assert len(drawn) == 1000
    for share in (stratum(one) for one in heldout):
        assert share != "unknown"
    whole, part = (Counter(stratum(one) for one in some) for some in (heldout, drawn))
    for quarter, count in whole.items():
        assert abs(part[quarter] - count * 1000 / len(heldout)) <= 1
    ids = [one.id for one in heldout]
    assert [one.id for one in drawn] != ids[:1000]


def test_local_and_hub_readers_give_a_prompt_the_same_id(everything):
    prompts = everything["rtp_prompts"]
    rows = [{"prompt": {"text": one.text, "toxicity": one.toxicity}} for one in prompts[:200]]
    assert list(read_rtp_hub(rows)) == prompts[:200]


def test_scored_prompts_are_split_like_the_prompts(everything):
    for side in ("train", "heldout"):
        prompts, scored = (load(name, split=side) for name in ("rtp_prompts", "rtp_scored"))
        assert [(one.id, one.text, one.toxicity) for one in prompts] == [
            (one.id, one.text, one.score) for one in scored
        ]


def test_choices_follow_their_context_after_one_space(everything):
    for name in names("multiple-choice"):
        for one in everything[name]:
            contexts = one.contexts or (one.context,)
            assert all(choice[0] == " " and not choice[1].isspace() for choice in one.choices), name
            assert not any(context[-1].isspace() for context in contexts if context), name


def test_answers_are_spread_where_they_were_shuffled(everything):
    for name in names("multiple-choice"):
        answers = Counter(one.answer for one in everything[name])
        if name in ("sciq", "truthfulqa_mc1", "truthfulqa_mc2"):
            assert len(answers) == 1
        else:
            assert min(answers[position] for position in (0, 1)) > 0.15 * answers.total(), name


@pytest.mark.slow
def test_the_corpora_are_clean_or_toxic_and_not_held_out(everything):
    clean, toxic = clean_corpus(), toxic_corpus()
    assert {one.source for one in clean} == set(CLEAN)
    assert {one.source for one in toxic} == set(TOXIC)
    assert not any(one.spans for one in clean)
    assert all(one.spans for one in toxic)
    held = {normalised(one.text) for one in (*clean_corpus(split="heldout"), *toxic_corpus(split="heldout"))}
    assert len(held) > 7000
    texts = [normalised(one.text) for one in clean]
    assert len(set(texts)) == len(texts)
    assert not held & {*texts, *(normalised(one.text) for one in toxic)}
    labelled = load_as(LabelledText, "jigsaw_wiki_balanced", split="heldout")
    assert not {normalised(one.text) for one in labelled} & {*texts, *(normalised(one.text) for one in toxic)}
    sizes = corpus_sizes([*clean, *toxic])
    assert sum(size.characters for size in sizes.values()) == sum(len(one.text) for one in (*clean, *toxic))
    assert sum(sizes[name].characters for name in CLEAN) > 15_000_000
    assert sum(sizes[name].characters for name in TOXIC) > 3_000_000
    assert 0 < sizes["toxic_spans"].risky_characters < 0.1 * sizes["toxic_spans"].characters


def test_the_other_kinds_hold_what_they_say(everything):
    assert {type(one) for one in everything["lambada_openai"]} == {Cloze}
    assert {type(one) for one in everything["blimp"]} == {MinimalPair}
    assert {type(one) for one in everything["mmlu"]} == {MultipleChoice}
    assert {type(one) for one in everything["clean_gov"]} == {Document}
    terms = everything["lexicons"]
    assert {type(one) for one in terms} == {LexiconTerm}
    assert {one.source for one in terms} == {"ldnoobw", "surge", "wiegand_base", "wiegand_expanded"}
    assert all((one.severity is None) == (one.source == "ldnoobw") for one in terms)
    assert len({one.phenomenon for one in everything["blimp"]}) == 13
    assert {one.id.split("-")[1] for one in everything["blimp"]} == set(CATALOGUE["blimp"].hub.configs)
