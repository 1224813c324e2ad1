"""What data shares with other data, and what a fit says of its own."""

from __future__ import annotations

import json

import pytest

from detox.data.catalogue import CATALOGUE, KINDS
from detox.data.contrasts import Contrast
from detox.data.fit_sources import FitSources, Guide
from detox.data.lineage import PARENTS, lineage
from detox.data.records import Document, LabelledText, Prompt
from detox.errors import DataError, InputError

# Sets with labels, scores, pairs or prompts that share neither texts nor judges with data that a scorer here learned from.
OF_THEIR_OWN = {
    "advbench", "appdia", "bold_prompts", "dpo_toxic_prompts", "edos_sexism", "hatemojibuild", "hatexplain", "implicit_hate",
    "madlibs_bias", "stormfront", "xstest",
}  # fmt: skip


def test_every_set_that_may_guide_or_train_has_said_where_it_comes_from():
    judged = {
        name for name, one in CATALOGUE.items() if KINDS[one.kind] in (LabelledText, Prompt) or one.kind == "contrasts"
    }
    assert judged - PARENTS.keys() == OF_THEIR_OWN


def test_sets_that_are_read_from_one_file_overlap():
    by_file: dict[str, list[str]] = {}
    for name, one in CATALOGUE.items():
        if one.file is not None and KINDS[one.kind] in (Contrast, Document, LabelledText, Prompt):
            by_file.setdefault(one.file.name, []).append(name)
    for names in by_file.values():
        for name in names[1:]:
            assert lineage([names[0]]) & lineage([name]), names


def test_what_scorers_learned_from_and_what_methods_learn_from_meet_in_ancestors():
    assert lineage(["paradetox_cannot_rewrite"]) >= {"paradetox", "jigsaw-toxic-comments"}
    assert lineage(["rtp_prompts"]) & lineage(["cat_wiki_dialogues"]) == {"perspective-api"}
    assert not lineage(["paradetox"]) & lineage(["rtp_prompts", "pol_perspective"])
    assert lineage(["never heard of"]) == {"never heard of"}
    assert lineage([]) == frozenset()
    with pytest.raises(InputError, match="expected a list"):
        lineage("paradetox")


def test_sources_survive_json():
    sources = FitSources(
        datasets=("paradetox", "mine.jsonl"),
        guides=(Guide(name="toxic-bert", role="filtered", revision="abc", trained_on=("jigsaw-toxic-comments",)),),
        unknown=("mine.jsonl",),
    )
    assert FitSources.from_dict(json.loads(json.dumps(sources.to_dict()))) == sources
    assert str(sources) == "paradetox, mine.jsonl; filtered by toxic-bert"
    for wrong in ({}, {"datasets": "paradetox", "guides": []}, {"datasets": [], "guides": [{"title": "x"}]}):
        with pytest.raises(DataError, match="sources of a fit"):
            FitSources.from_dict(wrong)


@pytest.mark.slow
@pytest.mark.shared_data
def test_sets_that_share_texts_share_an_ancestor():
    """In the files at hand; a few texts in common are chance ("lol, what an idiot")."""
    from itertools import combinations

    from detox.data import load
    from detox.data.subsets import normalised
    from detox.errors import MissingData

    texts: dict[str, set[str]] = {}
    for name in sorted((PARENTS.keys() & CATALOGUE.keys()) | OF_THEIR_OWN):
        try:
            records = load(name, source="local")
        except MissingData:
            continue
        found = {one.text if hasattr(one, "text") else one.prompt + end for one in records for end in _ends(one)}
        texts[name] = {key for key in map(normalised, found) if len(key) > 15}
    if not texts:
        pytest.skip("no data directory")
    unsaid = {
        (a, b): len(texts[a] & texts[b])
        for a, b in combinations(texts, 2)
        if len(texts[a] & texts[b]) >= 15 and not lineage([a]) & lineage([b])
    }
    assert unsaid == {}


def _ends(record):
    return ("",) if hasattr(record, "text") else (*record.safe, *record.toxic)
