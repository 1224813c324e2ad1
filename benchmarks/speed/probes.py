"""Logistic-regression probes of all heads: one batched Newton solver against a loop of scikit-learn's LogisticRegression.

    python benchmarks/speed/probes.py            # about 2 minutes on one free core
    python benchmarks/speed/probes.py --quick    # seconds; writes no record

Both are given the same standardised features (2,000 texts, correlated, a few directions that tell the label), the same C and the
same tolerance, and scikit-learn no work of ours: no standardising, no held-out texts. Arms:

    tight       tolerance 1e-10, at which both give the minimum: the coefficients are compared
    default     tolerance 1e-4, scikit-learn's own, at which L-BFGS stops some way before the minimum
    cholesky    tolerance 1e-10, scikit-learn's newton-cholesky instead of its default L-BFGS: its fastest solver for this shape

Heads do not touch each other, so that a part of them is timed (`heads`) and stands for all. Time is that of the process (CPU
seconds) on one thread. `both_cores` is the speedup over a scikit-learn that used two cores without any loss, beside ours on one.
`whole` is `fit_head_probes`, from activations to accuracies and areas, on all heads, in CPU seconds.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OPENBLAS_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).parent))

from measure import cpu_seconds, interleaved, write_record

TARGETS = {"both_cores": 3.0, "difference": 1e-4, "whole_seconds": 60.0}
ARMS = {"tight": (1e-10, "lbfgs"), "default": (1e-4, "lbfgs"), "cholesky": (1e-10, "newton-cholesky")}
WIDTHS = (64, 128)
PAIRS = 9  # of CPU seconds, which differ little from run to run
WHOLE = {"16 x 16 heads of 64, 2,000 texts": (16, 16, 64, 2000), "32 x 32 heads of 64, 4,000 texts": (32, 32, 64, 4000)}


def make_activations(texts: int, heads: int, width: int) -> tuple[Any, Any]:
    """(texts, heads, width) float32 and labels: correlated features, in which each head knows the label more or less well."""
    import numpy as np

    rng = np.random.default_rng(0)
    labels = np.arange(texts) % 2
    activations = np.empty((texts, heads, width), dtype=np.float32)
    for head in range(heads):
        mixing = rng.normal(size=(width, width)) * np.exp(-np.arange(width) / 20)[:, None]
        hidden = rng.normal(size=(texts, width))
        hidden[:, :4] += rng.uniform(0, 1) * (2 * labels - 1)[:, None]
        activations[:, head] = hidden @ mixing + rng.normal(size=width)
    return activations, labels


def compare(width: int, *, texts: int, heads: int, pairs: int) -> dict[str, Any]:
    import numpy as np
    import torch
    from sklearn.linear_model import LogisticRegression

    from detox.probing.linear import VALUES_AT_ONCE
    from detox.probing.logistic import fit_logistic

    activations, labels = make_activations(texts, heads, width)
    wide = activations.astype(np.float64)
    features = np.ascontiguousarray(((wide - wide.mean(0)) / wide.std(0)).swapaxes(0, 1))
    problems, toxic = torch.from_numpy(features), torch.from_numpy(labels == 1)
    at_once = max(1, VALUES_AT_ONCE // (texts * (width + 1)))
    found: dict[str, Any] = {"texts": texts, "heads": heads}
    for name, (tolerance, solver) in ARMS.items():
        kept: dict[str, Any] = {}

        def theirs(tolerance: float = tolerance, solver: str = solver, kept: dict[str, Any] = kept) -> None:
            kept["theirs"] = [
                LogisticRegression(C=1.0, tol=tolerance, solver=solver, max_iter=100_000).fit(x, labels).coef_[0]
                for x in features
            ]

        def ours(tolerance: float = tolerance, kept: dict[str, Any] = kept) -> None:
            parts = [fit_logistic(part, toxic, C=1.0, tolerance=tolerance)[0] for part in problems.split(at_once)]
            kept["ours"] = torch.cat(parts).numpy()

        print(width, name, file=sys.stderr)
        timed = interleaved(cpu_seconds(theirs), cpu_seconds(ours), pairs=pairs)
        difference = max(
            float(np.abs(a - b).max() / np.abs(a).max()) for a, b in zip(kept["theirs"], kept["ours"], strict=True)
        )
        both = {end: value / 2 for end, value in timed["speedup"].items()}
        found[name] = {**timed, "both_cores": both, "tolerance": tolerance, "largest_relative_difference": difference}
    tight = found["tight"]
    tight["met"] = (
        tight["both_cores"]["high"] >= TARGETS["both_cores"]
        and tight["largest_relative_difference"] <= TARGETS["difference"]
    )
    return found


def whole(layers: int, heads: int, width: int, texts: int) -> dict[str, Any]:
    import numpy as np

    from detox.probing import fit_head_probes

    activations, labels = make_activations(texts, 8, width)
    every = np.broadcast_to(activations[:, None, np.arange(heads) % 8], (texts, layers, heads, width))
    order = np.random.default_rng(0).permutation(texts)
    train, heldout = order[: texts * 4 // 5], order[texts * 4 // 5 :]
    seconds = cpu_seconds(lambda: fit_head_probes(every, labels.tolist(), train, heldout))()
    return {"cpu_seconds": round(seconds, 2), "target": TARGETS["whole_seconds"]}


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few heads and two pairs; writes no record")
    parser.add_argument("--output_dir", default="benchmarks/results/speed")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.quick:
        result = compare(8, texts=200, heads=3, pairs=2)
        print({name: result[name]["speedup"] for name in ARMS})
        print(whole(2, 3, 8, 200))
        return
    sizes = {f"heads of {width}": compare(width, texts=2000, heads=8, pairs=PAIRS) for width in WIDTHS}
    figures = {
        "against": "a loop of scikit-learn's LogisticRegression",
        "clock": "CPU seconds of the process, one thread",
        "targets": TARGETS,
        "sizes": sizes,
        "whole": {name: whole(*shape) for name, shape in WHOLE.items()},
    }
    write_record("probes", figures, output_dir=arguments.output_dir)


if __name__ == "__main__":
    main()
