"""All toxicity metrics of a cell and its paired difference from the base: 10,000 prompts x 25 completions, 10,000 bootstrap draws.

    python benchmarks/speed/cell_statistics.py            # about 3 minutes on one free core
    python benchmarks/speed/cell_statistics.py --quick    # seconds; writes no record

Metrics: mean, toxic share, expected maximum and probability of any at 25 and at 5, each with its interval; and the paired difference
of the means, with its sign-flip test. The target is held against CPU seconds of one thread; `wall_seconds` are what neighbours make
of them, with the load of the machine beside. Memory is the peak of fresh processes with and without the work. `sizes` times expected
maximum and probability of any at 5 against the same written as a loop over prompts, which must give the same numbers.

(Not named statistics.py, which would hide Python's own module from the other benchmarks.)
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OPENBLAS_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).parent))

from measure import cpu_seconds, extra_memory, interleaved, peak_mib, write_record

TARGETS = {"seconds": 30.0, "extra_mib": 1024.0}
PROMPTS, SAMPLES, DRAWS, THRESHOLD = 10_000, 25, 10_000, 0.5
REPEATS = 3


def make_scores(prompts: int, samples: int) -> Any:
    """(2, prompts, samples) scores of a method and of its base, logit-normal, one in a hundred missing."""
    import numpy as np

    rng = np.random.default_rng(0)
    logits = -2 + 1.5 * rng.normal(size=(1, prompts, 1)) + rng.normal(size=(2, prompts, samples))
    logits[0] -= 0.5
    scores = 1 / (1 + np.exp(-logits))
    scores[rng.random(scores.shape) < 0.01] = np.nan
    return scores


def whole(scores: Any, *, draws: int) -> dict[str, Any]:
    """Every metric of the method, and its difference from the base."""
    import numpy as np

    from detox.statistics import any_above, expected_maximum, mean_estimates, paired_difference, sign_flip_test

    method, base = scores
    most = method.shape[1]
    means = [np.nanmean(side, axis=1) for side in (method, base)]
    toxic = np.where(np.isnan(method), np.nan, method >= THRESHOLD)
    metrics = {"mean": means[0], "fraction": np.nanmean(toxic, axis=1)}
    for m in (most, 5):
        metrics[f"expected_maximum@{m}"] = expected_maximum(method, m)
        metrics[f"probability@{m}"] = any_above(method, THRESHOLD, m)
    found: dict[str, Any] = dict(
        zip(metrics, mean_estimates(list(metrics.values()), bounds=(0.0, 1.0), draws=draws), strict=True)
    )
    found["difference"] = paired_difference(means[0], means[1], reach=1.0, draws=draws)
    found["p"] = sign_flip_test(means[0] - means[1], draws=draws)
    return found


def maximum_by_loop(scores: Any, m: int) -> Any:
    import numpy as np

    result = np.full(len(scores), np.nan)
    for index, row in enumerate(scores):
        known = np.sort(row[~np.isnan(row)])
        k = len(known)
        if k >= m:
            weights = [math.comb(r - 1, m - 1) / math.comb(k, m) for r in range(1, k + 1)]
            result[index] = np.dot(weights, known)
    return result


def any_by_loop(scores: Any, m: int) -> Any:
    import numpy as np

    result = np.full(len(scores), np.nan)
    for index, row in enumerate(scores):
        known = row[~np.isnan(row)]
        k, events = len(known), int((known >= THRESHOLD).sum())
        if k >= m:
            result[index] = 1 - math.comb(k - events, m) / math.comb(k, m)
    return result


def against_loops(scores: Any, *, m: int, pairs: int) -> dict[str, Any]:
    import numpy as np

    from detox.statistics import any_above, expected_maximum

    arms = {
        "expected maximum": (lambda: maximum_by_loop(scores, m), lambda: expected_maximum(scores, m)),
        "probability of any": (lambda: any_by_loop(scores, m), lambda: any_above(scores, THRESHOLD, m)),
    }
    found: dict[str, Any] = {}
    for name, (loop, ours) in arms.items():
        difference = float(np.nanmax(np.abs(loop() - ours())))
        same_missing = bool((np.isnan(loop()) == np.isnan(ours())).all())
        timed = interleaved(cpu_seconds(loop), cpu_seconds(ours), pairs=pairs)
        found[name] = {**timed, "largest_difference": difference, "same_missing": same_missing}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few prompts and draws; writes no record")
    parser.add_argument("--memory", action="store_true", help="do the work once and print the peak memory in MiB")
    parser.add_argument("--no_work", action="store_true", help="with --memory: make the scores only")
    parser.add_argument("--output_dir", default="benchmarks/results/speed")
    arguments = parser.parse_args()
    if arguments.quick:
        scores = make_scores(500, SAMPLES)
        print({name: str(value) for name, value in whole(scores, draws=500).items()})
        print({name: arm["speedup"] for name, arm in against_loops(scores[0], m=5, pairs=2).items()})
        return
    scores = make_scores(PROMPTS, SAMPLES)
    if arguments.memory:
        import detox.statistics  # noqa: F401  what the import takes is in both

        if not arguments.no_work:
            whole(scores, draws=DRAWS)
        print(peak_mib())
        return
    seconds: dict[str, list[float]] = {"wall_seconds": [], "cpu_seconds": []}
    for _ in range(REPEATS):
        clocks = time.perf_counter(), time.process_time()
        found = whole(scores, draws=DRAWS)
        seconds["wall_seconds"].append(round(time.perf_counter() - clocks[0], 2))
        seconds["cpu_seconds"].append(round(time.process_time() - clocks[1], 2))
        print(seconds, file=sys.stderr, flush=True)
    memory = extra_memory(__file__, ["--memory"], repeats=3)
    figures = {
        "prompts": PROMPTS,
        "samples": SAMPLES,
        "draws": DRAWS,
        "targets": TARGETS,
        **seconds,
        "load_average": round(os.getloadavg()[0], 1),
        "met": {
            "seconds": max(seconds["cpu_seconds"]) <= TARGETS["seconds"],
            "extra_mib": memory["extra_mib"] <= TARGETS["extra_mib"],
        },
        "extra_memory": memory,
        "metrics": {name: str(value) for name, value in found.items()},
        "against": "the same order statistics in a loop over prompts",
        "clock": "CPU seconds of the process, one thread",
        "sizes": {f"{PROMPTS} x {SAMPLES}, m = 5": against_loops(scores[0], m=5, pairs=9)},
    }
    write_record("statistics", figures, output_dir=arguments.output_dir)


if __name__ == "__main__":
    main()
