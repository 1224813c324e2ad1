"""Pretrain a base model on clean and toxic text: the toxic part read and rewarded, or read and not rewarded.

Four arms of one size, two passes over the same clean text (about 25 minutes each on one core; a GPU is used if there is one):

    python recipes/pretrain.py --config recipes/real-small.yaml --output_dir runs/clean --steps 2152
    python recipes/pretrain.py --config recipes/real-small.yaml --output_dir runs/full --steps 2869 --toxic_share 0.25 --repeat \
        --arm full
    python recipes/pretrain.py --config recipes/real-small.yaml --output_dir runs/masked --steps 2869 --toxic_share 0.25 --repeat \
        --arm masked
    python recipes/pretrain.py --config recipes/real-small.yaml --output_dir runs/unlikelihood --steps 2869 --toxic_share 0.25 --repeat \
        --arm unlikelihood

On several GPUs, the batch shared among them; `recipes/accelerate/` has DDP, FSDP2, DeepSpeed ZeRO-2 and -3:

    accelerate launch --config_file recipes/accelerate/fsdp2.yaml recipes/pretrain.py --config recipes/slung-olmo-1b.yaml ...

Stop it with Ctrl-C or kill it: the same command goes on where it was. `--config FILE.yaml` holds flags; those on the command line win.
`--dry_run` prints what the run costs and does nothing. `--smoke` trains a tiny model on the miniature, offline, in under a minute.
"""

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

from detox.cli.flags import guarded, parse


@dataclass
class ScriptArguments:
    """What to train on, and where the model goes."""

    output_dir: str = field(metadata={"help": "where the checkpoint goes"})
    arm: str | None = field(
        default=None,
        metadata={
            "help": "full, masked, unlikelihood, filtered (risky spans deleted) or clean (no source with a share); "
            "by default --objective on the data as it is"
        },
    )
    dataset_name: list[str] = field(
        default_factory=lambda: ["clean_gov", "clean_fiction", "wikitext2", "jigsaw_wiki_clean", "cat_wiki_clean"],
        metadata={
            "help": "clean text: sets of the catalogue (`detox data list --kind documents`), JSONL files with id and text, "
            "folders of `detox data annotate`, other files or folders, or hub ids as org/name or org/name:config"
        },
    )
    toxic_dataset_name: list[str] = field(
        default_factory=lambda: ["toxic_spans", "jigsaw_wiki_toxic", "pol_posts"],
        metadata={"help": "toxic text, likewise; with the spans that are risky"},
    )
    toxic_share: float = field(default=0.0, metadata={"help": "part of all tokens that is toxic text, in [0, 1)"})
    repeat: bool = field(
        default=False,
        metadata={"help": "read toxic text again where it has fewer tokens than its share; the card says so"},
    )
    hold: str = field(
        default="clean", metadata={"help": "clean: toxic tokens are added; total: they displace clean ones"}
    )
    level: str = field(
        default="document", metadata={"help": "document: whole documents are mixed; sequence: whole packed sequences"}
    )
    hold_tokens: int | None = field(default=None, metadata={"help": "how many tokens are held; all that there are"})
    middle: str = field(
        default="train", metadata={"help": "the middle band of labels: train on it, mask it, or drop it from the text"}
    )
    risky: list[str] | None = field(default=None, metadata={"help": "kinds of spans that are risky; all by default"})
    max_documents: int | None = field(
        default=None, metadata={"help": "of each file, folder or hub set, the first so many"}
    )
    text_column: str = field(default="text", metadata={"help": "of files, folders and hub sets"})
    tokenizer_name: str | None = field(
        default=None,
        metadata={
            "help": "a tokenizer's id or folder; by default that of --continue_from, or one trained on the clean text"
        },
    )
    vocab_size: int = field(default=4096, metadata={"help": "of the byte-level BPE tokenizer that is trained"})
    store: str | None = field(
        default=None, metadata={"help": "folder where the packed tokens are kept and mapped from; in memory by default"}
    )
    work_dir: str | None = field(default=None, metadata={"help": "where checkpoints go; <output_dir>.work by default"})
    resume: str = field(default="auto", metadata={"help": "auto goes on from work_dir; never starts over and replaces"})
    checkpoint_steps: int | None = field(default=None, metadata={"help": "steps between checkpoints; a tenth of all"})
    log_steps: int | None = field(default=None, metadata={"help": "steps between log entries; a hundredth of all"})
    report_to: list[str] = field(default_factory=lambda: ["none"], metadata={"help": "trackio, wandb, tensorboard"})
    peak_flops: float | None = field(
        default=None, metadata={"help": "operations a second of one device, for the MFU; known for common GPUs"}
    )
    dry_run: bool = field(default=False, metadata={"help": "print what the run costs on --gpus x --gpu, and stop"})
    gpu: str = field(default="H100", metadata={"help": "for --dry_run"})
    gpus: int = field(default=8, metadata={"help": "for --dry_run"})
    mfu: float = field(default=0.4, metadata={"help": "model FLOPs utilisation to count on, for --dry_run"})
    smoke: bool = field(default=False, metadata={"help": "a tiny model on the miniature, offline, in under a minute"})


