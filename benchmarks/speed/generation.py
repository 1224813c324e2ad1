"""Generation of 5 x 20 tokens a prompt against lm-eval's HFLM.generate_until at its best batch size.

    python benchmarks/speed/generation.py            # about 15 minutes on 2 cores; needs pip install -e ".[lm-eval]"
    python benchmarks/speed/generation.py --quick    # seconds; writes no record

Equal work: temperature 1, top-p .9, no top-k, the same prompts and padding, the end token in both. Both draw from the same
distribution (tests/models/test_sampling.py compares ours with the sorted version).
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

from measure import interleaved, write_record
from models import build, text

BATCHES = (1, 8, 32, 128)
SAMPLES, TOKENS = 5, 20
TARGETS = {"1M": 1.8, "10M": 1.5, "50M": 1.5}


def hflm_arm(model: Any, tokenizer: Any, prompts: list[str], batch_size: int) -> Any:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    harness = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size, device="cpu")
    asked = {"until": [], "do_sample": True, "temperature": 1.0, "top_p": 0.9, "top_k": 0, "max_gen_toks": TOKENS}
    requests = [
        Instance(request_type="generate_until", doc={}, arguments=(prompt, dict(asked)), idx=i)
        for i, prompt in enumerate(prompt for prompt in prompts for _ in range(SAMPLES))
    ]
    return lambda: harness.generate_until(requests, disable_tqdm=True)


def best_batch(model: Any, tokenizer: Any, prompts: list[str]) -> tuple[int, dict[str, float]]:
    """HFLM's fastest batch size; small batches are tried on fewer prompts."""
    seconds = {}
    for batch in BATCHES:
        some = prompts if batch > 8 else prompts[: max(2, batch)]
        arm = hflm_arm(model, tokenizer, some, batch)
        arm()
        started = time.perf_counter()
        arm()
        seconds[str(batch)] = (time.perf_counter() - started) / len(some)
    return int(min(seconds, key=seconds.__getitem__)), seconds


def compare(size: str, *, count: int, pairs: int) -> dict[str, Any]:
    import torch

    from detox import LanguageModel, Sampling

    rng = random.Random(0)
    model, tokenizer = build(size)
    prompts = [text(rng, rng.randint(6, 20), size) for _ in range(count)]
    lm = LanguageModel(model, tokenizer)
    sampling = Sampling(max_new_tokens=TOKENS, temperature=1.0, top_p=0.9, num_return_sequences=SAMPLES)
    batch, tried = best_batch(model, tokenizer, prompts)
    written: dict[str, int] = {}
    harness = hflm_arm(model, tokenizer, prompts, batch)

    def baseline() -> None:
        torch.manual_seed(0)
        written["baseline"] = sum(len(answer.split()) for answer in harness())

    def ours() -> None:
        written["ours"] = sum(len(c.token_ids) for row in lm.generate(prompts, sampling) for c in row)

    result = interleaved(baseline, ours, pairs=pairs)
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "prompts": count,
        "tokens_written": written,
        "hflm_seconds_per_prompt_by_batch": tried,
        "hflm_batch": batch,
        **result,
        "target": TARGETS.get(size),
        "met": result["speedup"]["high"] >= TARGETS.get(size, 0),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tiny model and two pairs; writes no record")
    parser.add_argument("--output_dir", default="benchmarks/results/speed")
    arguments = parser.parse_args()
    if arguments.quick:
        print(compare("tiny", count=4, pairs=2)["speedup"])
        return
    sizes = {}
    for size in TARGETS:
        sizes[size] = compare(size, count=24, pairs=21)
        print(size, sizes[size]["speedup"], flush=True)
    write_record(
        "generation", {"against": "lm-eval HFLM.generate_until", "sizes": sizes}, output_dir=arguments.output_dir
    )


if __name__ == "__main__":
    main()
