"""What mixing costs a training run: choosing, shuffling, packing and fetching the sequences of a step against the step itself.

    python benchmarks/speed/mixing.py            # about 3 minutes on 2 cores
    python benchmarks/speed/mixing.py --quick    # seconds; writes no record

A mixture of three sources is packed into a store from their tokens, and its sequences are fetched from memory maps as a Trainer
asks for them. `overhead` is what that takes for the sequences of one step, over a step of a small model (forward, backward,
AdamW) on them, both timed in turns. Tokenising is done once for all seeds, shares and arms and stands apart: `with_tokenising` is
the overhead of a run that pays for all of it, once.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).parent))

from measure import PAIRS, median_interval, write_record
from models import build, text

SIZES = ("1M", "10M")
TARGET = 0.02  # of a training step


def make_sources(size: str, documents: int) -> tuple[Any, ...]:
    """Clean prose and talk, and documents of which a part is risky."""
    from detox.data.records import Document, Span
    from detox.pretraining import Source

    rng = random.Random(0)

    def some(name: str, count: int, *, risky: bool = False) -> list[Document]:
        texts = [text(rng, rng.randint(20, 400), size) for _ in range(count)]
        return [
            Document(id=f"{name}-{i}", text=one, spans=(Span(0, len(one) // 2),) if risky else ())
            for i, one in enumerate(texts)
        ]

    return (
        Source(name="prose", documents=some("prose", documents)),
        Source(name="talk", documents=some("talk", documents // 2)),
        Source(name="toxic", documents=some("toxic", documents, risky=True), share=0.25, repeat=True),
    )


def seconds_of(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def train_step(model: Any, optimizer: Any, batch: dict[str, Any]) -> None:
    tokens = batch["input_ids"]
    model(input_ids=tokens, labels=tokens).loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def compare(
    size: str, *, documents: int, batch_size: int, sequence_length: int, level: str, pairs: int
) -> dict[str, Any]:
    """Overhead of one size of model and one level of mixing."""
    import torch

    from detox.pretraining import Mixture, PretrainingRecipe
    from detox.pretraining.feeding import EndlessOrder

    model, tokenizer = build(size)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    sources = make_sources(size, documents)
    recipe = PretrainingRecipe(steps=1000, batch_size=batch_size, sequence_length=sequence_length)
    seconds: dict[str, list[float]] = {"step": [], "mix": [], "fetch": []}
    with tempfile.TemporaryDirectory() as folder:

        def pack(seed: int) -> Any:
            mixture = Mixture(sources=sources, level=level, seed=seed)  # type: ignore[arg-type]
            return mixture.pack(tokenizer, sequence_length=sequence_length, store=folder)

        first = seconds_of(lambda: pack(10**6))
        for index in range(-1, pairs):  # one to warm up
            packed = pack(index + 1)  # its tables are open and its pages in memory before it is timed
            again = Path(folder) / "packed"
            for done in again.iterdir():
                for file in done.iterdir():
                    file.unlink()
                done.rmdir()
            mixed = seconds_of(lambda index=index: pack(index + 1))
            data = EndlessOrder(packed, recipe)
            rows = [list(range(at * batch_size, (at + 1) * batch_size)) for at in range(8)]
            fetched = seconds_of(lambda data=data, rows=rows: [data.__getitems__(one) for one in rows]) / len(rows)
            batch = data.__getitems__(rows[0])
            stepped = seconds_of(lambda batch=batch: train_step(model, optimizer, batch))
            if index >= 0:
                seconds["mix"].append(mixed * batch_size / len(packed))
                seconds["fetch"].append(fetched)
                seconds["step"].append(stepped)
            print(f"\r{size} {level}: {max(index + 1, 0)} of {pairs}", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
        tokenising = max(0.0, first - statistics.median(seconds["mix"]) * len(packed) / batch_size)
    ratios = [(m + f) / s for m, f, s in zip(seconds["mix"], seconds["fetch"], seconds["step"], strict=True)]
    low, high = median_interval(ratios)
    median_step = statistics.median(seconds["step"])
    return {
        "tokens": int(packed.tokens.size),
        "batch_size": batch_size,
        "sequence_length": sequence_length,
        "level": level,
        "pairs": pairs,
        "overhead": {"median": statistics.median(ratios), "low": low, "high": high},
        "with_tokenising": statistics.median(ratios) + tokenising * batch_size / len(packed) / median_step,
        "mixed_tokens_per_second": round(batch_size * sequence_length / statistics.median(seconds["mix"])),
        "target": TARGET,
        "met": high <= TARGET,
        "median_seconds": {name: statistics.median(values) for name, values in seconds.items()},
        "seconds_a_step": {name: [round(value, 7) for value in values] for name, values in seconds.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tiny model and two pairs; writes no record")
    parser.add_argument("--output_dir", default="benchmarks/results/speed")
    arguments = parser.parse_args()
    if arguments.quick:
        for level in ("document", "sequence"):
            tiny = compare("tiny", documents=60, batch_size=4, sequence_length=32, level=level, pairs=2)
            print(level, tiny["overhead"])
        return
    sizes = {
        size: {
            level: compare(size, documents=2000, batch_size=16, sequence_length=128, level=level, pairs=PAIRS)
            for level in ("document", "sequence")
        }
        for size in SIZES
    }
    figures = {"against": "a training step of the same model on the same sequences", "sizes": sizes}
    write_record("mixing", figures, output_dir=arguments.output_dir)


if __name__ == "__main__":
    main()
