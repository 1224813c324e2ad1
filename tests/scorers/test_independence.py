"""Who may rank a method: the rule, case by case."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detox.data.fit_sources import FitSources, Guide
from detox.scorers import PRESETS, ScorerCard
from detox.scorers.independence import choose_headline, overlap, shared_training_data


def card(name, *trained_on, revision="1"):
    return ScorerCard(name, revision, trained_on, None, "reads all")


PROFANITY = card("profanity", "jigsaw-toxic-comments", "davidson-tweets")
SURROGATE = card("perspective", "rtp_prompts", "pol_perspective")
WORDS = card("wordlist")
PANEL = {one.name: one.to_dict() for one in (PROFANITY, SURROGATE, WORDS)}


@pytest.mark.parametrize(
    ("scorer", "sources", "says"),
    [
        (PROFANITY, FitSources(datasets=("paradetox",)), "learned from jigsaw-toxic-comments too"),
        (PROFANITY, FitSources(datasets=("davidson_tweets",)), "learned from davidson-tweets too"),
        (PROFANITY, FitSources(datasets=("appdia",)), None),
        (SURROGATE, FitSources(datasets=("paradetox",)), None),
        (SURROGATE, FitSources(datasets=("cat_wiki_dialogues",)), "learned from perspective-api too"),
        (WORDS, FitSources(datasets=("paradetox", "rtp_prompts")), None),
        (WORDS, FitSources(guides=(Guide(name="wordlist", role="filtered"),)), "wordlist filtered its data"),
        (WORDS, FitSources(guides=(Guide(name="list", role="labelled", revision="1"),)), "wordlist labelled its data"),
        (WORDS, FitSources(guides=(Guide(name="wordlist", role="chose the strength of"),)), "chose the strength of it"),
        (
            PROFANITY,
            FitSources(guides=(Guide(name="toxic-bert", role="filtered", trained_on=PRESETS["toxic-bert"].trained_on),)),
            "learned from jigsaw-toxic-comments, as did toxic-bert, which filtered its data",
        ),
    ],
)  # fmt: skip
def test_overlap(scorer, sources, says):
    why = overlap(scorer, sources)
    assert (why is None) == (says is None)
    assert says is None or says in why
    assert overlap(scorer.to_dict(), sources) == why


def test_the_headline_moves_to_the_first_clean_scorer():
    chosen = choose_headline(list(PANEL), PANEL, {"iti": FitSources(datasets=("paradetox",))})
    assert (chosen.scorer, chosen.independent, chosen.label) == ("perspective", True, "perspective")
    assert chosen.notes == (
        "the headline is perspective, not profanity: profanity learned from jigsaw-toxic-comments too (iti)",
    )


def test_it_must_be_clean_of_every_fit():
    fits = {"iti": FitSources(datasets=("paradetox",)), "dpo": FitSources(datasets=("cat_wiki_dialogues",))}
    assert choose_headline(list(PANEL), PANEL, fits).scorer == "wordlist"


def test_without_a_clean_scorer_the_first_stays_and_is_marked():
    chosen = choose_headline(["profanity"], PANEL, {"iti": FitSources(datasets=("paradetox",))})
    assert (chosen.scorer, chosen.independent, chosen.label) == ("profanity", False, "profanity, not independent")
    assert chosen.notes[0].startswith("no scorer is independent of every method: profanity learned from")


@pytest.mark.parametrize(
    ("cards", "fits"),
    [
        (PANEL, {"iti": None}),
        (PANEL, {"iti": FitSources(datasets=("mine.jsonl",), unknown=("mine.jsonl",))}),
        ({}, {"iti": FitSources(datasets=("appdia",))}),
    ],
)
def test_what_is_not_recorded_is_said(cards, fits):
    chosen = choose_headline(list(PANEL), cards, fits)
    assert (chosen.scorer, chosen.independent) == ("profanity", None)
    assert "independence not checked" in chosen.notes[0]


def test_nothing_that_learned_leaves_nothing_to_say():
    for cards in (PANEL, {}):
        chosen = choose_headline(list(PANEL), cards, {})
        assert (chosen.scorer, chosen.independent, chosen.notes) == ("profanity", True, ())
    assert choose_headline([], {}, {}).scorer is None


@given(st.permutations(list(PANEL)), st.sets(st.sampled_from(["paradetox", "rtp_prompts", "appdia"])))
def test_the_chosen_one_is_clean_and_none_before_it_is(order, datasets):
    sources = FitSources(datasets=tuple(datasets))
    chosen = choose_headline(order, PANEL, {"a method": sources})
    assert overlap(PANEL[chosen.scorer], sources) is None
    assert all(overlap(PANEL[name], sources) for name in order[: order.index(chosen.scorer)])


def test_the_offline_panel_has_nothing_in_common():
    assert shared_training_data([PROFANITY, SURROGATE, WORDS]) == {}
    both = shared_training_data([PROFANITY, card("toxic-bert", *PRESETS["toxic-bert"].trained_on)])
    assert both == {("profanity", "toxic-bert"): ("jigsaw-toxic-comments",)}


def test_a_scorer_that_is_asked_for_is_the_headline_and_is_marked():
    fits = {"iti": FitSources(datasets=("paradetox",))}
    chosen = choose_headline(list(PANEL), PANEL, fits, asked="profanity")
    assert (chosen.scorer, chosen.independent, chosen.label) == ("profanity", False, "profanity, not independent")
    [note] = chosen.notes
    assert note.startswith("profanity was asked for and is not independent, perspective is: profanity learned from")
    clean = choose_headline(list(PANEL), PANEL, fits, asked="wordlist")
    assert (clean.scorer, clean.independent, clean.notes) == ("wordlist", True, ())
    assert clean.named("profanity") == "profanity, not independent"
