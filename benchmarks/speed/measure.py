"""How speed and memory are measured here: interleaved pairs in one process, peak memory of fresh processes, one record a question.

A neighbour's load moves absolute times threefold and leaves the ratio of two runs that follow each other almost alone. So the
figure is the median ratio of pairs, with the order statistics that enclose it with at least 95 % probability.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

PAIRS = 21
REPEATS = 5


def median_interval(values: Sequence[float], *, coverage: float = 0.95) -> tuple[float, float]:
    """Order statistics around the median, by the binomial distribution: no assumption about the values.

    Returns:
        The innermost pair that encloses the median with at least this probability; the extremes where there are too few values.
    """
    ordered, n = sorted(values), len(values)
    for k in range(n // 2, 0, -1):
        # P(X_(k) <= median <= X_(n+1-k)), k counted from one
        inside = 1 - 2 * sum(math.comb(n, i) for i in range(k)) / 2**n
        if inside >= coverage:
            return ordered[k - 1], ordered[n - k]
    return ordered[0], ordered[-1]


def interleaved(
    baseline: Callable[[], object], ours: Callable[[], object], *, pairs: int = PAIRS, warmup: int = 1
) -> dict[str, Any]:
    """Time two arms in turns, whose order changes from pair to pair.

    An arm may return the seconds that it took, where it has to prepare something that is not to be timed.

    Returns:
        Seconds of each run, and `speedup`: baseline over ours, the median of pairs with its interval.
    """
    seconds: dict[str, list[float]] = {"baseline": [], "ours": []}
    arms = {"baseline": baseline, "ours": ours}
    for index in range(-warmup, pairs):
        for name in list(arms)[:: 1 if index % 2 else -1]:
            started = time.perf_counter()
            measured = arms[name]()
            if index >= 0:
                seconds[name].append(measured if isinstance(measured, float) else time.perf_counter() - started)
        print(f"\rpair {max(index + 1, 0)} of {pairs}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    ratios = [a / b for a, b in zip(seconds["baseline"], seconds["ours"], strict=True)]
    low, high = median_interval(ratios)
    return {
        "pairs": pairs,
        "speedup": {"median": statistics.median(ratios), "low": low, "high": high},
        "median_seconds": {name: statistics.median(values) for name, values in seconds.items()},
        "seconds": {name: [round(value, 4) for value in values] for name, values in seconds.items()},
    }


def cpu_seconds(arm: Callable[[], Any]) -> Callable[[], float]:
    """An arm that says how long it kept the processor, where neighbours make the clock useless."""

    def timed() -> float:
        started = time.process_time()
        arm()
        return time.process_time() - started

    return timed


def peak_mib() -> float:
    """The most memory that this process has held, in MiB.

    On Linux the high-water mark of this program's own memory: ru_maxrss also counts what the parent held when it started us.
    """
    import resource

    status = Path("/proc/self/status")
    if status.is_file():
        return (
            int(next(line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM:"))) / 2**10
        )

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)  # macOS counts bytes


def extra_memory(script: str, arm: Sequence[str], *, repeats: int = REPEATS) -> dict[str, Any]:
    """Peak memory that the work adds: fresh processes of `script` with and without it, which print `peak_mib()` last.

    Returns:
        The median difference, and all peaks.
    """
    peaks: dict[str, list[float]] = {"with": [], "without": []}
    for _ in range(repeats):
        for name, flags in (("with", []), ("without", ["--no_work"])):
            done = subprocess.run([sys.executable, script, *arm, *flags], capture_output=True, text=True, check=True)
            peaks[name].append(round(float(done.stdout.split()[-1]), 1))
    extra = statistics.median(peaks["with"]) - statistics.median(peaks["without"])
    return {"repeats": repeats, "extra_mib": round(extra, 1), "peaks_mib": peaks}


def write_record(name: str, figures: dict[str, Any], *, output_dir: str | Path) -> Path:
    """Write one record with what is needed to read it: versions, processor, threads, command."""
    import platform
    from importlib.metadata import version

    import torch

    from detox.files import write_json

    record = {
        "benchmark": name,
        "command": " ".join(["python", *map(os.path.relpath, sys.argv[:1]), *sys.argv[1:]]),
        "machine": {"processor": _processor(), "threads": torch.get_num_threads(), "python": platform.python_version()},
        "versions": {package: version(package) for package in ("torch", "transformers", "lm_eval", "detox-lm")},
        **figures,
    }
    path = Path(output_dir) / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, record)
    print(json.dumps({key: value for key, value in figures.items() if key != "sizes"}, indent=1, default=str)[:2000])
    return path


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        import platform

        return platform.processor() or platform.machine()
