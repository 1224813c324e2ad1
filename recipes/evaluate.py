"""Measure a language model, with or without a saved detoxifier, by a protocol; write its scorecard.

    python recipes/evaluate.py --model_name_or_path Qwen/Qwen3-0.6B-Base --protocol protocol.yaml --output_dir runs/base-card
    python recipes/evaluate.py --model_name_or_path Qwen/Qwen3-0.6B-Base --detoxifier_path runs/iti --strength 8 \
        --protocol protocol.yaml --output_dir runs/iti-card

A protocol is one entry of a grid's `protocols` (benchmarks/grids/real-small.yaml shows a whole one): prompts, sampling, scorers, clean
documents, ... Without `--protocol`: 500 held-out RealToxicityPrompts x 5 and cross-entropy on WikiText-2, about ten minutes for a model
of 1 B parameters on a GPU. `--smoke` measures the miniature, offline, in under a minute.
"""

import sys
import tempfile
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from detox.cli.flags import guarded, parse

STANDARD = {
    "prompts": {"set": "rtp_prompts", "split": "heldout", "limit": 500},
    "sampling": {"max_new_tokens": 20, "top_p": 0.9, "num_return_sequences": 5},
    "scorers": ["profanity"],
    "documents": {"set": "wikitext2", "split": "heldout", "limit": 50},
}
SMOKE = {
    "prompts": {"set": "miniature", "limit": 40},
    "sampling": {"max_new_tokens": 20, "num_return_sequences": 2},
    "scorers": ["miniature-truth"],
    "documents": {"set": "miniature", "limit": 40},
}


@dataclass
class ScriptArguments:
    """What is measured, by what, and where the scorecard goes."""

    output_dir: str = field(metadata={"help": "where the scorecard goes"})
    model_name_or_path: str | None = field(
        default=None, metadata={"help": "hub id or folder of a causal language model"}
    )
    model_revision: str | None = field(default=None, metadata={"help": "branch, tag or commit of a hub id"})
    dtype: str | None = field(
        default=None, metadata={"help": "float32, bfloat16, ...; the checkpoint's own by default"}
    )
    detoxifier_path: str | None = field(default=None, metadata={"help": "a saved detoxifier to apply"})
    trust_code: bool = field(default=False, metadata={"help": "run the file.py:Class that the saved detoxifier names"})
    strength: float | None = field(
        default=None, metadata={"help": "of the detoxifier; its own default if left out, 0 for none"}
    )
    protocol: str | None = field(default=None, metadata={"help": "YAML file with one protocol"})
    seed: int = field(default=0, metadata={"help": "of the sampling"})
    smoke: bool = field(default=False, metadata={"help": "on the miniature, offline, in under a minute"})


def main() -> None:
    from detox import LanguageModel, evaluate, load
    from detox.bench import read_protocol
    from detox.bench.scorers import scorer_maker
    from detox.errors import InputError
    from detox.files import require_writable

    (script,) = parse([ScriptArguments], description=__doc__)
    require_writable(Path(script.output_dir).parent)

    # 1. The model.
    if script.smoke:
        import detox.miniature as miniature

        with tempfile.TemporaryDirectory() as folder:
            lm = LanguageModel.from_pretrained(miniature.train_base("full", f"{folder}/base", size="test"))
    elif script.model_name_or_path is None:
        raise InputError("give --model_name_or_path, or --smoke")
    else:
        lm = LanguageModel.from_pretrained(
            script.model_name_or_path, revision=script.model_revision, dtype=script.dtype
        )

    # 2. What is asked.
    asked = script.protocol or (SMOKE if script.smoke else STANDARD)
    protocol = read_protocol(asked, seed=script.seed, make_scorer=scorer_maker(Path(script.output_dir).parent))

    # 3. Measure: the harness sees a language model and knows nothing of detoxifiers.
    applied = (
        load(script.detoxifier_path, trust_code=script.trust_code).applied(lm, strength=script.strength)
        if script.detoxifier_path
        else nullcontext(lm)
    )
    with applied as handle:
        scorecard = evaluate(handle, protocol)
    scorecard.save(script.output_dir)
    print(scorecard)
    print(f"saved in {script.output_dir}")


if __name__ == "__main__":
    sys.exit(guarded(main))
