from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detox import evaluate
from detox.data.records import LabelledText
from detox.data.subsets import normalised
from detox.errors import InputError, MissingData, UnknownName
from detox.evaluation import HeadProbeTask, ProbeTask, Protocol, Scorecard, compare_heads
from detox.evaluation.heads import fit, head_metrics
from detox.evaluation.understanding import probe_metrics, probe_splits, probe_table
from detox.models.activations import read_heads
from detox.models.states import last_states
from detox.probing import fit_head_probes
from detox.statistics import auc_estimate, roc_auc


@pytest.fixture(scope="module")
def pool(planted):
    texts = [c.prompt + (c.toxic if i % 3 == 0 else c.safe)[0] for i, c in enumerate(planted.contrasts)]
    return tuple(LabelledText(id=str(i), text=text, label=int(i % 3 == 0)) for i, text in enumerate(texts))


@given(
    toxic=st.integers(2, 30), safe=st.integers(2, 30), train=st.integers(1, 20), test=st.integers(1, 10),
    seed=st.integers(0, 99), twice=st.integers(0, 5),
)  # fmt: skip
def test_subsamples_are_balanced_as_large_as_asked_or_as_the_data_gives_and_share_no_text(
    toxic, safe, train, test, seed, twice
):
    ids = [(label, i) for label, n in ((1, toxic), (0, safe)) for i in range(n)]
    items = [LabelledText(id=f"{label}-{i}", text=f"text {label} {i}", label=label) for label, i in ids]
    again = [replace(item, id=f"again {item.id}", text=f"  {item.text.upper()}!") for item in items[:twice]]
    task = ProbeTask(items=(*items, *again), train_size=2 * train, test_size=2 * test, seed=seed)
    splits = probe_splits(task)
    half = min(train + test, toxic, safe)
    for fitted, judged in splits.subsamples:
        labels = [splits.texts[i].label for i in (*fitted, *judged)]
        assert sum(labels) == half == len(labels) - half
        assert sum(splits.texts[i].label for i in judged) == len(judged) / 2 > 0
        assert len(fitted) > 0
        seen = [normalised(splits.texts[i].text) for i in (*fitted, *judged)]
        assert len(set(seen)) == len(seen)
        if half == train + test:
            assert (len(fitted), len(judged)) == (2 * train, 2 * test)
    assert (splits.shortage is None) == (half == train + test)
    assert splits.counts["left out"] == len(again)
    assert len(splits.subsamples) == 3
    again_drawn = probe_splits(replace(task, subsamples=1))
    first = [[splits.texts[i].id for i in side] for side in splits.subsamples[0]]
    assert [[again_drawn.texts[i].id for i in side] for side in again_drawn.subsamples[0]] == first


def test_texts_that_are_judged_both_ways_are_left_out(pool):
    both = LabelledText(id="x", text=pool[0].text, label=1 - pool[0].label)
    splits = probe_splits(ProbeTask(items=(*pool, both)))
    assert pool[0].id not in {text.id for text in splits.texts}
    assert splits.counts["left out"] == 2


def test_the_probe_is_scikit_learns_on_states_that_are_read_once(planted, pool, monkeypatch):
    from sklearn.linear_model import LogisticRegression

    import detox.evaluation.understanding as understanding

    calls = []

    def counted(lm, texts):
        calls.append(len(texts))
        return last_states(lm, texts)

    monkeypatch.setattr(understanding, "last_states", counted)
    task = ProbeTask(items=pool, train_size=16, test_size=8, regression="paper")
    splits = probe_splits(task)
    table = probe_table(planted.lm, task)
    assert calls == [len(splits.texts)]
    areas = []
    for number, (train, test) in enumerate(splits.subsamples):
        x = last_states(planted.lm, [splits.texts[i].text for i in (*train, *test)]).numpy()
        y = np.array([splits.texts[i].label for i in (*train, *test)])
        probe = LogisticRegression(class_weight="balanced", max_iter=5000).fit(x[: len(train)], y[: len(train)])
        margins = probe.decision_function(x[len(train) :])
        mine = [m for m, s in zip(table["margin"], table["subsample"], strict=True) if s == number]
        np.testing.assert_allclose(mine, margins, atol=1e-3)
        areas.append(roc_auc(y[len(train) :], margins))
    metrics = probe_metrics(table)
    assert metrics["probe/auc"].value == pytest.approx(np.mean(areas), abs=1e-6)
    assert metrics["probe/auc_se"].value == pytest.approx(np.std(areas, ddof=1) / math.sqrt(3), abs=1e-6)
    assert metrics["probe/auc_se"].n == 3
    assert metrics["probe/auc"].low <= metrics["probe/auc"].value <= metrics["probe/auc"].high
    assert set(table["train_texts"]) == {16}


