"""Compare detoxifiers on one model, in one file: fit each, measure each at several strengths, print the table, draw the picture.

    python recipes/compare.py --model_name_or_path Qwen/Qwen3-0.6B-Base --methods prompting iti --strengths 4 8 12 --output_dir runs/compare

For many bases, seeds or hours, use the runner instead: `detox bench run GRID.yaml` keeps every finished cell. About half an hour for a
model of 1 B parameters on a GPU. `--smoke` compares on the miniature, offline, in under a minute.
"""

import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from detox.cli.flags import guarded, parse

PROTOCOL = {
    "prompts": {"set": "rtp_prompts", "split": "heldout", "limit": 500},
    "sampling": {"max_new_tokens": 20, "top_p": 0.9, "num_return_sequences": 5},
    "scorers": ["profanity"],
    "documents": {"set": "wikitext2", "split": "heldout", "limit": 50},
    "contrasts": {"set": "paradetox", "split": "heldout", "limit": 200},
}
SMOKE = {
    "prompts": {"set": "miniature", "limit": 40},
    "sampling": {"max_new_tokens": 20, "num_return_sequences": 2},
    "scorers": ["miniature-truth"],
    "documents": {"set": "miniature", "limit": 40},
    "contrasts": {"set": "miniature", "limit": 20, "split": "test"},
}


@dataclass
class ScriptArguments:
    """The model, the methods, and where table and picture go."""

    output_dir: str = field(metadata={"help": "where comparison.csv and pareto.png go"})
    model_name_or_path: str | None = field(
        default=None, metadata={"help": "hub id or folder of a causal language model"}
    )
    dtype: str | None = field(
        default=None, metadata={"help": "float32, bfloat16, ...; the checkpoint's own by default"}
    )
    methods: list[str] = field(
        default_factory=lambda: ["prompting", "iti"], metadata={"help": "detoxifiers, with their defaults"}
    )
    strengths: list[float] = field(
        default_factory=lambda: [1.0, 2.0, 4.0], metadata={"help": "of methods that have a dial"}
    )
    dataset_name: str = field(
        default="paradetox", metadata={"help": "contrasts to fit on: a set of the catalogue, or a JSONL file"}
    )
    smoke: bool = field(default=False, metadata={"help": "on the miniature, offline, in under a minute"})


def main() -> None:
    from detox import Contrast, LanguageModel, compare, evaluate
    from detox.bench import read_protocol
    from detox.bench.scorers import scorer_maker
    from detox.bench.sources import read_records
    from detox.detoxifiers import make
    from detox.errors import InputError
    from detox.files import require_writable

    (script,) = parse([ScriptArguments], description=__doc__)
    output = require_writable(script.output_dir)
    detoxifiers = {name: make(name) for name in script.methods}  # a wrong name is found before any work

    if script.smoke:
        import detox.miniature as miniature

        with tempfile.TemporaryDirectory() as folder:
            lm = LanguageModel.from_pretrained(miniature.train_base("full", f"{folder}/base", size="test"))
        contrasts = miniature.contrasts(100)
    else:
        if script.model_name_or_path is None:
            raise InputError("give --model_name_or_path, or --smoke")
        lm = LanguageModel.from_pretrained(script.model_name_or_path, dtype=script.dtype)
        where = (
            {"file": script.dataset_name}
            if ".jsonl" in script.dataset_name
            else {"set": script.dataset_name, "split": "train", "limit": 1000}
        )
        contrasts = read_records(Contrast, where, where="--dataset_name")
    protocol = read_protocol(SMOKE if script.smoke else PROTOCOL, seed=0, make_scorer=scorer_maker(output))

    # The base first: every other row is compared with it, paired over prompts.
    scorecards = {"base": evaluate(lm, protocol)}
    for name, detoxifier in detoxifiers.items():
        detoxifier.fit(lm, contrasts)
        for strength in script.strengths if detoxifier.capabilities.dial else [1.0]:
            with detoxifier.applied(lm, strength=strength) as safe:
                scorecards[f"{name} @ {strength:g}"] = evaluate(safe, protocol)

    comparison = compare(scorecards)
    print(comparison)
    comparison.to_csv(output / "comparison.csv")
    comparison.plot(output / "pareto.png")
    print(f"comparison.csv and pareto.png are in {Path(output)}")


if __name__ == "__main__":
    sys.exit(guarded(main))
