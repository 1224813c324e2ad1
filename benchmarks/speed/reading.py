"""Reading all heads at the last token of each text: against the loops that are published, and against the bare forward pass.

    python benchmarks/speed/reading.py            # about 2 minutes on one free core; needs pip install pyvene for two of the arms
    python benchmarks/speed/reading.py --quick    # seconds; writes no record

Arms that are timed beside ours:

    hooks       one text at a time through the causal-LM module, a hook on each output projection that keeps its input: what the
                code of ITI did with baukit, without what else that code kept
    published   what the code of ITI (likenneth/honest_llama, get_activations) does now: pyvene's IntervenableModel around a
                collector a layer, one text at a time, with output_hidden_states
    collect     pyvene's own CollectIntervention at the last token, one text at a time
    forward     the model without its output head, on the same batches, nothing read

`speedup` is their time over ours, so .95 is the target beside `forward`: at least 95 % of its throughput. Time is that of the
process (CPU seconds) on one thread, which a neighbour's load moves least, and which fewer pairs are enough for. `memory` is the
peak of a fresh process after some texts and after five times as many, with the result in memory and in a mapped file, whose pages
count where they are touched; `more_mib` is what the second reading added, `more_result_mib` what its result is larger by.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).parent))

from measure import cpu_seconds, interleaved, peak_mib, write_record
from models import SIZES, build, text

TARGETS = {"hooks": 5.0, "published": 5.0, "collect": 5.0, "forward": 0.95}
TEXTS = {"1M": 100, "10M": 40}
PAIRS = 9
MEMORY = {"texts": (1200, 6000), "size": "1M"}


def comments(count: int, size: str) -> list[str]:
    """Texts of 5 to 60 words, most of them short, as comments are."""
    rng = random.Random(0)
    return [text(rng, min(60, 5 + int(rng.expovariate(1 / 15))), size) for _ in range(count)]


def arms(lm: Any, texts: list[str]) -> dict[str, Callable[[], Any]]:
    import torch

    from detox.models.activations import read_heads
    from detox.models.architectures import attention_outputs
    from detox.models.reading import batches
    from detox.models.tokenization import pad_rows

    model, outputs = lm.model, attention_outputs(lm.model)
    rows = [lm.tokenizer(line)["input_ids"] for line in texts]

    def one_by_one(read: Callable[[Any], Any]) -> Any:
        with torch.no_grad():
            return torch.stack([read(torch.tensor([lm.tokenizer(line)["input_ids"]])) for line in texts])

    def through_hooks(ids: Any) -> Any:
        kept: dict[int, Any] = {}
        handles = [
            o.module.register_forward_pre_hook(lambda module, args, layer=o.layer: kept.__setitem__(layer, args[0]))
            for o in outputs
        ]
        model(input_ids=ids)
        for handle in handles:
            handle.remove()
        return torch.stack([kept[o.layer][0, -1] for o in outputs])

    def forward() -> None:
        with torch.no_grad():
            for batch in batches(model, rows):
                ids, mask = pad_rows([rows[i] for i in batch], side="right", fill=0, device=model.device)
                model.base_model(input_ids=ids, attention_mask=mask.long(), use_cache=False)

    found = {"ours": lambda: read_heads(lm, texts, use_baukit=False), "hooks": lambda: one_by_one(through_hooks)}
    return {**found, **pyvene_arms(model, len(outputs), one_by_one), "forward": forward}


def pyvene_arms(model: Any, layers: int, one_by_one: Callable[..., Any]) -> dict[str, Callable[[], Any]]:
    """The arms that need pyvene; none where it is not installed."""
    try:
        import pyvene
    except ImportError:
        print("pyvene is not installed: without the arms published and collect", file=sys.stderr)
        return {}
    import torch

    class Collector:
        def __init__(self) -> None:
            self.states: list[Any] = []

        def __call__(self, base: Any, source: Any) -> Any:
            self.states.append(base[0, -1].detach().clone())
            return base

    def component(layer: int) -> str:
        return f"model.layers[{layer}].self_attn.o_proj.input"

    collectors = [Collector() for _ in range(layers)]
    config = [
        {"component": component(layer), "intervention": lambda *args, c=collector, **kwargs: c(*args, **kwargs)}
        for layer, collector in enumerate(collectors)
    ]
    around = pyvene.IntervenableModel(config, model)

    def published(ids: Any) -> Any:
        output = around({"input_ids": ids, "output_hidden_states": True})[1]
        if (
            output.hidden_states
        ):  # pyvene 0.1.8 takes transformers' own hooks for them off, which spares this arm the work
            torch.stack(output.hidden_states).squeeze().numpy()
        heads = torch.stack([torch.stack(collector.states) for collector in collectors]).squeeze(1)
        for collector in collectors:
            collector.states = []
        return heads

    own = [
        {"component": component(layer), "unit": "pos", "intervention_type": pyvene.CollectIntervention}
        for layer in range(layers)
    ]
    collecting = pyvene.IntervenableModel(own, model)

    def collect(ids: Any) -> Any:
        (_, states), _ = collecting({"input_ids": ids}, unit_locations={"base": ids.shape[1] - 1})
        return torch.stack([state.flatten() for state in states])

    return {"published": lambda: one_by_one(published), "collect": lambda: one_by_one(collect)}


def compare(size: str, *, count: int, pairs: int) -> dict[str, Any]:
    from detox import LanguageModel

    lm = LanguageModel(*build(size))
    found = arms(lm, comments(count, size))
    ours = found.pop("ours")
    result: dict[str, Any] = {"texts": count}
    expected = ours().flatten(2)
    for name, arm in found.items():
        print(size, name, file=sys.stderr)
        read = arm()
        difference = None if read is None else float((read - expected).abs().max())
        timed = interleaved(cpu_seconds(arm), cpu_seconds(ours), pairs=pairs)
        met = timed["speedup"]["high"] >= TARGETS[name]
        result[name] = {**timed, "largest_difference": difference, "target": TARGETS[name], "met": met}
    return result


def memory(place: str) -> dict[str, Any]:
    """Peaks of a fresh process after reading some texts and five times as many."""
    size, counts = str(MEMORY["size"]), MEMORY["texts"]
    hidden, layers, *_ = SIZES[size]
    done = subprocess.run([sys.executable, __file__, "--arm", place], capture_output=True, text=True, check=True)
    few, many = (float(line) for line in done.stdout.split())
    result = (counts[1] - counts[0]) * layers * hidden * 4 / 2**20
    return {"texts": counts, "peaks_mib": [few, many], "more_mib": many - few, "more_result_mib": round(result, 1)}


def work(place: str) -> None:
    from detox import LanguageModel
    from detox.models.activations import read_heads

    size = str(MEMORY["size"])
    lm = LanguageModel(*build(size))
    with tempfile.TemporaryDirectory() as folder:
        for count in MEMORY["texts"]:
            out = None if place == "memory" else Path(folder) / f"{count}.npy"
            read_heads(lm, comments(count, size), use_baukit=False, out=out)
            print(round(peak_mib(), 1))


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tiny model and two pairs; writes no record")
    parser.add_argument("--arm", choices=["memory", "file"], help=argparse.SUPPRESS)
    parser.add_argument("--output_dir", default="benchmarks/results/speed")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.arm:
        work(arguments.arm)
        return
    if arguments.quick:
        result = compare("tiny", count=20, pairs=2)
        print({name: arm["speedup"] for name, arm in result.items() if name != "texts"})
        return
    sizes = {size: compare(size, count=count, pairs=PAIRS) for size, count in TEXTS.items()}
    try:
        pyvene = version("pyvene")
    except PackageNotFoundError:
        pyvene = None
    figures = {
        "against": "published loops, pyvene's and the bare forward pass",
        "pyvene": pyvene,
        "clock": "CPU seconds of the process, one thread",
        "sizes": sizes,
        "memory": {place: memory(place) for place in ("memory", "file")},
    }
    write_record("reading", figures, output_dir=arguments.output_dir)


if __name__ == "__main__":
    main()