def test_a_scorecard_says_how_many_texts_there_were(planted, pool):
    card = evaluate(planted.lm, Protocol(name="probe", probe=ProbeTask(items=pool)))
    toxic = sum(item.label for item in pool)
    assert card.counts["probe"]["train texts"] + card.counts["probe"]["test texts"] == 2 * toxic
    assert card.counts["probe"]["asked"] == {"train texts": 8000, "test texts": 2000}
    assert any("8000 + 2000 were asked for" in note for note in card.incidents)
    assert card["probe/auc"].value > 0.9
    enough = Protocol(name="probe", probe=ProbeTask(items=pool, train_size=8, test_size=4))
    assert not evaluate(planted.lm, enough).incidents


def test_a_train_and_a_test_set_give_the_numbers_that_they_always_gave(planted, pool):
    card = evaluate(planted.lm, Protocol(name="probe", probe=ProbeTask(train=pool[:30], test=pool[30:])))
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=5000, C=0.1))
    x, y = last_states(planted.lm, [t.text for t in pool]).numpy(), np.array([t.label for t in pool])
    margins = probe.fit(x[:30], y[:30]).decision_function(x[30:])
    expected = auc_estimate(y[30:], margins)
    found = card["probe/auc"]
    assert (found.value, found.low, found.high, found.n) == pytest.approx(
        (expected.value, expected.low, expected.high, expected.n)
    )
    assert "probe/auc_se" not in card.metrics
    old_record = {name: card.tables["probe"][name] for name in ("id", "label", "margin")}
    assert probe_metrics(old_record) == {"probe/auc": found}


@pytest.mark.slow
def test_the_interval_covers_what_the_mean_over_overlapping_subsamples_varies():
    # Fixed margins with a known AUC, test sets drawn from one population: about 95 % of the intervals hold it.
    truth, held = 0.760250, 0  # P(N(1, 1) > N(0, 1)) = Phi(1 / sqrt(2))
    for run in range(60):
        rng = np.random.default_rng(run)
        labels = np.arange(120) % 2
        margins = rng.normal(size=120) + labels
        table = {"id": [], "label": [], "margin": [], "subsample": []}
        for subsample in range(3):
            for i in np.concatenate([rng.permutation(np.flatnonzero(labels == label))[:40] for label in (0, 1)]):
                for name, value in (
                    ("id", str(i)),
                    ("label", int(labels[i])),
                    ("margin", margins[i]),
                    ("subsample", subsample),
                ):
                    table[name].append(value)
        estimate = probe_metrics(table)["probe/auc"]
        held += estimate.low <= truth <= estimate.high
        assert estimate.n == len(set(table["id"]))
    assert held >= 52


def test_heads_are_probed_as_the_probing_room_does(planted, pool):
    task = HeadProbeTask(items=pool)
    card = evaluate(planted.lm, Protocol(name="heads", head_probes=task))
    table, texts = card.tables["head_probes"], card.tables["head_probe_texts"]
    assert len(table["layer"]) == 8  # 2 layers of 4 heads
    assert card["head_probes/mean_accuracy"].value == pytest.approx(np.mean(table["accuracy"]))
    assert card["head_probes/mean_accuracy"].value == pytest.approx(np.mean(texts["heads_right"]))
    assert card["head_probes/q95_accuracy"].value == pytest.approx(np.quantile(table["accuracy"], 0.95))
    assert card["head_probes/best_auc"].value == max(table["auc"])
    heldout = np.array(texts["text"])
    train = np.setdiff1d(np.arange(len(pool)), heldout)
    activations = read_heads(planted.lm, [text.text for text in pool]).numpy()
    probes = fit_head_probes(activations, [text.label for text in pool], train, heldout)
    np.testing.assert_allclose(probes.accuracy.ravel(), table["accuracy"])
    assert card.counts["head_probes"]["held-out texts"] == round(0.2 * len(pool))
    assert head_metrics(probes)["head_probes/selected_auc"].value <= 1


