"""Contrastive perplexity against its formula in float64, one sequence at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from detox.contrastive_loss import FORMS, contrastive_perplexity_loss
from detox.errors import InputError, UnknownName


def reference(safe, toxic, alpha, form):
    """-log J of one group, from the paper's formulas: lists of phi."""
    c = np.mean(safe)
    s_safe = [np.exp(-abs(x - c)) for x in safe]
    s_toxic = [np.exp(-abs(x - c)) if form == "paper" else np.exp(c - x) for x in toxic]
    return -np.log(sum(s_safe) / (sum(s_safe) + alpha * sum(s_toxic)))


def gradient(safe, toxic, alpha, form, step=1e-6):
    values = np.array([*safe, *toxic])

    def at(v):
        return reference(v[: len(safe)], v[len(safe) :], alpha, form)

    return np.array([(at(values + step * e) - at(values - step * e)) / (2 * step) for e in np.eye(len(values))])


def padded(rows, fill):
    grid = torch.full((len(rows), max(map(len, rows))), fill, dtype=torch.float64)
    mask = torch.zeros(grid.shape, dtype=torch.bool)
    for index, row in enumerate(rows):
        grid[index, : len(row)], mask[index, : len(row)] = torch.tensor(row, dtype=torch.float64), True
    return grid, mask


phis = st.floats(0.05, 12.0).map(lambda x: round(x, 4))
groups = st.lists(
    st.tuples(st.lists(phis, min_size=1, max_size=5), st.lists(phis, min_size=1, max_size=7)), min_size=1, max_size=3
)


@given(groups, st.sampled_from([1.0, 1.1, 4.0]), st.sampled_from(FORMS))
def test_loss_is_the_formula(sides, alpha, form):
    safe, safe_mask = padded([a for a, _ in sides], float("nan"))  # what is absent may be anything
    toxic, toxic_mask = padded([b for _, b in sides], float("inf"))
    found = contrastive_perplexity_loss(safe, toxic, safe_mask, toxic_mask, alpha=alpha, form=form)
    assert float(found) == pytest.approx(np.mean([reference(a, b, alpha, form) for a, b in sides]), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_gradient_is_that_of_the_formula(form):
    rng = np.random.default_rng(0)
    sides = [(rng.uniform(1, 4, 3), rng.uniform(0, 6, 4)), (rng.uniform(1, 4, 5), rng.uniform(0, 6, 2))]
    safe, safe_mask = padded([a for a, _ in sides], 0.0)
    toxic, toxic_mask = padded([b for _, b in sides], 0.0)
    safe.requires_grad_(), toxic.requires_grad_()
    contrastive_perplexity_loss(safe, toxic, safe_mask, toxic_mask, alpha=1.1, form=form).backward()
    for index, (a, b) in enumerate(sides):
        found = torch.cat([safe.grad[index, : len(a)], toxic.grad[index, : len(b)]])
        assert found.numpy() * len(sides) == pytest.approx(gradient(a, b, 1.1, form), abs=1e-6)
    assert bool((safe.grad[~safe_mask] == 0).all())
    assert bool((toxic.grad[~toxic_mask] == 0).all())


@given(groups)
def test_signed_never_makes_a_toxic_text_likelier(sides):
    safe, safe_mask = padded([a for a, _ in sides], 0.0)
    toxic, toxic_mask = padded([b for _, b in sides], 0.0)
    toxic.requires_grad_()
    contrastive_perplexity_loss(safe, toxic, safe_mask, toxic_mask, form="signed").backward()
    assert bool((toxic.grad <= 0).all())  # going down the gradient, their nll rises


def test_the_paper_s_form_does():
    toxic = torch.tensor([[1.0]], requires_grad=True)
    yes = torch.ones(1, 1, dtype=torch.bool)
    contrastive_perplexity_loss(torch.tensor([[3.0]]), toxic, yes, yes, form="paper").backward()
    assert float(toxic.grad) > 0


def test_only_differences_count_and_no_toxic_text_is_no_loss():
    safe, toxic = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 0.5]])
    yes = torch.ones(1, 2, dtype=torch.bool)
    here, there = (contrastive_perplexity_loss(safe + shift, toxic + shift, yes, yes) for shift in (0.0, 5.0))
    assert float(here) == pytest.approx(float(there), rel=1e-6)
    assert float(contrastive_perplexity_loss(safe, toxic, yes, ~yes)) == 0.0


def test_what_cannot_be_computed_is_said():
    ones, yes = torch.ones(2, 3), torch.ones(2, 3, dtype=torch.bool)
    with pytest.raises(InputError, match=r"\(groups, P\)"):
        contrastive_perplexity_loss(ones, ones, yes[:1], yes)
    with pytest.raises(InputError, match="no safe sequence"):
        contrastive_perplexity_loss(ones, ones, ~yes, yes)
    with pytest.raises(InputError, match="NaN"):
        contrastive_perplexity_loss(ones * torch.nan, ones, yes, yes)
    with pytest.raises(InputError, match="alpha"):
        contrastive_perplexity_loss(ones, ones, yes, yes, alpha=0)
    with pytest.raises(UnknownName, match="signed"):
        contrastive_perplexity_loss(ones, ones, yes, yes, form="singed")
