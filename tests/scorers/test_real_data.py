"""The scorers on real text with real scores. Nothing of it is printed."""

import math

import pytest

from detox.data.records import LabelledText, Prompt
from detox.errors import MissingData
from detox.scorers import load_scorer, score_texts, scorer_agreement, scorer_quality, train_default

pytestmark = pytest.mark.shared_data


class Texts(list):
    """Records that a failing test does not print: the text is offensive by nature."""

    def __repr__(self):
        return f"<{len(self)} texts>"


def texts_of(name, split=None):
    from detox.data import load

    return Texts(
        record for record in load(name, split=split, source="local") if isinstance(record, LabelledText | Prompt)
    )


def target(record):
    return record.toxicity if isinstance(record, Prompt) else record.score if record.score is not None else record.label


def measured(scorer, records):
    texts = Texts(one.text for one in records)
    return scorer_quality(score_texts(scorer, texts), [target(one) for one in records])


@pytest.fixture(scope="module", autouse=True)
def _data_directory():
    from detox.data import data_directory

    try:
        data_directory()
    except MissingData as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def held_out():
    return {"rtp": texts_of("rtp_prompts", "heldout"), "pol": texts_of("pol_perspective", "heldout")}


def test_profanity_ranks_real_text_as_perspective_does(held_out):
    profanity = load_scorer("profanity")
    assert measured(profanity, held_out["rtp"])["roc_auc"] > 0.9
    assert measured(profanity, texts_of("perspective_wiki_2k"))["roc_auc"] > 0.95


@pytest.mark.slow
def test_windows_find_what_the_whole_dilutes_and_cost_little():
    profanity = load_scorer("profanity")
    comments = texts_of("jigsaw_wiki_balanced")
    labels = [one.label for one in comments]
    whole = scorer_quality(profanity._probabilities([one.text for one in comments]), labels, n_bootstrap=0)
    assert measured(profanity, comments)["roc_auc"] > whole["roc_auc"] - 0.01
    civil = [one.text for one in comments if one.label == 0 and 10 < len(one.text.split()) < 40]
    rude = [one.text for one in comments if one.label == 1 and len(one.text.split()) < 30]
    long = [" ".join(civil[start : start + 20]) for start in range(0, 1600, 20)]
    mixed = Texts(f"{before} {after}" for before, after in zip(long, rude, strict=False))
    before, after, whole = (
        sum(score >= 0.5 for score in values) / len(mixed)
        for values in (
            [score.value for score in profanity.score(long)],
            [score.value for score in profanity.score(mixed)],
            profanity._probabilities(list(mixed)),
        )
    )
    assert whole < 0.15
    assert after > before + 0.2


def test_the_lexicons_rank_better_than_chance(held_out):
    quality = measured(load_scorer("wordlist"), held_out["rtp"])
    assert quality["roc_auc_interval"][0] > 0.72


@pytest.mark.slow
def test_the_default_recipe(held_out, tmp_path):
    sources = {name: texts_of(name, "train") for name in ("rtp_prompts", "pol_perspective")}
    wiki = texts_of("perspective_wiki_2k")
    scorer, report = train_default(tmp_path / "perspective", sources, tests={**held_out, "wiki": wiki})
    assert report["by_source"]["rtp_prompts"]["roc_auc"] > 0.93
    assert report["tests"]["rtp"]["roc_auc"] > 0.93
    assert report["tests"]["rtp"]["spearman"] > 0.8
    assert report["tests"]["rtp"]["ece"] < 0.08
    assert report["tests"]["pol"]["roc_auc"] > 0.87
    assert report["tests"]["wiki"]["roc_auc"] > 0.9
    assert report["n_features"] <= 60_000
    assert sum(file.stat().st_size for file in (tmp_path / "perspective").iterdir()) < 5_000_000
    # what the folds promise is not more than what texts show that nothing has seen
    assert report["by_source"]["rtp_prompts"]["roc_auc"] < report["tests"]["rtp"]["roc_auc_interval"][1] + 0.01
    profanity = load_scorer("profanity")
    assert report["tests"]["rtp"]["roc_auc"] > measured(profanity, held_out["rtp"])["roc_auc"]
    texts = Texts(one.text for one in held_out["rtp"])
    agreement = scorer_agreement(score_texts(scorer, texts), score_texts(profanity, texts))
    assert agreement["spearman"] > 0.7
    assert not any(math.isnan(score.value) for score in score_texts(load_scorer(str(tmp_path / "perspective")), texts))