def test_groups_stay_together_where_that_is_asked(planted, pool):
    items = tuple(replace(text, group=f"frame {i % 5}") for i, text in enumerate(pool))
    for split, apart in (("texts", True), ("groups", False)):
        _, counts = fit(planted.lm, HeadProbeTask(items=items, split=split, heldout=0.4))
        card = evaluate(
            planted.lm, Protocol(name="x", head_probes=HeadProbeTask(items=items, split=split, heldout=0.4))
        )
        heldout = set(card.tables["head_probe_texts"]["text"])
        frames = {items[i].group for i in heldout} & {items[i].group for i in range(len(items)) if i not in heldout}
        assert bool(frames) == apart
        assert counts == card.counts["head_probes"]


def test_the_selected_head_is_not_flattered_by_chance():
    # 200 heads that know nothing: the best of them looks good, the one chosen on other texts does not.
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 2
    activations = rng.normal(size=(200, 10, 20, 2)).astype(np.float32)
    metrics = head_metrics(fit_head_probes(activations, labels.tolist(), np.arange(120), np.arange(120, 200)))
    assert metrics["head_probes/best_auc"].value > 0.62
    assert metrics["head_probes/selected_auc"].low < 0.5 < metrics["head_probes/selected_auc"].high
    assert metrics["head_probes/mean_accuracy"].low < 0.5 < metrics["head_probes/mean_accuracy"].high


def test_two_scorecards_heads_are_compared(planted, pool, tmp_path):
    asked = Protocol(name="heads", head_probes=HeadProbeTask(items=pool))
    card = evaluate(planted.lm, asked)
    card.save(tmp_path / "card")
    found = compare_heads(card, Scorecard.load(tmp_path / "card"))
    assert found.gain == pytest.approx(0, abs=1e-3)
    assert found.headline.unit == "texts"
    assert compare_heads([card, card], [card, card]).headline.unit == "seeds"
    other = evaluate(planted.lm, replace(asked, head_probes=HeadProbeTask(items=pool, seed=1)))
    with pytest.raises(InputError, match="probed heads on other texts"):
        compare_heads(card, other)
    bare = evaluate(planted.lm, Protocol(name="bare", probe=ProbeTask(items=pool)))
    with pytest.raises(MissingData, match="'bare' asked for no head probes"):
        compare_heads(card, bare)


def test_wrong_tasks_are_one_clear_line(planted, pool):
    for make, message in (
        (lambda: ProbeTask(), "either items, or train and test; it has neither"),
        (lambda: ProbeTask(items=pool, test=pool), "it has both"),
        (lambda: ProbeTask(train=pool), "probe has no test"),
        (lambda: ProbeTask(items=pool, train_size=7), "train_size is 7; expected an even number"),
        (lambda: ProbeTask(items=pool, subsamples=0), "subsamples is 0"),
        (lambda: probe_splits(ProbeTask(items=pool[:3])), "1 toxic and 2 safe texts; expected at least 2"),
        (lambda: HeadProbeTask(items=()), "no items"),
        (lambda: HeadProbeTask(items=pool, heldout=1), "heldout is 1"),
        (lambda: HeadProbeTask(items=pool, C=0), "C is 0"),
        (lambda: probe_splits(ProbeTask(items=(LabelledText(id="0", text="x"),))), "none of these has a label"),
    ):
        with pytest.raises(InputError, match=message):
            make()
    with pytest.raises(UnknownName, match="did you mean 'groups'"):
        HeadProbeTask(items=pool, split="group")
    with pytest.raises(UnknownName, match="did you mean 'paper'"):
        ProbeTask(items=pool, regression="papers")
