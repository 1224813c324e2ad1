"""Likelihood of 1,000 multiple-choice requests, vocabulary 50k, against lm-eval's HFLM.loglikelihood: time, memory, equality.

    python benchmarks/speed/likelihood.py            # about 20 minutes on 2 cores; needs pip install -e ".[lm-eval]"
    python benchmarks/speed/likelihood.py --quick    # seconds; writes no record

For time HFLM has the batch size of 1, 8, 32 and 128 at which it is fastest. Memory is that of fresh processes, which run this file
with `--arm`, less that of the same processes without the work, and HFLM has a batch of 32: at 1 it needs next to nothing.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).parent))

from measure import extra_memory, interleaved, peak_mib, write_record
from models import build, text

BATCHES = (1, 8, 32, 128)
CHOICES = 4
TARGETS = {"speedup": 3.0, "memory": 0.15, "difference": 1e-4}


def make_requests(count: int, size: str, *, seed: int = 0) -> tuple[list[str], list[str]]:
    """Contexts of 10 to 30 words, each with four choices of 1 to 6 words."""
    rng = random.Random(seed)
    contexts, choices = [], []
    for _ in range(count // CHOICES):
        context = text(rng, rng.randint(10, 30), size)
        for _ in range(CHOICES):
            contexts.append(context)
            choices.append(" " + text(rng, rng.randint(1, 6), size))
    return contexts, choices


def hflm_arm(model: Any, tokenizer: Any, contexts: list[str], choices: list[str], batch_size: int) -> Any:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    harness = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size, device="cpu")
    requests = [
        Instance(request_type="loglikelihood", doc={}, arguments=pair, idx=i)
        for i, pair in enumerate(zip(contexts, choices, strict=True))
    ]
    return lambda: [value for value, _ in harness.loglikelihood(requests, disable_tqdm=True)]


def detox_arm(model: Any, tokenizer: Any, contexts: list[str], choices: list[str]) -> Any:
    from detox import LanguageModel, token_logprobs

    lm = LanguageModel(model, tokenizer)
    return lambda: [float(values.sum()) for values in token_logprobs(lm, contexts, choices)]


def compare(size: str, *, count: int, timed: int, pairs: int) -> dict[str, Any]:
    model, tokenizer = build(size)
    contexts, choices = make_requests(count, size)
    some = contexts[:timed], choices[:timed]
    seconds = {}
    for batch in BATCHES:
        arm = hflm_arm(model, tokenizer, *some, batch)
        started = time.perf_counter()
        arm()
        seconds[str(batch)] = time.perf_counter() - started
    best = int(min(seconds, key=seconds.__getitem__))
    theirs = hflm_arm(model, tokenizer, contexts, choices, best)()
    difference = max(abs(a - b) for a, b in zip(theirs, detox_arm(model, tokenizer, contexts, choices)(), strict=True))
    result = interleaved(hflm_arm(model, tokenizer, *some, best), detox_arm(model, tokenizer, *some), pairs=pairs)
    return {
        "requests": count,
        "requests_timed": timed,
        "hflm_seconds_by_batch": seconds,
        "hflm_batch": best,
        **result,
        "target": TARGETS["speedup"],
        "met": result["speedup"]["high"] >= TARGETS["speedup"],
        "largest_difference_nats": difference,
        "equal": difference <= TARGETS["difference"],
    }


def memory(size: str, *, count: int, repeats: int, others: tuple[int, ...] = (8, 128)) -> dict[str, Any]:
    """Extra memory of both at HFLM's usual batch of 32; `others` are batches at which HFLM is looked at once."""

    def arm(name: str, batch: int, repeats: int) -> dict[str, Any]:
        asked = ["--arm", name, "--size", size, "--count", str(count), "--batch", str(batch)]
        return extra_memory(__file__, asked, repeats=repeats)

    arms = {"detox": arm("detox", 32, repeats), "hflm": arm("hflm", 32, repeats)}
    by_batch = {str(batch): arm("hflm", batch, 1)["extra_mib"] for batch in others}
    if arms["hflm"]["extra_mib"] <= 0:
        return arms  # too little work to be seen
    ratio = arms["detox"]["extra_mib"] / arms["hflm"]["extra_mib"]
    return {
        **arms,
        "hflm_batch": 32,
        "hflm_extra_mib_at_other_batches": by_batch,
        "ratio": ratio,
        "target": TARGETS["memory"],
        "met": ratio <= TARGETS["memory"],
    }


def run_arm(arguments: argparse.Namespace) -> None:
    """One arm in this process; prints the peak memory. Both arms import both libraries, so that only the work differs."""
    import lm_eval.models.huggingface  # noqa: F401

    import detox.models  # noqa: F401

    model, tokenizer = build(arguments.size)
    asked = make_requests(arguments.count, arguments.size)
    arms = {
        "hflm": lambda: hflm_arm(model, tokenizer, *asked, arguments.batch),
        "detox": lambda: detox_arm(model, tokenizer, *asked),
    }
    work = arms[arguments.arm]()
    if not arguments.no_work:
        work()
    print(peak_mib())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tiny model and two pairs; writes no record")
    parser.add_argument("--output_dir", default="benchmarks/results/speed")
    parser.add_argument("--requests_timed", type=int, default=120, help="of the 1,000, in each pair")
    inner = parser.add_argument_group("one arm of the memory measurement")
    inner.add_argument("--arm", choices=("hflm", "detox"))
    inner.add_argument("--size", default="fixed-50k")
    inner.add_argument("--count", type=int, default=1000)
    inner.add_argument("--batch", type=int, default=32)
    inner.add_argument("--no_work", action="store_true")
    arguments = parser.parse_args()
    if arguments.arm:
        run_arm(arguments)
        return
    if arguments.quick:
        result = compare("tiny", count=40, timed=40, pairs=2)
        used = memory("tiny", count=40, repeats=1, others=())
        print(result["speedup"], result["equal"], used["detox"]["peaks_mib"])
        return
    result = compare("fixed-50k", count=1000, timed=arguments.requests_timed, pairs=21)
    print(result["speedup"], result["largest_difference_nats"], flush=True)
    used = memory("fixed-50k", count=1000, repeats=5)
    figures = {"against": "lm-eval HFLM.loglikelihood", "time": result, "memory": used}
    write_record("likelihood", figures, output_dir=arguments.output_dir)


if __name__ == "__main__":
    main()
