"""A training step of contrastive perplexity against the straightforward version: time, peak memory, loss and gradients.

    python benchmarks/speed/contrastive.py            # about 15 minutes on 2 cores
    python benchmarks/speed/contrastive.py --quick    # seconds; writes no record

Straightforward: all sequences of a batch padded together, one forward, float32 log-softmax of all logits kept for backward. Ours:
sorted by length, a few sequences at a time, likelihoods computed in the head and again going back (`GroupTrainer`). The same model,
LoRA adapter and batch: groups of 5 safe and 7 toxic paraphrases, AdamW. Lengths are those of ParaDetox (words x 1.3), or equal, where
sorting gains nothing. Memory is that of fresh processes, which run this file with `--arm`, less that of the same processes
without the steps.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).parent))

from measure import extra_memory, interleaved, peak_mib, write_record
from models import SIZES, build

TARGETS = {"speedup": 1.3, "memory": 0.4}
SAFE, TOXIC = 5, 7
ARMS = ("straightforward", "ours")
LENGTHS = ("paradetox", "equal")


def lengths_of(kind: str) -> list[int]:
    """Tokens of sequences, to be drawn from."""
    if kind == "equal":
        return [24]
    from detox.data import Contrast, load_as
    from detox.errors import MissingData

    try:
        pairs = load_as(Contrast, "paradetox", split="train", limit=2000, source="local")
        return [max(2, round(1.3 * len(text.split()))) for one in pairs for text in (*one.safe, *one.toxic)]
    except MissingData:
        rng = random.Random(0)  # as ParaDetox: a tenth below 7, half below 13, a tenth above 23
        return [max(4, round(rng.lognormvariate(2.56, 0.45))) for _ in range(2000)]


def make_groups(kind: str, size: str, groups: int) -> list[dict[str, Any]]:
    rng, known = random.Random(0), lengths_of(kind)
    vocabulary = SIZES[size][3]

    def pair() -> tuple[list[int], list[int]]:
        return [1], [rng.randrange(3, vocabulary) for _ in range(rng.choice(known))]

    return [{"safe": [pair() for _ in range(SAFE)], "toxic": [pair() for _ in range(TOXIC)]} for _ in range(groups)]


def build_arms(arguments: argparse.Namespace, size: str, folder: str) -> dict[str, Callable[[], Any]]:
    """Loss of either arm, on one model and batch."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import TrainingArguments

    from detox.contrastive_loss import contrastive_perplexity_loss
    from detox.detoxifiers.group_trainer import GroupTrainer, collate

    base, _ = build(size)
    base.config.use_cache = False
    torch.manual_seed(0)
    config = LoraConfig(r=16, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    model = get_peft_model(base, config).train()
    batch = collate(make_groups(arguments.lengths, size, arguments.groups), fill=0)
    settings = TrainingArguments(output_dir=folder, use_cpu=True, report_to="none")
    trainer = GroupTrainer(
        model, args=settings, train_dataset=[], alpha=1.0, form="signed", phi="nll", anchor="none", anchor_weight=0.0,
        sequences_at_once=arguments.sequences_at_once,
    )  # fmt: skip

    def straightforward() -> Any:
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        logs = torch.log_softmax(logits.float(), -1)
        present = batch["targets"] != -100
        nll = -logs.gather(-1, batch["targets"].clamp(min=0).unsqueeze(-1)).squeeze(-1).masked_fill(~present, 0.0)
        mean = (nll.sum(-1) / present.sum(-1)).reshape(arguments.groups, SAFE + TOXIC)
        yes = torch.ones(mean.shape, dtype=torch.bool)
        return contrastive_perplexity_loss(
            mean[:, :SAFE], mean[:, SAFE:], yes[:, :SAFE], yes[:, SAFE:], alpha=1.0, form="signed"
        )

    return {
        "straightforward": straightforward,
        "ours": lambda: trainer.compute_loss(model, batch),
        "model": lambda: model,
    }


def steps(losses: dict[str, Callable[[], Any]]) -> dict[str, Callable[[], None]]:
    import torch

    leaves = [p for p in losses["model"]().parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(leaves, lr=1e-6)

    def step_of(loss: Callable[[], Any]) -> Callable[[], None]:
        def step() -> None:
            loss().backward()
            optimizer.step()
            optimizer.zero_grad()

        return step

    return {name: step_of(losses[name]) for name in ARMS}


def agreement(losses: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """How far losses and gradients of the two are apart."""
    import torch

    leaves = [p for p in losses["model"]().parameters() if p.requires_grad]
    found = {name: (losses[name]().detach(), torch.autograd.grad(losses[name](), leaves)) for name in ARMS}
    apart = [float((a - b).abs().max()) for a, b in zip(*(found[name][1] for name in ARMS), strict=True)]
    return {"loss": float(abs(found["ours"][0] - found["straightforward"][0])), "gradient": max(apart)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tiny model and two pairs; writes no record")
    parser.add_argument("--output_dir", default="benchmarks/results/speed")
    parser.add_argument("--groups", type=int, default=4)
    parser.add_argument("--sequences_at_once", type=int, default=12)
    parser.add_argument("--pairs", type=int, default=21)
    parser.add_argument("--repeats", type=int, default=3, help="processes for each peak of memory")
    inner = parser.add_argument_group("one arm of the memory measurement")
    inner.add_argument("--arm", choices=ARMS)
    inner.add_argument("--size", default="fixed-50k", choices=SIZES)
    inner.add_argument("--lengths", default="paradetox", choices=LENGTHS)
    inner.add_argument("--no_work", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.arm:
            step = steps(build_arms(arguments, arguments.size, folder))[arguments.arm]
            for _ in range(0 if arguments.no_work else 2):
                step()
            print(peak_mib())
            return
        size = "tiny" if arguments.quick else "fixed-50k"
        figures: dict[str, Any] = {
            "against": "all sequences padded together, float32 log-softmax kept",
            "batch": {
                "groups": arguments.groups,
                "safe": SAFE,
                "toxic": TOXIC,
                "sequences_at_once": arguments.sequences_at_once,
            },
            "sizes": {},
        }
        for kind in LENGTHS:
            arguments.lengths = kind
            losses = build_arms(arguments, size, folder)
            timed = steps(losses)
            row = interleaved(timed["straightforward"], timed["ours"], pairs=2 if arguments.quick else arguments.pairs)
            row["apart"] = agreement(losses)
            asked = ["--size", size, "--lengths", kind, "--groups", str(arguments.groups)]
            asked += ["--sequences_at_once", str(arguments.sequences_at_once)]
            for name in ARMS:
                row[f"memory_{name}"] = extra_memory(
                    __file__, ["--arm", name, *asked], repeats=1 if arguments.quick else arguments.repeats
                )
            base, ours = (row[f"memory_{name}"]["extra_mib"] for name in ARMS)
            row["memory_ratio"] = ours / base if base > 0 else None
            if kind == "paradetox" and not arguments.quick:
                row |= {
                    "targets": TARGETS,
                    "met": {
                        "speedup": row["speedup"]["high"] >= TARGETS["speedup"],
                        "memory": row["memory_ratio"] is not None and row["memory_ratio"] <= TARGETS["memory"],
                    },
                }
            print(kind, row["speedup"], row["memory_ratio"], row["apart"], flush=True)
            figures["sizes"][kind] = row
        if not arguments.quick:
            write_record("contrastive", figures, output_dir=arguments.output_dir)


if __name__ == "__main__":
    main()
