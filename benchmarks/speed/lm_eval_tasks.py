"""lm-eval's tasks, whole, through the adapter against lm-eval's own HFLM: the same task objects, questions and evaluator.

    python benchmarks/speed/lm_eval_tasks.py            # about 10 minutes on 2 cores; needs pip install -e ".[lm-eval]"
    python benchmarks/speed/lm_eval_tasks.py --quick    # seconds; writes no record

One task of each form that the ten tasks of the harness have, with questions of their usual length: four answers after a context
(ARC, HellaSwag, PIQA, SIQA, OpenBookQA, TruthfulQA), letters after a long one (MMLU), yes and no after a passage (BoolQ), what
follows a blank (WinoGrande), a last word (LAMBADA); besides, whole documents and generation up to a stop string. HFLM has the batch
size of 1, 8 and 32 at which it is fastest for that form. Our arm also makes the intervals; HFLM's makes none.
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

BATCHES = (1, 8, 32)
FORMS = ("answers", "letters", "yes_no", "blank", "last_word", "documents", "until")
TARGET = 1.0
RTOL = 1e-3  # of a whole task's metric, against HFLM's


def make_task(form: str, count: int, size: str) -> Any:
    """A task of `count` questions of random words."""
    from datasets import Dataset
    from lm_eval.api.task import ConfigurableTask

    from detox.data.records import Cloze, MultipleChoice
    from detox.evaluation.lm_eval_local import task_of

    rng = random.Random(form)

    def words(low: int, high: int) -> str:
        return text(rng, rng.randint(low, high), size)

    if form in ("documents", "until"):
        rows = [{"text": words(60, 480) if form == "documents" else words(20, 80)} for _ in range(count)]
        stop = [f"w{i}" for i in range(0, 4000, 100)]  # one word in a hundred
        settings: dict[str, Any] = {"output_type": "generate_until", "doc_to_text": "text", "doc_to_target": "text"}
        settings["generation_kwargs"] = {"until": stop, "max_gen_toks": 24, "do_sample": False}
        settings["metric_list"] = [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}]
        if form == "documents":
            measure = {"metric": "bits_per_byte", "aggregation": "bits_per_byte", "higher_is_better": False}
            settings = {
                "output_type": "loglikelihood_rolling",
                "doc_to_text": "",
                "doc_to_target": "text",
                "metric_list": [measure],
            }
        made = Dataset.from_list(rows)
        settings |= {
            "custom_dataset": lambda **_: {"test": made},
            "test_split": "test",
            "num_fewshot": 0,
            "metadata": {"version": 1},
        }
        return ConfigurableTask(config={"task": form, **settings})
    if form == "last_word":
        return task_of(form, [Cloze(id=str(i), context=words(50, 90), target=" " + words(1, 1)) for i in range(count)])
    if form == "blank":
        return task_of(form, [
            MultipleChoice(id=str(i), context="", contexts=(words(6, 12), words(6, 12)), choices=(" " + words(4, 10),) * 2, answer=0)
            for i in range(count)
        ])  # fmt: skip
    lengths, choices = {"answers": ((12, 45), 4), "letters": ((60, 140), 4), "yes_no": ((90, 150), 2)}[form]
    fixed = [f" w{i}" for i in range(choices)]
    return task_of(form, [
        MultipleChoice(
            id=str(i), context=words(*lengths), answer=0,
            choices=tuple(" " + words(1, 9) for _ in range(choices)) if form == "answers" else tuple(fixed),
        )
        for i in range(count)
    ])  # fmt: skip


def hflm_arm(model: Any, tokenizer: Any, task: Any, batch_size: int) -> Any:
    from lm_eval.evaluator import evaluate
    from lm_eval.models.huggingface import HFLM

    harness = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size, device="cpu")
    asked = {"tasks": {task.config.task: task}, "groups": {}, "group_map": {}}
    return lambda: evaluate(harness, asked, bootstrap_iters=0)["results"][task.config.task]


def detox_arm(model: Any, tokenizer: Any, task: Any) -> Any:
    from detox import LanguageModel
    from detox.evaluation.lm_eval_tasks import LoadedTasks, run_tasks

    name = task.config.task
    loaded = LoadedTasks({name: task}, {name: (name,)}, {}, {name: "made"})
    lm = LanguageModel(model, tokenizer)
    return lambda: run_tasks(lm, loaded).metrics


def compare(form: str, size: str, *, count: int, pairs: int) -> dict[str, Any]:
    model, tokenizer = build(size)
    task = make_task(form, count, size)
    seconds = {}
    for batch in BATCHES:
        arm = hflm_arm(model, tokenizer, task, batch)
        started = time.perf_counter()
        theirs = arm()
        seconds[str(batch)] = time.perf_counter() - started
    best = int(min(seconds, key=seconds.__getitem__))
    ours = detox_arm(model, tokenizer, task)
    differences = [
        float(abs(estimate.value - theirs[f"{metric.split('/')[2]},none"]) / max(1.0, abs(estimate.value)))
        for metric, estimate in ours().items()
        if metric.startswith(f"lm_eval/{form}/")
    ]
    result = interleaved(hflm_arm(model, tokenizer, task, best), ours, pairs=pairs)
    return {
        "questions": count,
        "hflm_seconds_by_batch": seconds,
        "hflm_batch": best,
        **result,
        "target": TARGET,
        "met": result["speedup"]["high"] >= TARGET,
        "largest_relative_difference": max(differences),
        "equal": max(differences) <= RTOL,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tiny model and two pairs; writes no record")
    parser.add_argument("--output_dir", default="benchmarks/results/speed")
    parser.add_argument("--pairs", type=int, default=21)
    parser.add_argument("--sizes", nargs="+", default=["1M"])
    parser.add_argument("--forms", nargs="+", default=list(FORMS), choices=FORMS)
    arguments = parser.parse_args()
    import logging

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    if arguments.quick:
        for form in FORMS:
            found = compare(form, "tiny", count=6, pairs=2)
            print(form, found["speedup"], found["equal"])
        return
    sizes: dict[str, dict[str, Any]] = {}
    for size in arguments.sizes:
        sizes[size] = {}
        for form in arguments.forms:
            count = {"1M": 60, "10M": 24}.get(size, 24) // (2 if form in ("documents", "until") else 1)
            sizes[size][form] = compare(form, size, count=count, pairs=arguments.pairs)
            print(size, form, sizes[size][form]["speedup"], sizes[size][form]["equal"], flush=True)
    figures = {"against": "lm-eval evaluate with HFLM at its best batch", "sizes": sizes}
    write_record("lm_eval_tasks", figures, output_dir=arguments.output_dir)


if __name__ == "__main__":
    main()
