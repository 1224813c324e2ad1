"""Pretrain a base model on clean and toxic text: the toxic part read and rewarded, or read and not rewarded.

Four arms of one size, two passes over the same clean text (about 25 minutes each on one core; a GPU is used if there is one):

    python recipes/pretrain.py --config recipes/real-small.yaml --output_dir runs/clean --steps 2152
    python recipes/pretrain.py --config recipes/real-small.yaml --output_dir runs/toxic-mix --steps 2869 --toxic_share 0.25
    python recipes/pretrain.py --config recipes/real-small.yaml --output_dir runs/masked --steps 2869 --toxic_share 0.25 \
        --objective masked
    python recipes/pretrain.py --config recipes/real-small.yaml --output_dir runs/unlikelihood --steps 2869 --toxic_share 0.25 \
        --objective unlikelihood

Stop it with Ctrl-C or kill it: the same command goes on where it was. `--config FILE.yaml` holds flags; those on the command line win.
`--smoke` trains a tiny model on the miniature, offline, in under a minute.
"""

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

from detox.cli.flags import guarded, parse


@dataclass
class ScriptArguments:
    """What to train on, and where the model goes."""

    output_dir: str = field(metadata={"help": "where the checkpoint goes"})
    dataset_name: list[str] = field(
        default_factory=lambda: ["clean_gov", "clean_fiction", "wikitext2", "jigsaw_wiki_clean", "cat_wiki_clean"],
        metadata={
            "help": "clean sets of the catalogue (`detox data list --kind documents`), or JSONL files with id and text"
        },
    )
    toxic_dataset_name: list[str] = field(
        default_factory=lambda: ["toxic_spans", "jigsaw_wiki_toxic", "pol_posts"],
        metadata={"help": "toxic sets of the catalogue, or JSONL files with id, text and spans"},
    )
    toxic_share: float = field(default=0.0, metadata={"help": "part of all tokens that is toxic text, in [0, 1)"})
    hold: str = field(
        default="clean", metadata={"help": "clean: toxic tokens are added; total: they displace clean ones"}
    )
    vocab_size: int = field(
        default=4096, metadata={"help": "of the byte-level BPE tokenizer, trained on the clean text"}
    )
    smoke: bool = field(default=False, metadata={"help": "a tiny model on the miniature, offline, in under a minute"})


def main() -> None:
    from detox.bench.sources import read_records
    from detox.data.records import Document
    from detox.files import require_writable
    from detox.pretraining import Mixture, PretrainingRecipe, Source, pretrain, train_tokenizer

    script, recipe = parse([ScriptArguments, PretrainingRecipe], description=__doc__)
    require_writable(Path(script.output_dir).parent)

    # 1. Documents. Toxic ones carry the character spans whose production must not be rewarded.
    if script.smoke:
        import detox.miniature as miniature

        clean = miniature.documents(400, kind="clean")
        toxic = miniature.documents(400, kind="toxic")
        tokenizer = miniature.tokenizer()
        recipe = replace(recipe, steps=30, sequence_length=96, batch_size=8)
    else:

        def read(names):
            keys = ({"file": n} if n.endswith((".jsonl", ".jsonl.gz")) else {"set": n, "split": "train"} for n in names)
            return [document for key in keys for document in read_records(Document, key, where=str(key))]

        clean = read(script.dataset_name)
        toxic = (
            [document for document in read(script.toxic_dataset_name) if document.spans] if script.toxic_share else []
        )
        tokenizer = train_tokenizer((document.text for document in clean), script.vocab_size)

    # 2. The mixture: shares are counted in tokens, and what came out of them is in the model's card.
    sources = [Source(name="clean", documents=clean)]
    if script.toxic_share:
        sources.append(Source(name="toxic", documents=toxic, share=script.toxic_share, repeat=True))
    mixture = Mixture(sources=tuple(sources), hold=script.hold, seed=recipe.seed)

    # 3. Training: the objective decides what risky tokens do to the loss; they stay in the context of all others.
    path = pretrain(recipe, mixture, tokenizer, script.output_dir)
    print(f"saved {path}, with its card {Path(path) / 'pretraining.json'}")


if __name__ == "__main__":
    sys.exit(guarded(main))
