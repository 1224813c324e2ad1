"""What labelling costs beyond the scorer: documents to spans, and files to files, against scoring the same sentences.

    python benchmarks/speed/annotation.py            # about 6 minutes on 2 cores
    python benchmarks/speed/annotation.py --quick    # seconds; writes no record

The baseline scores all sentences, cut and ready, in one call: nothing that labels with this scorer can be faster. `speedup` is
its time over that of labelling, so .90 is the target: at least 90 % of the scorer's own throughput.

    memory      documents in a list to documents with spans in a list
    files       a JSON Lines file to a folder of Arrow shards, in one process; the scorer is loaded anew in every run, which the
                seconds given as `load` show
    classifier  as `memory`, with a transformer of MiniLM's size (6 layers of 384, random weights) and less text

`memory` and `files` are scored by profanity, bags of words: about 20 microseconds a sentence, the least there is to hide behind.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).parent))

from measure import interleaved, write_record
from models import build

TARGET = 0.90
SETS = ("clean_gov", "clean_fiction", "toxic_spans")


def texts(characters: int) -> tuple[list[str], str]:
    """Texts of about so many characters, and where they are from: the catalogue, or words drawn at random where it is not."""
    from detox.data import load_as
    from detox.data.records import Document
    from detox.errors import MissingData

    rng = random.Random(0)
    try:
        pool = [one.text for name in SETS for one in load_as(Document, name, split="train", source="local")]
        rng.shuffle(pool)
        origin = " + ".join(SETS)
    except MissingData:
        pool = [
            " ".join(f"w{int(rng.paretovariate(0.7)) % 5000}" + "." * (rng.random() < 0.06) for _ in range(800))
            for _ in range(characters // 4000 + 1)
        ]
        origin = "random words"
    found: list[str] = []
    length = 0
    while pool and length < characters:
        found.append(pool.pop())
        length += len(found[-1])
    return found, origin


def classifier() -> Any:
    """A transformer of the size of the smaller ones in use; what it says is noise, what it costs is not."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    from detox.scorers import ClassifierScorer

    _, tokenizer = build("1M")
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536,
        pad_token_id=tokenizer.pad_token_id, num_labels=2, id2label={0: "safe", 1: "toxic"}, problem_type="multi_label_classification",
    )  # fmt: skip
    torch.manual_seed(0)
    tokenizer.model_max_length = 512
    return ClassifierScorer(
        BertForSequenceClassification(config), tokenizer, name="random-minilm", toxic_labels=["toxic"]
    )


def compare(*, characters: int, pairs: int) -> dict[str, Any]:
    from detox.data.records import Document
    from detox.pretraining import AnnotationSettings, SentenceAnnotator, annotate, annotate_files, sentences
    from detox.scorers import load_scorer, score_texts

    given, origin = texts(characters)
    documents = [Document(id=str(index), text=text) for index, text in enumerate(given)]
    scorer = load_scorer("profanity")
    cut = [one.text[start:end] for one in documents for start, end in sentences(one.text)]
    annotator = SentenceAnnotator(scorer, toxic_above=0.9, middle_above=0.1)
    settings = AnnotationSettings(scorer="profanity", toxic_above=0.9, middle_above=0.1)

    def score() -> None:
        score_texts(scorer, cut)

    def in_memory() -> None:
        for _ in annotate(documents, annotator):
            pass

    few = documents[: max(1, len(documents) // 100)]
    few_cut = [one.text[start:end] for one in few for start, end in sentences(one.text)]
    heavy = classifier()
    labeller = SentenceAnnotator(heavy, toxic_above=0.9, middle_above=0.1)
    slow = interleaved(
        lambda: score_texts(heavy, few_cut), lambda: list(annotate(few, labeller)), pairs=pairs
    )  # the same sentences, in the same order

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "texts.jsonl"
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in given), encoding="utf-8")

        def to_files() -> float:
            started = time.perf_counter()
            annotate_files(path, Path(folder) / "out", settings)
            seconds = time.perf_counter() - started
            shutil.rmtree(Path(folder) / "out")
            return seconds

        arms = {"memory": in_memory, "files": to_files}
        results = {"classifier": slow, **{name: interleaved(score, arm, pairs=pairs) for name, arm in arms.items()}}
        started = time.perf_counter()
        load_scorer("profanity")
        load = time.perf_counter() - started
    return {
        "texts": origin,
        "documents": len(documents),
        "sentences": len(cut),
        "sentences_for_the_classifier": len(few_cut),
        "characters": sum(map(len, given)),
        "seconds_to_load_the_scorer": round(load, 4),
        "sizes": {
            name: {**one, "target": TARGET, "met": one["speedup"]["median"] >= TARGET} for name, one in results.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="little text and two pairs; writes no record")
    parser.add_argument("--output_dir", default="benchmarks/results/speed")
    arguments = parser.parse_args()
    figures = compare(characters=50_000 if arguments.quick else 5_000_000, pairs=2 if arguments.quick else 21)
    for name, arm in figures["sizes"].items():
        print(name, arm["speedup"], flush=True)
    if not arguments.quick:
        write_record(
            "annotation",
            {"against": "the scorer alone on the same sentences", **figures},
            output_dir=arguments.output_dir,
        )


if __name__ == "__main__":
    main()
