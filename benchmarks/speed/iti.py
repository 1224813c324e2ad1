"""What ITI costs: generation with it applied, and at strength 0, against generation without.

    python benchmarks/speed/iti.py            # about 5 minutes on 2 cores
    python benchmarks/speed/iti.py --others   # beside plain hooks and pyvene; minutes
    python benchmarks/speed/iti.py --quick    # seconds; writes no record

A method is applied once and generates many times, so applying it is not timed. `speedup` is plain time over steered time, so
1 / 1.03 = 0.971 is the target of the applied arm.

And against what one would write without detox, at the same heads and shifts: plain forward hooks, with transformers' own
`generate` on left-padded prompts; and pyvene's collection of hooks, where pyvene is installed. Both sample the same number of tokens.
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

from detox.models.edits import state_of

# How many times slower steered generation may be, by size and strength.
SIZES = ("fixed-4k", "fixed-50k")
TARGETS = {"1": 1.03, "0": 1.00}


def prepared(size: str, *, count: int, num_heads: int) -> tuple[Any, Any, list[str], Any]:
    """A model, ITI fitted on it, prompts, and how they are continued."""
    from detox import ITI, Contrast, LanguageModel, Sampling

    rng = random.Random(0)
    lm = LanguageModel(*build(size))
    prompts = [text(rng, rng.randint(6, 20), size) for _ in range(count)]
    contrasts = [Contrast(id=str(i), prompt=text(rng, 4, size), safe=(" w1 w2",), toxic=(" w3 w4",)) for i in range(20)]
    iti = ITI(num_heads=num_heads).fit(lm, contrasts)
    return lm, iti, prompts, Sampling(max_new_tokens=20, top_p=0.9, num_return_sequences=5)


def compare(size: str, *, count: int, pairs: int, num_heads: int) -> dict[str, Any]:
    lm, iti, prompts, sampling = prepared(size, count=count, num_heads=num_heads)
    arms = {}
    for strength, target in TARGETS.items():

        def steered(strength: float = float(strength)) -> float:
            with iti.applied(lm, strength=strength) as safe:
                started = time.perf_counter()
                safe.generate(prompts, sampling)
                return time.perf_counter() - started

        result = interleaved(lambda: lm.generate(prompts, sampling), steered, pairs=pairs)
        slower = {
            key: 1 / result["speedup"][other] for key, other in (("median", "median"), ("low", "high"), ("high", "low"))
        }
        arms[f"strength {strength}"] = {**result, "slowdown": slower, "target": target, "met": slower["low"] <= target}
    return {"heads_shifted": num_heads, "prompts": count, **arms}


def beside_others(size: str, *, count: int, pairs: int, num_heads: int) -> dict[str, Any]:
    """Steered generation of others against ours; `speedup` is their time over ours, so 1 is the target."""
    import torch

    lm, iti, prompts, sampling = prepared(size, count=count, num_heads=num_heads)
    lm.tokenizer.padding_side = "left"
    encoded = lm.tokenizer(prompts, return_tensors="pt", padding=True)
    options = {
        "max_new_tokens": sampling.max_new_tokens, "min_new_tokens": sampling.max_new_tokens, "do_sample": True, "top_p": sampling.top_p,
        "top_k": 0, "num_return_sequences": sampling.num_return_sequences, "pad_token_id": lm.tokenizer.pad_token_id or 0,
    }  # fmt: skip

    def plain() -> float:
        with iti.applied(lm, strength=1.0):
            shifts = dict(state_of(lm.model).edits[-1].input_shifts)
        handles = [
            lm.model.get_submodule(site).register_forward_pre_hook(lambda m, a, v=vector: (a[0] + v, *a[1:]))
            for site, vector in shifts.items()
        ]
        started = time.perf_counter()
        with torch.no_grad():
            lm.model.generate(**encoded, **options)
        seconds = time.perf_counter() - started
        for handle in handles:
            handle.remove()
        return seconds

    def ours() -> float:
        with iti.applied(lm, strength=1.0) as safe:
            started = time.perf_counter()
            safe.generate(prompts, sampling)
            return time.perf_counter() - started

    found = {
        "plain hooks": {
            **(result := interleaved(plain, ours, pairs=pairs)),
            "target": 1.0,
            "met": result["speedup"]["high"] >= 1,
        }
    }
    with_pyvene = pyvene_generation(lm, iti, encoded, options)
    if with_pyvene is not None:
        result = interleaved(with_pyvene, ours, pairs=pairs)
        found["pyvene"] = {**result, "target": 1.0, "met": result["speedup"]["high"] >= 1}
    return found


def pyvene_generation(lm: Any, iti: Any, encoded: Any, options: dict[str, Any]) -> Any:
    """Generation by an IntervenableModel that adds the same shifts at the same sites, at all positions; None without pyvene."""
    try:
        import pyvene
    except ImportError:
        return None
    with iti.applied(lm, strength=1.0):
        shifts = dict(state_of(lm.model).edits[-1].input_shifts)

    def adding(vector: Any) -> Any:
        return lambda base, source=None: base + vector

    configs = [{"component": f"{site}.input", "intervention": adding(vector)} for site, vector in shifts.items()]
    steered = pyvene.IntervenableModel(configs, model=lm.model)

    def run() -> float:
        started = time.perf_counter()
        steered.generate(dict(encoded), unit_locations=None, intervene_on_prompt=True, **options)
        return time.perf_counter() - started

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tiny model and two pairs; writes no record")
    parser.add_argument("--others", action="store_true", help="beside plain hooks, and pyvene where it is installed")
    parser.add_argument("--output_dir", default="benchmarks/results/speed")
    arguments = parser.parse_args()
    if arguments.quick:
        print(compare("tiny", count=3, pairs=2, num_heads=3)["strength 1"]["slowdown"])
        print({name: arm["speedup"] for name, arm in beside_others("tiny", count=3, pairs=2, num_heads=3).items()})
        return
    if arguments.others:
        found = beside_others("fixed-4k", count=16, pairs=21, num_heads=24)
        print({name: arm["speedup"] for name, arm in found.items()})
        record = {"against": "plain hooks with transformers' generate, and pyvene", "size": "fixed-4k", **found}
        write_record("iti-others", record, output_dir=arguments.output_dir)
        return
    sizes = {}
    for size in SIZES:
        sizes[size] = compare(size, count=16, pairs=21, num_heads=24)
        print(size, {name: arm["slowdown"] for name, arm in sizes[size].items() if name.startswith("s")}, flush=True)
    write_record("iti", {"against": "generation without ITI", "sizes": sizes}, output_dir=arguments.output_dir)


if __name__ == "__main__":
    main()
