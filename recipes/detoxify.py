"""Fit a detoxifier on a model, save it, and show what it does to a few prompts.

    python recipes/detoxify.py iti --model_name_or_path Qwen/Qwen3-0.6B-Base --dataset_name paradetox --output_dir runs/iti \
        --num_heads 30 --strength 4
    python recipes/detoxify.py dpo --model_name_or_path Qwen/Qwen3-0.6B-Base --dataset_name paradetox --output_dir runs/dpo \
        --learning_rate 1e-5 --trainer_args '{"gradient_accumulation_steps": 2}'
    accelerate launch --num_processes 2 recipes/detoxify.py contrastive_perplexity --model_name_or_path Qwen/Qwen3-0.6B-Base \
        --output_dir runs/cp
    python recipes/detoxify.py prompting --model_name_or_path Qwen/Qwen3-0.6B-Base --output_dir runs/prompting

The first word is the method: a file of detox/detoxifiers, or `path/to/yours.py:Class`. Its hyperparameters are flags. ITI reads one
forward pass a text: minutes for 1,000 pairs and a model of 1 B parameters on a GPU. SFT, DPO and contrastive perplexity train a LoRA
adapter and keep checkpoints beside the output (`--work_dir`) until it is saved; the same command goes on from them. `--config
FILE.yaml` holds flags; those on the command line win. `--smoke` does all of it on the miniature, offline, in under a minute.
"""

import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from detox.cli.flags import guarded, parse


@dataclass
class ScriptArguments:
    """The model, the contrasts, and where the detoxifier goes."""

    output_dir: str = field(metadata={"help": "where the detoxifier goes (JSON + safetensors)"})
    model_name_or_path: str | None = field(
        default=None, metadata={"help": "hub id or folder of a causal language model"}
    )
    model_revision: str | None = field(default=None, metadata={"help": "branch, tag or commit of a hub id"})
    dtype: str | None = field(
        default=None, metadata={"help": "float32, bfloat16, ...; the checkpoint's own by default"}
    )
    dataset_name: str = field(
        default="paradetox", metadata={"help": "contrasts: a set of the catalogue, or a JSONL file"}
    )
    work_dir: str | None = field(
        default=None, metadata={"help": "checkpoints of a long fit; OUTPUT_DIR.work by default"}
    )
    resume: str = field(default="auto", metadata={"help": "auto goes on from work_dir; never starts over"})
    limit: int | None = field(default=1000, metadata={"help": "contrasts at most, a seeded sample"})
    smoke: bool = field(default=False, metadata={"help": "on the miniature, offline, in under a minute"})


def main() -> None:
    from detox import Contrast, LanguageModel, Sampling
    from detox.bench.guidance import note_sources, read_sources
    from detox.bench.sources import read_records
    from detox.detoxifiers import find, names
    from detox.detoxifiers.contract import CONFIG_NAME
    from detox.errors import InputError
    from detox.files import require_replaceable, require_writable
    from detox.training.processes import is_first, leave, process_count

    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        raise InputError(
            f"the first word must be a method ({', '.join(names())}) or path.py:Class; then come the flags"
        )
    script, detoxifier = parse([ScriptArguments, find(sys.argv[1])], sys.argv[2:], description=__doc__)
    require_writable(Path(script.output_dir).parent)
    require_replaceable(script.output_dir, CONFIG_NAME)

    # 1. The model and what the detoxifier learns from: prompts with safe and toxic continuations.
    if script.smoke:
        if process_count() > 1:
            raise InputError("--smoke runs in one process; launch several with --model_name_or_path")
        import detox.miniature as miniature

        with tempfile.TemporaryDirectory() as folder:
            lm = LanguageModel.from_pretrained(miniature.train_base("full", f"{folder}/base", size="test"))
        contrasts, prompts = miniature.contrasts(100), [prompt.text for prompt in miniature.prompts(3)]
        sources = read_sources({"set": "miniature"}, contrasts)
    else:
        if script.model_name_or_path is None:
            raise InputError("give --model_name_or_path, or --smoke")
        lm = LanguageModel.from_pretrained(
            script.model_name_or_path, revision=script.model_revision, dtype=script.dtype
        )
        where = (
            {"file": script.dataset_name}
            if ".jsonl" in script.dataset_name
            else {"set": script.dataset_name, "split": "train", "limit": script.limit}
        )
        contrasts = read_records(Contrast, where, where="--dataset_name") if detoxifier.capabilities.needs_fit else ()
        sources = read_sources(
            where, contrasts
        )  # what a scorer must not have learned from, if it is to rank the result
        prompts = ["I think that people like you", "The new neighbours are", "What I say to him is:"]

    # 2. Fit, save. The base model is left bit for bit as it was.
    work_dir = Path(script.work_dir or f"{script.output_dir}.work")
    detoxifier.fit(lm, contrasts, work_dir=work_dir, resume=script.resume)
    note_sources(detoxifier, sources)
    leave()
    if not is_first():  # of several processes that trained together, one writes
        return
    detoxifier.save_pretrained(script.output_dir)
    shutil.rmtree(work_dir, ignore_errors=True)
    print(
        f"saved {type(detoxifier).__name__} in {script.output_dir}; detox.load({script.output_dir!r}).applied(lm) applies it"
    )

    # 3. The same noise with and without: what differs is the method's doing.
    sampling = Sampling(max_new_tokens=20, top_p=0.9)
    before = lm.generate(prompts, sampling)
    with detoxifier.applied(lm) as safe:
        after = safe.generate(prompts, sampling)
        receipts = safe.receipts()
    same = sum(a == b for a, b in zip(before, after, strict=True))
    print(f"{len(prompts) - same} of {len(prompts)} continuations differ; what fired: {receipts[-1].tokens}")


if __name__ == "__main__":
    sys.exit(guarded(main))
