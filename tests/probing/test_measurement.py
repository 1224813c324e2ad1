"""One base from model to record: the planted model, whose heads know the tone of a text."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import numpy as np
import pytest

from detox.data import LabelledText
from detox.errors import DataError, InputError, MissingData, UnknownName
from detox.models.activations import read_heads
from detox.models.token_states import read_tokens
from detox.probing.comparison import compare_bases, require_comparable
from detox.probing.measurement import SITES, measure_base
from detox.probing.record import ARRAYS, CARD, load_probes, probes_card, save_probes
from detox.probing.run import probe_bases, probe_once
from detox.probing.sites import ProbeSettings
from detox.probing.texts import probe_texts
from detox.probing.tokens import read_projections, shown_texts, site_name
from detox.statistics import Estimate

SETTINGS = ProbeSettings(heldout=0.3, draws=100)


@pytest.fixture(scope="module")
def items(planted):
    """Texts about topics, half of them rude."""
    rng = np.random.default_rng(0)
    rows = []
    for index in range(160):
        topic, label = index % 3, int(rng.random() < 0.5)
        tone = ("kind", "rude")[label]
        words = " ".join(f"{tone}{i}" for i in rng.integers(8, size=rng.integers(3, 8)))
        rows.append(
            LabelledText(id=f"t{index}", text=f"topic{topic} topic{rng.integers(3, 12)} says {words}", label=label, group=f"about {topic}")
        )  # fmt: skip
    return rows


@pytest.fixture(scope="module")
def texts(items):
    return probe_texts(items)


@pytest.fixture(scope="module")
def base(planted, texts):
    return measure_base(planted.lm, texts, SETTINGS, name="planted")


def test_texts_keep_what_is_known_of_them(items, planted):
    texts = probe_texts(
        [*items, replace(items[0], id="again"), replace(items[1], id="other", label=1 - items[1].label)]
    )
    kept = [item for item in items if item.id != items[1].id]
    assert set(texts.ids) <= {item.id for item in kept}
    assert texts.left_out == len(items) + 2 - len(texts.ids) >= 3
    assert list(texts.features) == ["toxicity", "length", "topic: about 0", "topic: about 1", "topic: about 2"]
    np.testing.assert_array_equal(texts.features["toxicity"], texts.labels == 1)
    np.testing.assert_array_equal(texts.covariates["topic"].sum(1), 1)
    assert len(set(texts.groups)) == len(texts.texts)  # a topic is no pair
    assert len(set(probe_texts(items, split="groups").groups)) == 3
    pairs = probe_texts(planted.contrasts)
    assert set(pairs.groups) == {one.id for one in planted.contrasts}
    assert "topic" not in pairs.covariates
    with pytest.raises(UnknownName, match="groups"):
        probe_texts(items, split="group")
    with pytest.raises(InputError, match="one class"):
        probe_texts([item for item in items if item.label == 1])


def test_a_feature_of_few_texts_has_no_direction(items):
    rare = [replace(item, group="rare" if index < 4 else "rest") for index, item in enumerate(items)]
    texts = probe_texts(rare)
    assert "topic: rare" not in texts.features
    assert texts.omitted["topic: rare"] <= 4


def test_the_tone_is_known_and_the_numbers_are_those_of_the_probes(base, texts):
    assert base.heads.accuracy.shape == (2, 4)
    assert base.layers.accuracy.shape == (3, 1)
    assert base.heads.accuracy.max() > 0.95
    for kind in SITES:
        site = getattr(base, kind)
        correct = (site.margins > 0) == (base.labels == 1)[:, None, None]
        np.testing.assert_allclose(site.accuracy, correct.mean(0))
        assert (site.low <= site.accuracy).all()
        assert (site.accuracy <= site.high).all()
        assert site.p[site.best] <= 0.05
        assert site.accuracy[site.best] == site.accuracy.max() > site.chance
        np.testing.assert_allclose(np.linalg.norm(site.directions, axis=-1), 1, atol=1e-5)
        assert set(site.best_auc) == {"plain", *(f"{how} {key}" for how in ("within", "residual") for key in ("length", "topic")),
                                      "residual all"}  # fmt: skip
        assert site.selected_accuracy.value <= 1
    np.testing.assert_array_equal(base.labels, texts.labels[base.heldout])
    assert set(base.covariates_auc) == {"length", "topic", "all"}


def test_a_direction_reads_classes_around_zero_in_sigmas(planted, base, texts):
    train = np.setdiff1d(np.arange(len(texts.texts)), base.heldout)
    x = read_heads(planted.lm, texts.texts).numpy()
    z = (np.einsum("nlhd,lhd->nlh", x, base.heads.directions) - base.heads.middle) / base.heads.sigma
    means = [z[train][texts.labels[train] == label].mean(0) for label in (0, 1)]
    np.testing.assert_allclose(means[0] + means[1], 0, atol=1e-3)
    assert (means[1] > means[0]).all()
    np.testing.assert_allclose(z[train].std(0), 1, atol=1e-3)


def test_tokens_are_read_along_the_best_directions(planted, base, texts):
    place = int(base.heldout[0])
    reading = read_projections(planted.lm, base, texts.texts[place], id="x", label=1)
    layer, head = base.heads.best
    values = reading.values[site_name("heads", layer, head)]
    states = read_tokens(planted.lm, texts.texts[place])
    z = states.heads[:, layer, head].numpy() @ base.heads.directions[layer, head]
    np.testing.assert_allclose(values, (z - base.heads.middle[layer, head]) / base.heads.sigma[layer, head], atol=2e-3)
    assert set(reading.values) == {site_name("heads", layer, head), site_name("layers", *base.layers.best)}
    assert len(reading.pieces) == len(values)
    chosen = shown_texts(texts, base.heldout.tolist(), 6)
    assert set(chosen) <= set(base.heldout.tolist())
    assert sorted(texts.labels[chosen].tolist()) == [0, 0, 0, 1, 1, 1]
    assert shown_texts(texts, base.heldout.tolist(), 0) == []


def same(a, b):
    if isinstance(a, np.ndarray):
        np.testing.assert_array_equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            same(a[key], b[key])
    elif isinstance(a, Estimate):
        values = [[getattr(one, f.name) for f in fields(Estimate)] for one in (a, b)]
        np.testing.assert_allclose(*values, atol=1e-6)
    elif hasattr(a, "__dataclass_fields__"):
        for f in fields(a):
            same(getattr(a, f.name), getattr(b, f.name))
    else:
        assert a == b


def test_a_measurement_comes_back_and_holds_no_text(base, texts, tmp_path):
    save_probes(base, tmp_path / "base")
    same(load_probes(tmp_path / "base"), base)
    for name in (CARD, ARRAYS):
        raw = (tmp_path / "base" / name).read_bytes()
        assert not any(text.encode() in raw for text in texts.texts)
    assert json.dumps(probes_card(base), allow_nan=False)


def test_what_is_damaged_is_told_and_measured_again(base, planted, texts, tmp_path):
    with pytest.raises(MissingData, match="save_probes"):
        load_probes(tmp_path)
    save_probes(base, tmp_path / "base")
    (tmp_path / "base" / ARRAYS).write_bytes(b"short")
    with pytest.raises(DataError, match="measure again"):
        load_probes(tmp_path / "base")
    save_probes(base, tmp_path / "base")
    card = json.loads((tmp_path / "base" / CARD).read_text())
    (tmp_path / "base" / CARD).write_text(json.dumps({**card, "version": 99}))
    with pytest.raises(DataError, match="version 99"):
        load_probes(tmp_path / "base")


@pytest.mark.slow
def test_what_was_measured_is_kept_until_something_changes(planted, texts, tmp_path):
    said: list[str] = []
    first, readings = probe_once(planted.lm, texts, tmp_path, SETTINGS, name="a", show=4, say=said.append)
    assert len(readings) == 4
    said.clear()
    again, kept = probe_once(planted.lm, texts, tmp_path, SETTINGS, name="a", show=4, say=said.append)
    assert said == ["a: measured before, kept"]
    assert kept == readings
    same(again, first)
    said.clear()
    probe_once(planted.lm, texts, tmp_path, SETTINGS, name="a", show=6, say=said.append)
    assert said == ["a: measured before, kept", "a: reading 6 texts token by token"]
    said.clear()
    probe_once(planted.lm, texts, tmp_path, replace(SETTINGS, seed=1), name="a", show=0, say=said.append)
    assert "a: probes of 8 heads" in said
    (folder,) = (tmp_path / "bases").iterdir()
    (folder / ARRAYS).write_bytes(b"")
    said.clear()
    probe_once(planted.lm, texts, tmp_path, replace(SETTINGS, seed=1), name="a", show=0, say=said.append)
    assert "a: probes of 8 heads" in said


def test_bases_are_compared_on_the_same_texts_only(base, planted, texts):
    (found,) = compare_bases({"a": [base], "b": [base]})
    assert found.heads is not None
    assert found.heads.gain == 0
    # Skewness and kurtosis are missing where all heads know the tone alike.
    assert np.nanmax([abs(test.difference.value) for test in found.tails.tests.values()]) == 0
    assert all(test.difference.value == 0 for test in found.entanglement.values())
    assert set(found.entanglement) == {f"{k}, {d}" for k in SITES for d in ("means", "joint", "whitened")}
    other = replace(base, settings=replace(SETTINGS, seed=5))
    with pytest.raises(InputError, match="measure both alike"):
        require_comparable({"a": [base], "b": [other]})
    with pytest.raises(InputError, match="at least one measurement"):
        compare_bases({"a": [base], "b": []})


@pytest.mark.slow
def test_everything_is_written_and_the_record_holds_no_text(planted, texts, tmp_path):
    from detox.detoxifiers.planted import plant

    models = {"one": planted.lm, "two": plant("llama", seed=3, steps=40).lm}
    sides, comparisons = probe_bases(
        {"$one_": ["one"], "two": ["two", "one"]}, texts, tmp_path, SETTINGS, show=4, load=models.__getitem__
    )
    assert [len(side) for side in sides.values()] == [1, 2]
    assert [one.b for one in comparisons] == ["two"]
    for name in ("heads", "layers", "distribution", "entanglement", "covariates"):
        assert (tmp_path / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert b"</svg>" in (tmp_path / "figures" / f"{name}.svg").read_bytes()
    record = (tmp_path / "probing.json").read_text()
    assert set(json.loads(record)) == {"bases", "comparisons"}
    assert not any(text in record for text in texts.texts)
    page = (tmp_path / "probing.html").read_text()
    assert page.count("data:image/svg+xml;base64,") == 5
    assert "two, 1 of 2" in page


@pytest.mark.parametrize("change", [{"heldout": 0.0}, {"heldout": 1.0}, {"C": 0.0}, {"draws": 3}])
def test_settings_out_of_range_are_refused(change):
    with pytest.raises(InputError, match=next(iter(change))):
        ProbeSettings(**change)
