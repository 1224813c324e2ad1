"""SFT and DPO against plain scripts of TRL: the same model, adapter, rows and steps.

    python benchmarks/speed/weight_methods.py            # about 10 minutes on 2 cores
    python benchmarks/speed/weight_methods.py --quick    # seconds; writes no record

`steps` is what the trainer itself runs, `whole` is fitting from contrasts to tensors against a script from rows to a trained
adapter. `dpo reference once` is DPO over three epochs with the reference's likelihoods computed before training, which is the
default there, against asking the reference at every step.
"""

from __future__ import annotations

import argparse
import copy
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).parent))

from measure import interleaved, write_record
from models import build, text

TARGET = 0.97
MEASURED = ("1M",)  # where whatever is done besides the model shows most
LORA = {"lora_r": 16, "lora_alpha": 16.0, "lora_dropout": 0.0}


def contrasts(size: str, *, rows: int) -> list[Any]:
    """Pairs of the lengths of ParaDetox's, roughly: a prompt of 8 tokens, continuations of 8 to 24."""
    from detox import Contrast

    rng = random.Random(0)
    return [
        Contrast(
            id=str(number),
            prompt=text(rng, 8, size),
            safe=(" " + text(rng, rng.randint(8, 24), size),),
            toxic=(" " + text(rng, rng.randint(8, 24), size),),
        )
        for number in range(rows)
    ]


def timed_training(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of all trainings that `work` starts, and of `work`."""
    from transformers import Trainer

    spent = [0.0]
    train = Trainer.train

    def timed(self: Any, *args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        try:
            return train(self, *args, **kwargs)
        finally:
            spent[0] += time.perf_counter() - started

    Trainer.train = timed
    started = time.perf_counter()
    try:
        work()
    finally:
        Trainer.train = train
    return spent[0], time.perf_counter() - started


def arms(size: str, *, rows: int, batch: int, folder: str) -> dict[str, Callable[[], object]]:
    """Fits of ours, and scripts as TRL's documentation has them."""
    from peft import LoraConfig
    from transformers import PrinterCallback
    from transformers.utils import logging
    from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

    from detox import DPO, SFT, LanguageModel
    from detox.data.projections import preference_dataset, sft_dataset

    logging.set_verbosity_error()
    model, tokenizer = build(size)
    lm = LanguageModel(model, tokenizer)
    pairs = contrasts(size, rows=rows)
    common: dict[str, Any] = {
        "output_dir": folder, "per_device_train_batch_size": batch, "num_train_epochs": 1, "learning_rate": 1e-5, "max_length": 64,
        "bf16": False, "gradient_checkpointing": False, "use_cpu": True, "report_to": "none", "save_strategy": "no",
        "disable_tqdm": True, "logging_steps": 1, "seed": 0, "dataloader_pin_memory": False,
    }  # fmt: skip

    def script(trainer: Any, config: Any, data: Any, **more: Any) -> Callable[[], object]:
        def run() -> None:
            lora = LoraConfig(
                r=LORA["lora_r"],
                lora_alpha=LORA["lora_alpha"],
                lora_dropout=0.0,
                target_modules="all-linear",
                task_type="CAUSAL_LM",
            )
            made = trainer(
                copy.deepcopy(model).train(), args=config(**common, **more), train_dataset=data(pairs),
                processing_class=copy.deepcopy(tokenizer), peft_config=lora,
            )  # fmt: skip
            made.remove_callback(PrinterCallback)
            made.train()

        return run

    ours = {"batch_size": batch, "learning_rate": 1e-5, "max_length": 64, **LORA}
    dpo = {**ours, "warmup_steps": 0, "pairing": "zip"}
    ask_again = {"precompute_ref_log_probs": False}
    return {
        "sft script": script(SFTTrainer, SFTConfig, sft_dataset),
        "sft": lambda: SFT(epochs=1, end_token="add", trainer_args={"lr_scheduler_type": "linear"}, **ours).fit(lm, pairs),
        "dpo script": script(
            DPOTrainer, DPOConfig, preference_dataset, optim="rmsprop", weight_decay=0.05, lr_scheduler_type="constant_with_warmup"
        ),
        "dpo": lambda: DPO(epochs=1, **dpo).fit(lm, pairs),
        "dpo reference asked again": lambda: DPO(epochs=3, trainer_args=ask_again, **dpo).fit(lm, pairs),
        "dpo reference once": lambda: DPO(epochs=3, **dpo).fit(lm, pairs),
    }  # fmt: skip


def compare(size: str, arguments: argparse.Namespace, *, pairs: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        made = arms(size, rows=arguments.rows, batch=arguments.batch, folder=folder)
        found: dict[str, Any] = {}
        for name, baseline, ours, part, target in (
            ("sft steps", "sft script", "sft", 0, TARGET),
            ("dpo steps", "dpo script", "dpo", 0, TARGET),
            ("sft whole", "sft script", "sft", 1, None),
            ("dpo whole", "dpo script", "dpo", 1, None),
            ("dpo reference once", "dpo reference asked again", "dpo reference once", 1, None),
        ):
            timed = [lambda work=made[arm], part=part: timed_training(work)[part] for arm in (baseline, ours)]
            found[name] = interleaved(*timed, pairs=pairs)
            if target is not None:
                found[name] |= {"target": target, "met": found[name]["speedup"]["high"] >= target}
            print(size, name, found[name]["speedup"], flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tiny model and two pairs; writes no record")
    parser.add_argument("--output_dir", default="benchmarks/results/speed")
    parser.add_argument("--rows", type=int, default=96, help="pairs that are trained on once")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--pairs", type=int, default=21)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rows, arguments.batch = 8, 4
        print({name: timed["speedup"]["median"] for name, timed in compare("tiny", arguments, pairs=2).items()})
        return
    figures: dict[str, Any] = {"against": "TRL", "run": {"rows": arguments.rows, "batch": arguments.batch}, "sizes": {}}
    for size in MEASURED:
        figures["sizes"][size] = compare(size, arguments, pairs=arguments.pairs)
    write_record("weight_methods", figures, output_dir=arguments.output_dir)


if __name__ == "__main__":
    main()
