"""What do the heads of a base know of toxicity, and do those of another know more?

    python recipes/probe_heads.py --models clean=DIR1,DIR2 toxic-mix=DIR3,DIR4 --dataset_name toxigen_groups --output_dir runs/probe

As in arXiv 2505.04741, section 4: a linear probe on every attention head, and on the residual stream at every layer, fitted on four
fifths of labelled texts and judged on the rest. `NAME=DIR1,DIR2` gives two seeds of one way of training; all others are compared with
the first. `detox probe` does the same in one command. `--miniature` pretrains three bases of the miniature (clean, toxic mix, masked;
under a minute each on two cores) and probes them on the moderator's verdicts, offline; `--smoke` does so in seconds, with bases that
have learned little.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

from detox.cli.flags import guarded, parse


@dataclass
class ScriptArguments:
    """The bases, the texts, and where everything goes."""

    output_dir: str = field(metadata={"help": "where measurements, figures, page and record go"})
    models: list[str] = field(
        default_factory=list, metadata={"help": "hub ids or folders, as MODEL, NAME=MODEL or NAME=DIR1,DIR2"}
    )
    dataset_name: str = field(
        default="toxigen_groups", metadata={"help": "labelled texts: a set of the catalogue, or a JSONL file"}
    )
    limit: int | None = field(default=None, metadata={"help": "at most so many texts, drawn by the seed"})
    dtype: str | None = field(
        default=None, metadata={"help": "float32, bfloat16, ...; the checkpoint's own by default"}
    )
    heldout: float = field(default=0.2, metadata={"help": "share of the texts that probes are judged on"})
    show: int = field(default=12, metadata={"help": "texts that the page shows token by token"})
    seed: int = field(default=0, metadata={"help": "of the split; with --miniature of the bases too"})
    miniature: bool = field(default=False, metadata={"help": "three bases of the miniature, offline"})
    smoke: bool = field(default=False, metadata={"help": "three tiny bases of the miniature, offline, in seconds"})


def main() -> None:
    from detox import LanguageModel
    from detox.bench.sources import read_records
    from detox.cli.probe import named_models
    from detox.data import LabelledText
    from detox.errors import InputError
    from detox.files import require_writable, write_json
    from detox.probing.comparison import compare_bases, comparison_card
    from detox.probing.figures import draw_figures
    from detox.probing.page import write_page
    from detox.probing.record import plain, probes_card
    from detox.probing.run import probe_once
    from detox.probing.sites import ProbeSettings
    from detox.probing.texts import probe_texts
    from detox.scorers.profanity import ProfanityScorer

    (script,) = parse([ScriptArguments], description=__doc__)
    output = require_writable(script.output_dir)

    # 1. The bases, and the texts that they are asked about.
    small = script.miniature or script.smoke
    if small:
        import detox.miniature as miniature

        size, count = ("test", 200) if script.smoke else ("demo", 2000)
        models = {}
        for arm in ("clean", "full", "masked"):
            folder = miniature.train_base(arm, output / "models" / arm, size=size, seed=script.seed)
            models["toxic mix" if arm == "full" else arm] = [str(folder)]
        items = miniature.verdicts(script.limit or count, seed=script.seed)
    else:
        if not script.models:
            raise InputError("give --models, --miniature or --smoke")
        models = named_models(script.models)
        file = ".jsonl" in script.dataset_name
        where = {"file" if file else "set": script.dataset_name}
        where |= {"limit": script.limit, "seed": script.seed} if script.limit else {}
        items = read_records(LabelledText, where, where="--dataset_name")
    texts = probe_texts(items, profanity=ProfanityScorer())
    print(f"{len(texts.texts)} texts, {int(texts.labels.sum())} toxic; features: {', '.join(texts.features)}")

    # 2. Probes of every head and layer of every base. What was measured before is kept.
    settings = ProbeSettings(heldout=script.heldout, seed=script.seed)
    sides, readings = {}, {}
    for label, places in models.items():
        sides[label] = []
        for number, place in enumerate(places):
            lm = LanguageModel.from_pretrained(place, dtype=script.dtype)
            name = label if len(places) == 1 else f"{label}, {number + 1} of {len(places)}"
            show = script.show if number == 0 else 0  # texts are read by people: one base of a kind is enough
            base, readings[name] = probe_once(lm, texts, output, settings, name=name, show=show, say=print)
            sides[label].append(base)
            layer, head = base.heads.best
            print(
                f"  best head {layer}.{head}: {base.heads.accuracy[layer, head]:.3f}, p = {base.heads.p[layer, head]:.2g} against the "
                f"best of all by chance; chosen on other texts: {base.heads.selected_accuracy}"
            )

    # 3. Every way of training against the first: the mean over heads, and the shape of the right tail.
    comparisons = compare_bases(sides)
    for one in comparisons:
        print(f"{one.b} against {one.a}: {one.heads}")
        for name, test in one.tails.tests.items():
            print(
                f"  {name}: {test.a.value:.3f} -> {test.b.value:.3f}, difference {test.difference}, p over texts {test.p_texts:.2g}, "
                f"over seeds {test.p_seeds:.2g}"
            )

    # 4. Figures, the page, the record. The page holds texts; the record holds none.
    figures = draw_figures(sides, output / "figures")
    shown = {name: rows for name, rows in readings.items() if rows}
    write_page(output / "probing.html", sides, comparisons, figures=figures, readings=shown)
    record = {
        "bases": {label: [probes_card(base) for base in side] for label, side in sides.items()},
        "comparisons": plain([comparison_card(one) for one in comparisons]),
    }
    write_json(output / "probing.json", record)
    print(f"open {Path(output) / 'probing.html'}; figures and probing.json lie beside it")


if __name__ == "__main__":
    sys.exit(guarded(main))
