"""How good the filters of `detox contrasts make` are, on pairs that people wrote, half of them made bad on purpose.

    python benchmarks/filters.py            # about 3 minutes on 2 cores; needs the data sets (DETOX_DATA)
    python benchmarks/filters.py --quick    # 100 pairs a set; writes no record

ParaDetox and APPDIA are toxic sentences rewritten by people. Half of the held-out pairs are made bad in five ways
(`detox.data.making.judging.PLANTED`); precision and recall are those of finding them. The thresholds are the defaults, which were
chosen by looking at 600 pairs of each set's training split. Toxicity is judged by the word list of the data directory and by a
scorer trained here on Perspective's scores; neither learned from the pairs, and the headline of the harness, profanity, has no say.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

SETS = ("paradetox", "appdia")


def scorers(folder: str) -> tuple[Any, ...]:
    from detox.bench.scorers import PERSPECTIVE_SETS, scored_records
    from detox.scorers import load_scorer, train_default

    trained, _ = train_default(folder, {name: scored_records(name, split="train") for name in PERSPECTIVE_SETS})
    return load_scorer("wordlist"), trained


def measure(*, limit: int | None, share: float, seed: int) -> dict[str, Any]:
    from detox.data import load_as
    from detox.data.contrasts import Contrast, digest
    from detox.data.making import Filters, load_embedder, require_other_than
    from detox.data.making.judging import PLANTED, judge_filters, plant_bad_pairs
    from detox.scorers import load_scorer

    with tempfile.TemporaryDirectory() as folder:
        both = scorers(f"{folder}/scorer")
    embedder = load_embedder()
    headline = load_scorer("profanity").card
    settings = {
        "default": Filters(scorers=both, embedder=embedder),
        "toxic_by all": Filters(scorers=both, embedder=embedder, toxic_by="all"),
        "min_similarity .6": Filters(scorers=both, embedder=embedder, min_similarity=0.6),
        "without similarity": Filters(scorers=both, embedder=None),
    }
    results: dict[str, Any] = {}
    for name in SETS:
        contrasts = load_as(Contrast, name, split="heldout", limit=limit)
        pairs = plant_bad_pairs(contrasts, share=share, seed=seed)
        results[name] = {
            "split": "heldout",
            "sha256": digest(contrasts),
            "settings": {key: judge_filters(pairs, filters) for key, filters in settings.items()},
        }
    return {
        "share_planted": share,
        "seed": seed,
        "planted": PLANTED,
        "filters": settings["default"].describe(),
        "headline": {"scorer": headline.name, "shared_training_data": require_other_than(headline, both)},
        "sets": results,
    }


def show(figures: dict[str, Any]) -> None:
    for name, of_set in figures["sets"].items():
        for key, result in of_set["settings"].items():
            print(f"\n{name}, {key}: {result['pairs']}")
            for title, row in {**result["filters"], "all": result["all"]}.items():
                precision = row["precision"] or {"value": float("nan")}
                kinds = "  ".join(f"{kind} {value:.2f}" for kind, value in row["recall_by_kind"].items())
                print(
                    f"  {title:12s} precision {precision['value']:.3f}  recall {row['recall']['value']:.3f}  "
                    f"good dropped {row['good_dropped']['value']:.3f}   {kinds}"
                )
            called = "; ".join(
                f"{scorer}: " + ", ".join(f"{side} {share['value']:.3f}" for side, share in sides.items())
                for scorer, sides in result["called_toxic"].items()
            )
            print(f"  bad among the kept: {result['bad_kept']['value']:.3f}; called toxic of the good: {called}")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="100 pairs a set; no record")
    parser.add_argument("--share", type=float, default=0.5, help="of pairs that are made bad")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output_dir", default=str(Path(__file__).parent / "results" / "filters"))
    arguments = parser.parse_args(argv)
    from detox.bench.cells import provenance
    from detox.files import require_writable, write_json

    if not arguments.quick:
        require_writable(arguments.output_dir)
    started = time.perf_counter()
    figures = measure(limit=100 if arguments.quick else None, share=arguments.share, seed=arguments.seed)
    show(figures)
    if not arguments.quick:
        seconds = round(time.perf_counter() - started, 1)
        about = {"benchmark": "filters", "python": platform.python_version(), "seconds": seconds}
        write_json(Path(arguments.output_dir) / "record.json", {**about, "provenance": provenance(), **figures})
        print(f"\nrecord.json is in {arguments.output_dir}")
    return 0


if __name__ == "__main__":
    from detox.cli.flags import guarded

    sys.exit(guarded(main))
