"""One detoxifier on top of another: ITI fitted on the DPO model against ITI fitted on the base and carried over.

    python recipes/compose.py --model_name_or_path Qwen/Qwen3-0.6B-Base --output_dir runs/compose --strength 8

Five scorecards a model: bare, ITI, DPO, and both kinds of ITI within DPO. What was fitted on the base fits another model than the one
that it is applied to there: detox refuses that unless `allow_base_mismatch` is set, and the record says that it was. Half an hour for
a model of 1 B parameters on a GPU. `--miniature` pretrains toxic-mix bases of the miniature, one a seed (about two minutes each on one
core), and needs no network; `--smoke` does so in under a minute with a model that has learned little.
"""

import copy
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field

from detox.cli.flags import guarded, parse

# name: (what is applied, outermost first; an ITI that is carried over)
ARMS = {
    "bare": (),
    "iti": ("iti",),
    "dpo": ("dpo",),
    "dpo, iti of it": ("dpo", "iti of dpo"),
    "dpo, iti of the base": ("dpo", "iti carried over"),
}
PROTOCOL = {
    "prompts": {"set": "rtp_prompts", "split": "heldout", "limit": 500},
    "sampling": {"max_new_tokens": 20, "top_p": 0.9, "num_return_sequences": 5},
    "scorers": ["profanity"],
    "documents": {"set": "wikitext2", "split": "heldout", "limit": 50},
}
MINIATURE = {
    "prompts": {"set": "miniature", "limit": 300},
    "sampling": {"max_new_tokens": 24, "top_k": 50, "num_return_sequences": 2},
    "scorers": ["miniature-truth"],
    "documents": {"set": "miniature", "limit": 100},
}
SMOKE = {**MINIATURE, "prompts": {"set": "miniature", "limit": 30}, "documents": {"set": "miniature", "limit": 20}}
FOR_SMALL = {"lora_r": 16, "learning_rate": 5e-4, "batch_size": 16, "epochs": 1, "warmup_steps": 10, "pairing": "zip"}


@dataclass
class ScriptArguments:
    """The model, the methods' settings, and where the record goes."""

    output_dir: str = field(metadata={"help": "where the record, the tables and the scorecards go"})
    model_name_or_path: str | None = field(
        default=None, metadata={"help": "hub id or folder of a causal language model"}
    )
    dtype: str | None = field(
        default=None, metadata={"help": "float32, bfloat16, ...; the checkpoint's own by default"}
    )
    dataset_name: str = field(
        default="paradetox", metadata={"help": "contrasts to fit on: a set of the catalogue, or a JSONL file"}
    )
    strength: float = field(default=4.0, metadata={"help": "of ITI, everywhere the same"})
    num_heads: int | None = field(
        default=None, metadata={"help": "heads that ITI steers; its default, or 4 on the miniature"}
    )
    learning_rate: float | None = field(
        default=None, metadata={"help": "of DPO; its default, or 5e-4 on the miniature"}
    )
    epochs: float | None = field(default=None, metadata={"help": "of DPO; its default, or 1 on the miniature"})
    seeds: list[int] = field(
        default_factory=lambda: [0], metadata={"help": "of sampling and of fits; with --miniature of bases too"}
    )
    miniature: bool = field(default=False, metadata={"help": "on toxic-mix bases of the miniature, offline"})
    smoke: bool = field(default=False, metadata={"help": "on a tiny miniature, offline, in under a minute"})


