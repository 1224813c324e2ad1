"""Throughput of SelectiveLossTrainer against transformers' own Trainer: same model, same batches, the likelihood of every token.

    python benchmarks/speed/trainer.py            # about 10 minutes on 2 cores
    python benchmarks/speed/trainer.py --quick    # seconds; writes no record

What is timed is a training run of some steps as the Trainer itself times it, with the loss of logits (what the trainer costs) and
with the loss in the head (what it gives back). Small models, where whatever is done besides the model would show.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).parent))

from measure import interleaved, write_record
from models import SIZES, build

TARGET = 0.97
MEASURED = ("1M", "10M")


def arms(size: str, folder: str, *, steps: int, batch: int, length: int) -> dict[str, Callable[[], float]]:
    """A run of each trainer on one model, which gives the seconds it took."""
    import torch
    from transformers import PrinterCallback, Trainer, TrainingArguments
    from transformers.utils import logging

    from detox.pretraining import SelectiveLossTrainer
    from detox.pretraining.trainer import collate

    logging.set_verbosity_error()
    model, _ = build(size)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(3, SIZES[size][3], (steps * batch, length), generator=generator)
    plain = [{"input_ids": row, "labels": row} for row in tokens]
    labelled = [example | {"risk": torch.zeros(length, dtype=torch.bool)} for example in plain]
    arguments: dict[str, Any] = {
        "output_dir": folder,
        "max_steps": steps,
        "per_device_train_batch_size": batch,
        "learning_rate": 1e-5,
        "logging_steps": steps,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "remove_unused_columns": False,
    }

    def run(kind: Any, data: list[Any], **options: Any) -> Callable[[], float]:
        def once() -> float:
            given = TrainingArguments(**arguments)
            trainer = kind(model, given, train_dataset=data, data_collator=collate, **options)
            trainer.remove_callback(PrinterCallback)
            return float(trainer.train().metrics["train_runtime"])

        return once

    return {
        "transformers": run(Trainer, plain),
        "logits": run(SelectiveLossTrainer, labelled, objective="full", fused=False),
        "fused": run(SelectiveLossTrainer, labelled, objective="full", fused=True),
    }


def compare(size: str, arguments: argparse.Namespace, *, pairs: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        made = arms(size, folder, steps=arguments.steps, batch=arguments.batch, length=arguments.length)
        found = {}
        for arm in ("logits", "fused"):
            found[arm] = interleaved(made["transformers"], made[arm], pairs=pairs)
            found[arm] |= {"target": TARGET, "met": found[arm]["speedup"]["high"] >= TARGET}
            print(size, arm, found[arm]["speedup"], flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tiny model and two pairs; writes no record")
    parser.add_argument("--output_dir", default="benchmarks/results/speed")
    parser.add_argument("--steps", type=int, default=12, help="of a run")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--pairs", type=int, default=21)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.steps, arguments.batch, arguments.length = 2, 2, 16
        print({arm: timed["speedup"]["median"] for arm, timed in compare("tiny", arguments, pairs=2).items()})
        return
    shape = {name: getattr(arguments, name) for name in ("steps", "batch", "length")}
    figures: dict[str, Any] = {"against": "transformers.Trainer", "run": shape, "sizes": {}}
    for size in MEASURED:
        figures["sizes"][size] = compare(size, arguments, pairs=arguments.pairs)
    write_record("trainer", figures, output_dir=arguments.output_dir)


if __name__ == "__main__":
    main()