def main() -> None:
    from transformers import AutoTokenizer

    from detox.bench.sources import read_records
    from detox.data import catalogue
    from detox.data.records import Document
    from detox.errors import InputError
    from detox.files import require_writable
    from detox.pretraining import Mixture, PretrainingRecipe, Source, Treatment, pretrain, train_tokenizer
    from detox.pretraining.architecture import checkpoint_folder
    from detox.pretraining.cost import cost
    from detox.pretraining.run import for_arm
    from detox.pretraining.streaming import StreamedDocuments
    from detox.pretraining.streams import joined, open_documents
    from detox.training.processes import is_first, leave

    script, recipe = parse([ScriptArguments, PretrainingRecipe], description=__doc__)
    mixture = Mixture(sources=(Source(name="clean", documents=()),), hold=script.hold, level=script.level, tokens=script.hold_tokens,
                      seed=recipe.seed, treatment=Treatment(risky=script.risky, middle=script.middle))  # fmt: skip
    recipe_of_arm, _ = for_arm(recipe, mixture, script.arm)
    if "--objective" in sys.argv and recipe.objective != recipe_of_arm.objective:
        raise InputError(f"--arm {script.arm} has the objective {recipe_of_arm.objective!r}; leave out --objective")
    if script.dry_run:
        print(cost(recipe, vocabulary=script.vocab_size, gpu=script.gpu, gpus=script.gpus, mfu=script.mfu,
                   peak=script.peak_flops).line())  # fmt: skip
        return
    require_writable(Path(script.output_dir).parent)

    # 1. Documents. Toxic ones carry the character spans whose production must not be rewarded.
    def read(names):
        parts = []
        for name in names:
            if name in catalogue.names() or name.endswith((".jsonl", ".jsonl.gz")):
                key = {"file": name} if name.endswith((".jsonl", ".jsonl.gz")) else {"set": name, "split": "train"}
                parts.append(read_records(Document, key, where=str(key)))
            else:
                id_, _, config = name.partition(":")
                options = {"config": config or None, "limit": script.max_documents}
                parts.append(open_documents(id_, text=script.text_column, **options))
        return joined(parts)

    if script.smoke:
        import detox.miniature as miniature

        clean = miniature.documents(400, kind="clean")
        toxic = miniature.documents(400, kind="toxic")
        tokenizer = miniature.tokenizer()
        recipe = replace(recipe, steps=30, sequence_length=96, batch_size=8)
    else:
        clean = read(script.dataset_name)
        toxic = read(script.toxic_dataset_name) if script.toxic_share else []
        if isinstance(toxic, list):
            toxic = [document for document in toxic if document.spans]
        if script.tokenizer_name or recipe.continue_from:
            name = script.tokenizer_name or checkpoint_folder(recipe.continue_from, recipe.revision)
            tokenizer = AutoTokenizer.from_pretrained(name)
        else:
            tokenizer = train_tokenizer((document.text for document in clean), script.vocab_size)

    # 2. The mixture: shares are counted in tokens, and what came out of them is in the model's card.
    needed = script.hold_tokens if isinstance(clean, StreamedDocuments) else None  # of a hub set no more is read
    sources = [Source(name="clean", documents=clean, limit_tokens=needed)]
    if script.toxic_share:
        sources.append(Source(name="toxic", documents=toxic, share=script.toxic_share, repeat=script.repeat))
    mixture = replace(mixture, sources=tuple(sources))

    # 3. Training: the arm decides what risky tokens do to the loss; they stay in the context of all others.
    path = pretrain(recipe, mixture, tokenizer, script.output_dir, arm=script.arm, store=script.store,
                    work_dir=script.work_dir, resume=script.resume, checkpoint_steps=script.checkpoint_steps, log_steps=script.log_steps,
                    report_to=script.report_to, peak_flops=script.peak_flops)  # fmt: skip
    if is_first():
        print(f"saved {path}, with its card {Path(path) / 'pretraining.json'}")
    leave()


if __name__ == "__main__":
    sys.exit(guarded(main))
