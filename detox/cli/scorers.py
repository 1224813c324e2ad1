"""`detox scorers train`: a second opinion of disjoint provenance. `detox scorers check`: how far to trust a scorer."""

from __future__ import annotations

import argparse
from typing import Any


def add_to(commands: Any) -> None:
    """Add the commands of this file."""
    from detox.cli import scorers_check

    group = commands.add_parser("scorers", help="train a toxicity scorer of your own, check any")
    inner = group.add_subparsers(metavar="COMMAND", required=True)
    train = inner.add_parser("train", help="train a scorer on scored or labelled text; prints its AUC and calibration")
    train.add_argument("--output_dir", required=True, help="where the scorer goes (safetensors + JSON)")
    train.add_argument(
        "--dataset_name", nargs="+", help="sets of the catalogue, or JSONL files with id, text and score or label"
    )
    train.add_argument("--test_name", nargs="*", help="sets that it does not learn from, to test it on")
    train.add_argument(
        "--exclude_name", nargs="*", default=[], help="sets of prompts that will be evaluated: their texts are kept out"
    )
    train.add_argument("--name", default="perspective", help="name of the scorer, as used in tables")
    train.add_argument("--seed", type=int, default=0)
    train.set_defaults(run=train_command)
    scorers_check.add_to(inner)


def train_command(arguments: argparse.Namespace) -> int:
    """Train, save, print."""
    from detox.bench.scorers import PERSPECTIVE_SETS, scored_records
    from detox.bench.sources import read_records
    from detox.data.records import LabelledText
    from detox.files import require_writable
    from detox.scorers import train_default

    output = arguments.output_dir
    require_writable(output)
    names = arguments.dataset_name or list(PERSPECTIVE_SETS)
    tests = ["perspective_wiki_2k", "jigsaw_wiki_balanced"] if arguments.test_name is None else arguments.test_name
    print(f"training scorer {arguments.name!r} on {', '.join(names)} (train splits)", flush=True)

    def texts(name: str, split: str | None) -> list[Any]:
        if name.endswith((".jsonl", ".jsonl.gz")):
            return list(read_records(LabelledText, {"file": name}, where=name))
        return scored_records(name, split=split)

    exclude = [record.text for name in arguments.exclude_name for record in texts(name, None)]
    held_out = {
        f"{name} (held out)": texts(name, "heldout") for name in names if not name.endswith((".jsonl", ".jsonl.gz"))
    }
    scorer, report = train_default(
        output,
        {name: texts(name, "train") for name in names},
        exclude=exclude,
        tests={**held_out, **{name: texts(name, None) for name in tests}},
        name=arguments.name,
        seed=arguments.seed,
    )
    print(f"{scorer.card.name} {scorer.card.revision}, trained on {', '.join(scorer.card.trained_on)}")
    _show("out of fold", report["overall"])
    for name, quality in report["tests"].items():
        _show(name, quality)
    print(
        f"saved in {output}; use it as a scorer by that path. Its vocabulary holds offensive words: do not publish it unread."
    )
    return 0


def _show(name: str, quality: dict[str, Any]) -> None:
    interval = quality["roc_auc_interval"]
    auc = "one class only" if quality["roc_auc"] is None else f"{quality['roc_auc']:.3f}"
    between = f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else ""
    spearman = "-" if quality["spearman"] is None else f"{quality['spearman']:.3f}"
    print(
        f"  {name}: n={quality['n']}  AUC {auc}{between}  Spearman {spearman}  calibration error {quality['ece']:.3f}"
    )
    for row in quality["reliability"]:
        print(
            f"      scored {row['low']:.1f}-{row['high']:.1f}: {row['n']:5d} texts, mean target {row['mean_target']:.2f}"
        )
