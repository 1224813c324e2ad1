"""What labelling costs beyond the scorer: documents to spans, and files to files, against scoring the same sentences.

    python benchmarks/speed/annotation.py            # about 3 minutes on 2 cores
    python benchmarks/speed/annotation.py --quick    # seconds; writes no record

The baseline scores all sentences, cut and ready, in one call: nothing that labels with this scorer can be faster. `speedup` is
its time over that of labelling, so .90 is the target: at least 90 % of the scorer's own throughput.

    memory   documents in a list to documents with spans in a list
    files    a JSON Lines file to a folder of Arrow shards, in one process; the scorer is loaded anew in every run, which the
             seconds given as `load` show
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
        results = {name: interleaved(score, arm, pairs=pairs) for name, arm in arms.items()}
        started = time.perf_counter()
        load_scorer("profanity")
        load = time.perf_counter() - started
    return {
        "texts": origin,
        "documents": len(documents),
        "sentences": len(cut),
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
