"""What the intervals, tests and verdicts of detox.statistics do on data whose truth is known: a record and a table.

    python benchmarks/statistics/coverage.py            # under 10 CPU minutes; writes benchmarks/results/statistics/coverage.{json,md}
    python benchmarks/statistics/coverage.py --quick    # seconds; writes no record

Two-level data: prompt i has the logit a + spread * z_i, z normal, a such that the mean over prompts is the stated rate; its k samples
are drawn given that. The method lowers every prompt's logit by 0.5. Estimands:

    rate        share of toxic samples, a prompt's share its value                          mean_estimate(bounds=(0, 1))
    maximum     expected maximum of k scores; a score's logit is the prompt's plus normal noise of 1, nobody's mean the rate stated
    difference  rate with the method minus rate without, paired by prompt                   paired_difference(reach=1)
    same        rate minus rate of the same model in other samples: the A/A row             paired_difference(reach=1)

Between 93 and 97 % is demanded where there are at least 200 prompts and at least 5 events (or non-events) expected; elsewhere at
least 93 %: the exact interval may be conservative. The spread is 1.5, and 2.5 as a hard case, in which at a rate of .01 three prompts
in a hundred hold half of the events; what is demanded holds for 1.5, and the hard case is shown beside it.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from scipy import optimize, special

from detox.statistics import (
    any_above,
    detectable_difference,
    difference_estimate,
    expected_maximum,
    mcnemar_exact,
    paired_ratio_difference,
    rogan_gladen,
    sign_flip_test,
    utility_verdict,
)
from detox.statistics.intervals import (
    difference_ends,
    percentile_ends,
    share_ends,
)

RATES, PROMPTS, SAMPLES = (0.01, 0.1, 0.5), (50, 200, 2000), (1, 5, 25)
SPREAD, HARD_SPREAD = 1.5, 2.5
SHIFT = -0.5
TARGET = (0.93, 0.97)
MARGIN = 0.02
_nodes, _weights = np.polynomial.hermite_e.hermegauss(100)
_weights = _weights / _weights.sum()
_points, _lengths = np.polynomial.legendre.leggauss(400)


def intercept(rate: float, spread: float, shift: float = 0.0) -> float:
    """The a for which the mean over prompts is `rate`, plus `shift`."""
    found = optimize.brentq(lambda a: _weights @ special.expit(a + spread * _nodes) - rate, -60, 60)
    return float(found) + shift


def true_rate(a: float, spread: float) -> float:
    return float(_weights @ special.expit(a + spread * _nodes))


def true_maximum(a: float, spread: float, k: int) -> float:
    """Mean over prompts of the expected maximum of k scores: quadrature over prompts and over the quantiles of the maximum of k normals."""
    noise = special.ndtri(((_points + 1) / 2) ** (1 / k))
    return float(_weights @ (special.expit(a + spread * _nodes[:, None] + noise) @ (_lengths / 2)))


def simulate(estimand: str, rate: float, n: int, k: int, *, spread: float, runs: int, seed: int) -> dict[str, Any]:
    """How often the interval holds the truth, how often it lies below or above it, and the same of the plain percentile interval."""
    place = [int(1000 * rate), n, k, int(10 * spread), ["rate", "maximum", "difference", "same"].index(estimand)]
    rng = np.random.default_rng([seed, *place])
    a = intercept(rate, spread)
    parts = []
    at_once = max(1, 20_000_000 // (n * (k if estimand == "maximum" else 1)))
    for start in range(0, runs, at_once):
        size = (n, min(at_once, runs - start))
        logits = a + spread * rng.normal(size=size)
        if estimand == "maximum":
            scores = special.expit(logits[..., None] + rng.normal(size=(*size, k)))
            parts.append(expected_maximum(scores.reshape(-1, k), k).reshape(size))
            continue
        values = rng.binomial(k, special.expit(logits)) / k
        if estimand != "rate":
            shift = SHIFT if estimand == "difference" else 0.0
            values = rng.binomial(k, special.expit(logits + shift)) / k - values
        parts.append(values)
    values = np.concatenate(parts, axis=1)
    paired = estimand in ("difference", "same")
    if estimand == "maximum":
        truth = true_maximum(a, spread, k)
    else:
        truth = {"rate": rate, "difference": true_rate(a + SHIFT, spread) - rate, "same": 0.0}[estimand]
    low, high = difference_ends(values, reach=1.0) if paired else share_ends(values)
    plain = percentile_ends(values)
    held = (low <= truth) & (truth <= high)
    expected = n * k * min(rate, 1 - rate) if estimand != "maximum" else n * k * min(truth, 1 - truth)
    demanded = n >= 200 and expected >= 5
    coverage = float(held.mean())
    return {
        "estimand": estimand,
        "rate": rate,
        "prompts": n,
        "samples": k,
        "spread": spread,
        "runs": runs,
        "truth": truth,
        "expected_events": round(expected, 1),
        "demanded": demanded,
        "coverage": coverage,
        "standard_error": float(np.sqrt(coverage * (1 - coverage) / runs)),
        "below": float((high < truth).mean()),
        "above": float((low > truth).mean()),
        "mean_width": float((high - low).mean()),
        "met": bool(TARGET[0] <= coverage <= (TARGET[1] if demanded else 1.0)),
        "percentile": float(((plain[0] <= truth) & (truth <= plain[1])).mean()),
    }


def verdicts(*, runs: int, documents: int, loss: float, seed: int = 0) -> dict[str, Any]:
    """Shares of the verdicts on cross-entropy where the true loss is `loss` nats per token: documents of very different lengths."""
    rng = np.random.default_rng([seed, documents, round(1000 * loss)])
    counts = dict.fromkeys(("better", "non-inferior", "worse", "inconclusive"), 0)
    for _ in range(runs):
        tokens = np.ceil(rng.lognormal(5.5, 0.8, size=documents))
        level = 3.0 + rng.normal(scale=0.4, size=documents)
        noise = rng.standard_t(4, size=documents) * 0.08
        nats = tokens * level
        # The same noise has no mean: the change of a document is `loss` on average, whatever its length.
        changed = tokens * (level + loss + noise)
        difference = paired_ratio_difference(changed, tokens, nats, tokens, draws=1000)
        counts[utility_verdict(difference, margin=MARGIN, higher_is_better=False)] += 1
    return {"documents": documents, "loss": loss, "margin": MARGIN, "runs": runs} | {
        key: value / runs for key, value in counts.items()
    }


def on_the_same(*, runs: int, n: int, k: int, rate: float, seed: int) -> dict[str, Any]:
    """How often tests at .05 find a difference between a model and itself in other samples."""
    rng = np.random.default_rng([seed, n, k, int(100 * rate)])
    a = intercept(rate, SPREAD)
    found = {"sign flip": 0, "McNemar": 0, "interval": 0}
    for _ in range(runs):
        p = special.expit(a + SPREAD * rng.normal(size=n))[:, None]
        one, other = (rng.random((n, k)) < p for _ in range(2))
        found["sign flip"] += sign_flip_test(one.mean(1) - other.mean(1), draws=1000) <= 0.05
        found["McNemar"] += mcnemar_exact(any_above(one, 0.5, k), any_above(other, 0.5, k)) <= 0.05
        found["interval"] += difference_estimate(one.mean(1) - other.mean(1), reach=1.0).excludes_zero
    return {"prompts": n, "samples": k, "rate": rate, "runs": runs, "significance": 0.05} | {
        key: value / runs for key, value in found.items()
    }


def power(*, runs: int, n: int, k: int, seed: int = 0) -> dict[str, Any]:
    """Power of the interval where the true difference is the detectable one: normal differences, and those of two-level data.

    The spread is that of a pilot with the shift of the other simulations. A larger shift leaves rarer events and less spread, so that
    two-level data have more power than asked for where the detectable difference is larger than the pilot's, and less where smaller.
    """
    rng = np.random.default_rng([seed, n, k])
    a = intercept(0.1, SPREAD)

    def differences(shift: float, runs: int) -> Any:
        logits = a + SPREAD * rng.normal(size=(n, runs))
        return (rng.binomial(k, special.expit(logits + shift)) - rng.binomial(k, special.expit(logits))) / k

    deviation = float(differences(SHIFT, 4000).std())
    asked = detectable_difference(deviation, n)
    shift = optimize.brentq(lambda s: true_rate(a + s, SPREAD) - 0.1 + asked, -8, 0) if asked < 0.099 else None
    result: dict[str, Any] = {"prompts": n, "samples": k, "runs": runs, "detectable": asked, "power": 0.8}
    for name in ("normal", "two levels"):
        if name == "normal":
            values = rng.normal(-asked, deviation, size=(n, runs))
            reach = None
        elif shift is None:
            continue
        else:
            values, reach = differences(shift, runs), 1.0
        low, high = difference_ends(values, reach=reach)
        result[name] = float(((low > 0) | (high < 0)).mean())
    return result


def correction(*, runs: int, rate: float, labelled: int, seed: int = 0) -> dict[str, Any]:
    """Coverage of the Rogan-Gladen interval: 500 prompts, 5 samples, a scorer that finds 80 % and passes 95 %."""
    rng = np.random.default_rng([seed, int(100 * rate), labelled])
    a, se, sp, n, k = intercept(rate, SPREAD), 0.8, 0.95, 500, 5
    held = 0
    for _ in range(runs):
        toxic = rng.random((n, k)) < special.expit(a + SPREAD * rng.normal(size=n))[:, None]
        called = np.where(toxic, rng.random((n, k)) < se, rng.random((n, k)) >= sp).mean(1)
        counts = [(int(rng.binomial(labelled, p)), labelled) for p in (se, sp)]
        found = rogan_gladen(called, sensitivity=counts[0], specificity=counts[1], draws=1000)
        held += found.low <= rate <= found.high
    return {"rate": rate, "labelled": labelled, "runs": runs, "coverage": held / runs}


def markdown(record: dict[str, Any]) -> str:
    """Every cell: coverage in %, with the percentile bootstrap's in brackets."""
    cells = {(c["estimand"], c["spread"], c["rate"], c["prompts"], c["samples"]): c for c in record["coverage"]}
    lines = [
        "# Coverage of 95 % intervals",
        "",
        f"Of `benchmarks/statistics/coverage.py`; {record['runs']} simulations a cell. In brackets the plain percentile bootstrap. "
        "**Bold**: at least 200 prompts and 5 expected events, where 93 to 97 % is demanded; elsewhere at least 93 %. A cell that "
        "misses has an exclamation mark.",
    ]
    for spread in (SPREAD, HARD_SPREAD):
        for estimand in ("rate", "maximum", "difference", "same"):
            lines += ["", f"## {estimand}, spread {spread:g}", ""]
            lines += ["| rate | prompts | " + " | ".join(f"k = {k}" for k in SAMPLES) + " |", "|---" * 5 + "|"]
            for rate in RATES:
                for n in PROMPTS:
                    row = [cells[estimand, spread, rate, n, k] for k in SAMPLES]
                    lines.append(f"| {rate:g} | {n} | " + " | ".join(map(_shown, row)) + " |")
    for title, key in (
        ("Verdicts on cross-entropy", "verdicts"),
        ("Tests of a model against itself, at .05", "tests"),
        ("Power at the detectable difference", "power"),
        ("Rogan-Gladen: coverage", "correction"),
    ):
        names = list(dict.fromkeys(name for row in record[key] for name in row))
        lines += ["", f"## {title}", "", f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
        lines += [f"| {' | '.join(_number(row.get(name)) for name in names)} |" for row in record[key]]
    return "\n".join(lines) + "\n"


def _shown(cell: dict[str, Any]) -> str:
    text = f"{100 * cell['coverage']:.1f}"
    text = f"**{text}**" if cell["demanded"] else text
    return f"{text}{'' if cell['met'] else ' !'} ({100 * cell['percentile']:.1f})"


def _number(value: Any) -> str:
    return "" if value is None else f"{value:.4g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few simulations of few prompts; writes no record")
    parser.add_argument("--runs", type=int, default=2500, help="simulations a cell")
    parser.add_argument(
        "--seed", type=int, default=1, help="of all simulations; the rules were chosen while looking at 0"
    )
    parser.add_argument("--output_dir", default="benchmarks/results/statistics")
    arguments = parser.parse_args()
    runs, prompts = (100, (50, 200)) if arguments.quick else (arguments.runs, PROMPTS)
    started, seed = time.process_time(), arguments.seed
    coverage = []
    plan = [(e, s) for s in (SPREAD, HARD_SPREAD) for e in ("rate", "maximum", "difference", "same")]
    for done, (estimand, spread) in enumerate(plan):
        for rate in RATES:
            for n in prompts:
                coverage += [simulate(estimand, rate, n, k, spread=spread, runs=runs, seed=seed) for k in SAMPLES]
        print(f"{done + 1} of {len(plan)}: {estimand}, spread {spread:g}", file=sys.stderr, flush=True)
    few = 50 if arguments.quick else 2000
    record: dict[str, Any] = {
        "benchmark": "coverage",
        "command": " ".join(["python", *map(os.path.relpath, sys.argv[:1]), *sys.argv[1:]]),
        "versions": {package: version(package) for package in ("numpy", "scipy", "detox-lm")},
        "python": platform.python_version(),
        "runs": runs,
        "seed": seed,
        "target": list(TARGET),
        "shift": SHIFT,
        "coverage": coverage,
        "verdicts": [
            verdicts(runs=few, documents=documents, loss=loss, seed=seed)
            for documents in (50, 200)
            for loss in (0.0, MARGIN)
        ],
        "tests": [on_the_same(runs=few, n=n, k=k, rate=0.1, seed=seed) for n in (50, 200) for k in (1, 5)],
        "power": [power(runs=runs, n=n, k=k, seed=seed) for n in (50, 200, 1000) for k in (1, 5)],
        "correction": [
            correction(runs=few, rate=rate, labelled=of, seed=seed) for rate in (0.01, 0.1, 0.3) for of in (100, 1000)
        ],
    }
    record["cpu_seconds"] = round(time.process_time() - started, 1)
    if arguments.quick:
        print({c["estimand"]: c["coverage"] for c in coverage}, record["verdicts"][0], record["tests"][0])
        return
    from detox.files import write_json, write_text

    folder = Path(arguments.output_dir)
    write_json(folder / "coverage.json", record)
    write_text(folder / "coverage.md", markdown(record))
    missed = [c for c in coverage if not c["met"]]
    print(f"{len(coverage)} cells, {len(missed)} missed, {record['cpu_seconds']} CPU seconds")
    for c in missed:
        print({key: c[key] for key in ("estimand", "spread", "rate", "prompts", "samples", "coverage", "demanded")})


if __name__ == "__main__":
    main()
