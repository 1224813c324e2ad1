"""A grid computed by several processes: each makes some of the bases and measures them, one thread each.

Small models gain nothing from a second thread, and bases are independent of each other. A worker is the same command on the same
grid file, told which bases are its own; what it finishes is on disk, so a killed worker loses the cell that it was in.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from detox.bench.bases import Base
from detox.errors import InputError

Say = Callable[[str], None]


def shares_of(bases: Sequence[Base], workers: int) -> list[list[str]]:
    """Which bases each worker has: those that come of one root stay together, in order; roots are dealt in turn."""
    if workers < 1:
        raise InputError(f"workers is {workers}; expected at least 1")
    roots = list(dict.fromkeys(base.root for base in bases))
    dealt = {root: index % workers for index, root in enumerate(roots)}
    shares = [[base.name for base in bases if dealt[base.root] == worker] for worker in range(workers)]
    return [share for share in shares if share]


def run_workers(
    grid_file: str | Path, output_dir: str | Path, bases: Sequence[Base], *, workers: int, keep_texts: bool, say: Say
) -> None:
    """Compute a grid in `workers` processes and wait for them; their lines go to `say`, each with its worker's number.

    A worker that fails is said and leaves holes; whoever calls computes what is missing. Ctrl-C and errors end them all.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    running: list[subprocess.Popen[str]] = []
    readers = []
    try:
        for number, names in enumerate(shares_of(bases, workers), start=1):
            command = [sys.executable, "-m", "detox", "bench", "run", str(grid_file), "--output_dir", str(output_dir)]
            command += ["--as_worker", "--bases", *names, *(() if keep_texts else ("--drop_texts",))]
            worker = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, errors="replace")
            running.append(worker)
            assert worker.stderr is not None
            reader = threading.Thread(target=_forward, args=(worker.stderr, f"worker {number}", say), daemon=True)
            reader.start()
            readers.append(reader)
        for number, worker in enumerate(running, start=1):
            if worker.wait() not in (0, 3):  # 3: it has said which cells have no record
                say(f"worker {number} ended with {worker.returncode}; what it did not finish is computed here")
    finally:
        for worker in running:
            if worker.poll() is None:
                worker.terminate()
                worker.wait()
    for reader in readers:
        reader.join()


def _forward(lines: IO[str], name: str, say: Say) -> None:
    with lines:
        for line in lines:
            text = line.rstrip().rpartition("\r")[2]  # of a bar that is drawn over and over, its last state
            if text:
                say(f"{name}: {text}")


def fifths(name: str, say: Say) -> Callable[[int, int], None]:
    """Progress of a base, told at every fifth of its steps, where a bar would break up the lines of others."""
    started, said = time.perf_counter(), 0

    def tell(step: int, steps: int) -> None:
        nonlocal said
        if step * 5 // steps > said:
            said = step * 5 // steps
            left = (time.perf_counter() - started) * (steps - step) / max(step, 1)
            say(f"base {name}: step {step} of {steps} (about {left / 60:.1f} min left)")

    return tell
