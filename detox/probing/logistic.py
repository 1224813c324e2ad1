"""Many logistic regressions of the same labels at once, each on features of its own, to scikit-learn's minimum.

The objective is that of scikit-learn's LogisticRegression, divided by C * n as its own solvers do:

    f(w, b) = mean_i log(1 + exp(-s_i (x_i w + b))) + |w|^2 / (2 C n),   s_i = +1 or -1,

with the intercept b not penalised. Newton's method takes some 5 steps where L-BFGS takes hundreds, and its normal equations are
one batched product. Gradients are float64 and decide where the minimum is. The Hessian only decides how fast it is reached: it
is float32, float64 where that is singular to float32, and kept as long as it serves.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from detox.errors import InputError

_STEPS = 200
_KEEP = 0.1  # a Hessian is kept while steps with it shrink the gradient to this share
_ARMIJO = 1e-4  # Nocedal and Wright (2006), section 3.1
_HALVINGS = 30


def fit_logistic(x: Tensor, y: Tensor, *, C: float, tolerance: float = 1e-10) -> tuple[Tensor, Tensor]:
    """Weights and intercepts of several logistic regressions.

    Args:
        x: (problems, n, d) float64 features, best standardised.
        y: (n,) bool, both values present; the same labels for all.
        C: inverse regularisation, scikit-learn's.
        tolerance: largest component of the gradient of f at which a problem is solved, scikit-learn's `tol`.

    Returns:
        (problems, d) and (problems,) float64.

    Raises:
        InputError: C is not positive, or a problem is not solved in 200 steps.
    """
    if not C > 0:
        raise InputError(f"C is {C}; expected a positive number")
    problems, n, d = x.shape
    if d > n:
        # The weights are a combination of the n texts, so n coordinates hold them, and their norm is the same.
        basis, coordinates = torch.linalg.qr(x.mT)
        weights, intercepts = fit_logistic(coordinates.mT, y, C=C, tolerance=tolerance)
        return (basis @ weights[..., None]).squeeze(-1), intercepts
    design = torch.cat([x, x.new_ones(problems, n, 1)], dim=2)
    ridge = x.new_full((d + 1,), 1 / (C * n))
    ridge[-1] = 0
    solution = _newton(design, y.to(design.dtype), ridge, tolerance)
    return solution[:, :-1], solution[:, -1]


def _newton(design: Tensor, y: Tensor, ridge: Tensor, tolerance: float) -> Tensor:
    """Minima (problems, width) of mean logistic loss plus sum(ridge * theta^2) / 2, by damped Newton steps."""
    problems, n, width = design.shape
    solution = design.new_zeros(problems, width)
    solution[:, -1] = torch.logit(y.mean())
    live = torch.arange(problems, device=design.device)
    theta, single = solution.clone(), design.float()
    scores = theta[:, -1:].expand(-1, n)
    factors = torch.eye(width, dtype=design.dtype, device=design.device).repeat(problems, 1, 1)
    served, before = torch.zeros_like(live, dtype=torch.bool), design.new_zeros(problems)
    for _ in range(_STEPS):
        probability = torch.sigmoid(scores)
        gradient = ((probability - y)[:, None] @ design).squeeze(1) / n + ridge * theta
        size = gradient.abs().amax(1)
        going = size > tolerance
        if 2 * int(going.sum()) <= len(live):  # copying costs a step, so that those that are done wait for others
            solution[live] = theta
            live, theta, scores, probability, gradient, size, design, single, factors, served, before = (
                part[going]
                for part in (
                    live, theta, scores, probability, gradient, size, design, single, factors, served, before
                )
            )  # fmt: skip
            if not len(live):
                return solution
            going = size > tolerance
        for i in (going & (~served | (size > _KEEP * before))).nonzero().flatten().tolist():
            factors[i] = _factor(single[i], probability[i], ridge, design[i])
        direction = -torch.cholesky_solve(gradient[..., None], factors).squeeze(-1)
        change = (design @ direction[..., None]).squeeze(-1)
        length = _damping(y, ridge, theta, scores, direction, change, (gradient * direction).sum(1))
        theta, scores = theta + length[:, None] * direction, scores + length[:, None] * change
        before, served = size, length == 1
    raise InputError(
        f"{len(live)} of {problems} probes are not fitted after {_STEPS} Newton steps (gradient {float(size.max()):.1e}, wanted "
        f"{tolerance:.0e}); take a smaller C or a larger tolerance"
    )


def _factor(features: Tensor, probability: Tensor, ridge: Tensor, exact: Tensor) -> Tensor:
    """Cholesky factor (width, width) float64 of a Hessian; of `exact` (n, width) where `features` are not enough."""
    weight = (probability * (1 - probability)).to(features.dtype) / len(features)
    hessian = ((features * weight[:, None]).T @ features).double()
    diagonal = hessian.diagonal()
    diagonal += ridge
    factor, failed = torch.linalg.cholesky_ex(hessian)
    if failed and features is not exact:
        return _factor(exact, probability, ridge, exact)
    if failed:  # every text is certain, and the curvature of the intercept is nothing but rounding
        diagonal += 1e-12 * diagonal.max() + 1e-30
        factor = torch.linalg.cholesky(hessian)
    return torch.as_tensor(factor)


def _damping(
    y: Tensor, ridge: Tensor, theta: Tensor, scores: Tensor, direction: Tensor, change: Tensor, slope: Tensor
) -> Tensor:
    """Lengths (problems,) of the steps: 1, halved until f falls by as much as it should."""
    sign = 2 * y - 1

    def objective(length: Tensor) -> Tensor:
        loss = -logsigmoid(sign * (scores + length[:, None] * change)).mean(1)
        penalty: Tensor = loss + (ridge * (theta + length[:, None] * direction) ** 2).sum(1) / 2
        return penalty

    length = torch.ones_like(slope)
    start = objective(torch.zeros_like(slope))
    for _ in range(_HALVINGS):
        # Near the minimum f changes by less than its own rounding.
        enough = objective(length) <= start + _ARMIJO * length * slope + 1e-14 * (1 + start)
        if enough.all():
            break
        length = torch.where(enough, length, length / 2)
    return length