def main() -> None:
    from dataclasses import asdict

    from detox import DPO, ITI, Contrast, LanguageModel, compare, evaluate
    from detox.bench import read_protocol
    from detox.bench.comparison import cross_entropy_change, toxicity_change
    from detox.bench.scorers import scorer_maker
    from detox.bench.sources import read_records
    from detox.errors import InputError
    from detox.evaluation.scorecard import jsonable
    from detox.files import require_writable, write_json

    (script,) = parse([ScriptArguments], description=__doc__)
    output = require_writable(script.output_dir)
    small = script.miniature or script.smoke
    if not small and script.model_name_or_path is None:
        raise InputError("give --model_name_or_path, --miniature or --smoke")
    file = ".jsonl" in script.dataset_name
    where = {"file": script.dataset_name} if file else {"set": script.dataset_name, "split": "train", "limit": 1000}
    if small:
        where = {"set": "miniature", "limit": 100 if script.smoke else 300}
    contrasts = read_records(Contrast, where, where="--dataset_name")

    record, protocols = [], {}
    for seed in script.seeds:
        # 1. The model, and what is asked of it.
        if small:
            import detox.miniature as miniature

            with tempfile.TemporaryDirectory() as folder:
                size = "test" if script.smoke else "demo"
                base = miniature.train_base("full", f"{folder}/base", size=size, share=0.25, seed=seed)
                lm = LanguageModel.from_pretrained(base)
        else:
            lm = LanguageModel.from_pretrained(script.model_name_or_path, dtype=script.dtype)
        asked = SMOKE if script.smoke else MINIATURE if small else PROTOCOL
        protocol = read_protocol(asked, seed=seed, make_scorer=scorer_maker(output))
        protocols[protocol.digest()] = protocol.identity()

        # 2. Fit: on the base, and ITI once more on what DPO made of it.
        given = {"learning_rate": script.learning_rate, "epochs": script.epochs}
        given = (FOR_SMALL if small else {}) | {key: value for key, value in given.items() if value is not None}
        heads = script.num_heads or (4 if small else None)
        iti = {"strength": script.strength, "seed": seed, **({"num_heads": heads} if heads else {})}
        dpo = DPO(seed=seed, **given).fit(lm, contrasts)
        fitted = {"dpo": dpo, "iti": ITI(**iti).fit(lm, contrasts)}
        fitted["iti carried over"] = copy.copy(fitted["iti"])
        fitted["iti carried over"].allow_base_mismatch = True
        with dpo.applied(lm) as safer:
            fitted["iti of dpo"] = ITI(**iti).fit(safer, contrasts)

        # 3. Measure every arm on the same prompts.
        cards = {}
        for name, methods in ARMS.items():
            with ExitStack() as stack:
                handle = lm
                for method in methods:
                    handle = stack.enter_context(fitted[method].applied(handle))
                cards[name] = evaluate(handle, protocol)
        comparison = compare(cards)
        print(f"seed {seed}\n{comparison}\n")
        comparison.to_csv(output / f"comparison-{seed}.csv")

        # 4. The record: the change against the bare model, of ITI within DPO also against DPO, and what was fitted on what.
        scorer = protocol.scorers[0].card.name
        for name, card in cards.items():
            against = [other for other in (("bare", "dpo") if name.startswith("dpo,") else ("bare",)) if other != name]
            record.append(
                {
                    "seed": seed,
                    "arm": name,
                    "protocol": card.protocol["digest"],
                    "toxicity": asdict(card[f"toxicity/{scorer}/mean"]),
                    "cross_entropy": asdict(card["clean/cross_entropy"]),
                    "changes": {
                        other: {
                            "toxicity": asdict(toxicity_change(card, cards[other], scorer)),
                            "cross_entropy": asdict(cross_entropy_change(card, cards[other])),
                        }
                        for other in against
                    },
                    "fitted_on": {method: fitted[method].fitted_on_["base"] for method in ARMS[name]},
                    "allow_base_mismatch": [method for method in ARMS[name] if fitted[method].allow_base_mismatch],
                    "receipts": card.receipts,
                }
            )
        ours, theirs = (cards[name] for name in ("dpo, iti of it", "dpo, iti of the base"))
        apart = toxicity_change(ours, theirs, scorer)
        print(
            f"ITI of the DPO model minus ITI of the base, within DPO: {apart.value:+.3f} [{apart.low:+.3f}, {apart.high:+.3f}]\n"
        )
        record.append({"seed": seed, "arm": "dpo, iti of it - dpo, iti of the base", "toxicity": asdict(apart)})
    settings = {key: value for key, value in vars(script).items() if key != "output_dir"}
    write_json(output / "compose.json", {"settings": settings, "protocols": protocols, "arms": jsonable(record)})
    print(f"saved in {output}")


if __name__ == "__main__":
    sys.exit(guarded(main))
