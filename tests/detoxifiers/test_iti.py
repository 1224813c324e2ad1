"""ITI against its definition, in float64 numpy: which heads, which shift."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from detox.data.contrasts import Contrast, labelled_texts
from detox.detoxifiers import ITI
from detox.errors import InputError, UnknownName
from detox.models.activations import read_heads
from detox.probing import grouped_split
from tests.models.test_likelihood import tiny


def hard(count: int, seed: int) -> list[Contrast]:
    """One tone word somewhere among neutral ones: a model with random weights has better and worse heads for that."""
    rng = np.random.default_rng(seed)

    def text(tone: str) -> str:
        words = [f"topic{i}" for i in rng.integers(12, size=9)]
        words[rng.integers(9)] = f"{tone}{rng.integers(8)}"
        return " " + " ".join(words)

    return [
        Contrast(id=str(i), prompt="topic1 says", safe=(text("kind"),), toxic=(text("rude"),)) for i in range(count)
    ]


def ranked(accuracy: np.ndarray, count: int) -> list[tuple[int, int]]:
    """Heads by accuracy, best first; of equals the first."""
    places = sorted(np.ndindex(accuracy.shape), key=lambda place: -accuracy[place])
    return places[:count]


def reference_shift(lm, texts, head) -> np.ndarray:
    """Sigma * theta, mass-mean (Li et al. 2023, section 3.2)."""
    x = read_heads(lm, [text.text for text in texts]).numpy().astype(np.float64)[:, head[0], head[1]]
    toxic = np.array([text.label == 1 for text in texts])
    theta = x[~toxic].mean(0) - x[toxic].mean(0)
    theta /= np.sqrt((theta**2).sum())
    along = x @ theta
    return np.sqrt(((along - along.mean()) ** 2).mean()) * theta


def test_heads_are_those_of_the_best_held_out_accuracy():
    lm, contrasts = tiny("llama"), hard(60, 0)
    iti = ITI(num_heads=5).fit(lm, contrasts)
    assert iti.probe_accuracy_.shape == (2, 4)
    assert len(np.unique(iti.probe_accuracy_)) > 3
    assert iti.heads_ == ranked(iti.probe_accuracy_, 5)
    assert ITI(num_heads=1).fit(lm, contrasts).heads_ == iti.heads_[:1]
    assert len(ITI(num_heads=99).fit(lm, contrasts).heads_) == 8  # all, where a model has fewer


def test_shifts_are_sigma_theta_of_the_training_texts(planted):
    iti = ITI(num_heads=8, heldout=0.25, seed=3).fit(planted.lm, planted.contrasts)
    texts = labelled_texts(planted.contrasts)
    train, _ = grouped_split([str(text.group) for text in texts], heldout=0.25, seed=3)
    for head, shift in zip(iti.heads_, iti.shifts_, strict=True):
        expected = reference_shift(planted.lm, [texts[i] for i in train], head)
        np.testing.assert_allclose(shift.numpy(), expected, rtol=1e-5, atol=1e-7)


def test_the_probes_direction_has_the_sign_of_the_mass_mean(planted):
    mass_mean = ITI(num_heads=8).fit(planted.lm, planted.contrasts)
    probe = ITI(num_heads=8, direction="probe").fit(planted.lm, planted.contrasts)
    assert probe.heads_ == mass_mean.heads_
    for ours, theirs, place in zip(probe.shifts_, mass_mean.shifts_, probe.heads_, strict=True):
        if mass_mean.probe_accuracy_[place] > 0.9:  # classes that a line separates
            assert torch.dot(ours, theirs) > 0, place
    assert not torch.allclose(probe.shifts_, mass_mean.shifts_)


def test_one_sided_contrasts_teach_the_same_side(planted):
    safe = [replace(c, id=f"{c.id}-s", toxic=()) for c in planted.contrasts[::2]]
    toxic = [replace(c, id=f"{c.id}-t", safe=()) for c in planted.contrasts[1::2]]
    unpaired = ITI(num_heads=8).fit(planted.lm, [*safe, *toxic])
    paired = ITI(num_heads=8).fit(planted.lm, planted.contrasts)
    assert unpaired.probe_accuracy_.max() > 0.9
    shifts = dict(zip(paired.heads_, paired.shifts_, strict=True))
    for head, shift in zip(unpaired.heads_[:3], unpaired.shifts_, strict=False):
        assert torch.dot(shift, shifts[head]) > 0
    for side, name in ((safe, "safe"), (toxic, "toxic")):
        with pytest.raises(InputError, match=f"texts are {name}"):
            ITI().fit(planted.lm, side)


def test_eval_contrasts_choose_the_heads_and_teach_nothing():
    lm, contrasts, judges = tiny("llama"), hard(60, 0), hard(25, 1)
    swapped = [replace(c, safe=c.toxic, toxic=c.safe) for c in judges]
    iti = ITI(num_heads=2).fit(lm, contrasts, eval_contrasts=judges)
    other = ITI(num_heads=2).fit(lm, contrasts, eval_contrasts=swapped)
    np.testing.assert_allclose(other.probe_accuracy_, 1 - iti.probe_accuracy_)
    np.testing.assert_allclose(other.probe_auc_, 1 - iti.probe_auc_)
    assert iti.heads_ == ranked(iti.probe_accuracy_, 2)
    assert other.heads_ == ranked(other.probe_accuracy_, 2) != iti.heads_
    texts = labelled_texts(contrasts)
    for fitted in (iti, other):  # of all contrasts: none had to be held out
        for head, shift in zip(fitted.heads_, fitted.shifts_, strict=True):
            np.testing.assert_allclose(shift.numpy(), reference_shift(lm, texts, head), rtol=1e-5, atol=1e-7)


def test_wrong_settings_are_one_clear_line():
    with pytest.raises(UnknownName, match="mass-mean"):
        ITI(direction="mass-meen")
    with pytest.raises(InputError, match="num_heads is 0"):
        ITI(num_heads=0)
    with pytest.raises(InputError, match="heldout is 1"):
        ITI(heldout=1)
