"""A full training step with the fused selective losses against transformers' own causal-LM loss: time and memory.

    python benchmarks/speed/loss.py            # about 20 minutes on 2 cores
    python benchmarks/speed/loss.py --quick    # seconds; writes no record

Forward, backward and AdamW of one model on one batch: `model(input_ids, labels=...).loss` against the hidden states of the same
model and `fused_selective_loss`. A share of the tokens is risky, in spans, as comments with risky sentences are. Memory is that of
fresh processes, which run this file with `--arm`, less that of the same processes without the steps: it holds gradients, the
optimizer's state, activations and logits, and not the weights. The naive unlikelihood of the logits, log(1 - p) by autograd, and
`selective_loss` of logits stand beside.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).parent))

from measure import extra_memory, interleaved, peak_mib, write_record
from models import SIZES, build

FUSED = ("full", "masked", "unlikelihood")
BESIDE = ("logits-unlikelihood", "naive-unlikelihood")  # no targets
ARMS = ("transformers", *FUSED, *BESIDE)
TARGETS = {"fixed-50k": {"speedup": 1.1, "memory": 0.65}, "fixed-4k": {"speedup": 1.0}}
SPAN = 16  # tokens of a risky span


def make_batch(size: str, *, sequences: int, length: int, risky: float, seed: int = 0) -> dict[str, Any]:
    """Random tokens; of every `SPAN / risky` one span is risky."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(3, SIZES[size][3], (sequences, length), generator=generator)
    spans = torch.rand(sequences, -(-length // SPAN), generator=generator).argsort(-1)
    risk = (spans < round(risky * spans.shape[1])).repeat_interleave(SPAN, -1)[:, :length]
    return {"input_ids": tokens, "risk": risk}


def step_of(arm: str, model: Any, optimizer: Any, batch: dict[str, Any]) -> Callable[[], None]:
    """One training step, whose gradients are freed at the end."""
    import torch
    from torch.nn.functional import pad

    from detox.fused_loss import fused_selective_loss
    from detox.losses import selective_loss

    tokens, risk = batch["input_ids"], pad(batch["risk"][:, 1:], (0, 1), value=False)
    targets = pad(tokens[:, 1:], (0, 1), value=-100)

    def naive() -> torch.Tensor:
        log_p = torch.log_softmax(model(input_ids=tokens).logits, -1)
        log_p = log_p.gather(-1, targets.clamp(min=0).unsqueeze(-1)).squeeze(-1)
        losses = torch.where(risk, -torch.log1p(-log_p.exp().clamp(max=1 - 1e-6)), -log_p)
        return losses[targets >= 0].mean()

    def of_logits() -> torch.Tensor:
        sums = selective_loss(model(input_ids=tokens).logits, targets, risk, "unlikelihood")
        return sums.total / sums.count

    def fused() -> torch.Tensor:
        hidden = model.base_model(input_ids=tokens).last_hidden_state
        present = targets >= 0
        scale = 1 / (present & ~risk if arm == "masked" else present).sum()
        return fused_selective_loss(
            hidden, model.lm_head.weight, targets, risk, arm, likelihood_weight=scale, unlikelihood_weight=scale
        ).total

    def transformers() -> torch.Tensor:
        return model(input_ids=tokens, labels=tokens).loss

    losses = {"transformers": transformers, "logits-unlikelihood": of_logits, "naive-unlikelihood": naive}
    loss = losses.get(arm, fused)

    def step() -> None:
        loss().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def build_step(arm: str, arguments: argparse.Namespace, size: str) -> tuple[Callable[[str], Callable[[], None]], Any]:
    """The step of this arm, and a function that makes one of another on the same model and batch."""
    import torch

    model, _ = build(size)
    model.train()
    model.config.use_cache = False
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    batch = make_batch(size, sequences=arguments.sequences, length=arguments.length, risky=arguments.risky)
    return lambda other: step_of(other, model, optimizer, batch), step_of(arm, model, optimizer, batch)


def compare(size: str, arguments: argparse.Namespace, *, pairs: int) -> dict[str, Any]:
    make, baseline = build_step("transformers", arguments, size)
    found = {}
    for arm in FUSED + (() if size == "fixed-4k" else BESIDE):
        found[arm] = interleaved(baseline, make(arm), pairs=pairs)
        if arm in FUSED and (target := TARGETS.get(size, {}).get("speedup")):
            found[arm] |= {"target": target, "met": found[arm]["speedup"]["high"] >= target}
        print(size, arm, found[arm]["speedup"], flush=True)
    return found


def memory(size: str, arguments: argparse.Namespace, *, repeats: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for arm in ARMS:
        asked = ["--arm", arm, "--size", size, "--risky", str(arguments.risky)]
        asked += ["--sequences", str(arguments.sequences), "--length", str(arguments.length)]
        found[arm] = extra_memory(__file__, asked, repeats=repeats)
        if arm != "transformers" and found["transformers"]["extra_mib"] > 0:
            found[arm]["ratio"] = found[arm]["extra_mib"] / found["transformers"]["extra_mib"]
            if arm in FUSED and (target := TARGETS.get(size, {}).get("memory")):
                found[arm] |= {"target": target, "met": found[arm]["ratio"] <= target}
        print(size, arm, found[arm]["extra_mib"], found[arm].get("ratio"), flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tiny model and two pairs; writes no record")
    parser.add_argument("--output_dir", default="benchmarks/results/speed")
    parser.add_argument("--sequences", type=int, default=16)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--risky", type=float, default=0.2, help="share of the tokens")
    parser.add_argument("--pairs", type=int, default=21)
    parser.add_argument("--repeats", type=int, default=5, help="processes for each peak of memory")
    inner = parser.add_argument_group("one arm of the memory measurement")
    inner.add_argument("--arm", choices=ARMS)
    inner.add_argument("--size", default="fixed-50k", choices=SIZES)
    inner.add_argument("--no_work", action="store_true")
    arguments = parser.parse_args()
    if arguments.arm:
        _, step = build_step(arguments.arm, arguments, arguments.size)
        for _ in range(0 if arguments.no_work else 2):  # the second has the optimizer's state from the start
            step()
        print(peak_mib())
        return
    if arguments.quick:
        arguments.sequences, arguments.length = 2, 32
        print({arm: timed["speedup"]["median"] for arm, timed in compare("tiny", arguments, pairs=2).items()})
        memory("tiny", arguments, repeats=1)
        return
    shape = {name: getattr(arguments, name) for name in ("sequences", "length", "risky")}
    figures = {
        "against": "transformers' causal-LM loss",
        "optimizer": "AdamW",
        "batch": shape,
        "sizes": {},
        "memory": {},
    }
    for size in TARGETS:
        figures["sizes"][size] = compare(size, arguments, pairs=arguments.pairs)
    figures["memory"] = {"fixed-50k": memory("fixed-50k", arguments, repeats=arguments.repeats)}
    write_record("loss", figures, output_dir=arguments.output_dir)


if __name__ == "__main__":
    main()
