"""`detox probe`: what every head and layer of a base knows of toxicity, and whether another base's know more."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from detox.data import Contrast, LabelledText


def add_to(commands: Any) -> None:
    """Add the command of this file."""
    parser = commands.add_parser(
        "probe",
        help="linear probes on every head and layer of one or more bases: figures, one HTML page, a record",
        description="Fit linear probes on every attention head and on the residual stream at every layer, judge them on held-out "
        "texts, and compare bases. Writes probing.html (one file, no script, no network), figures as PNG and SVG, and probing.json. "
        "What was measured is kept: the same command goes on from there.",
    )
    parser.add_argument(
        "--model",
        action="append",
        required=True,
        metavar="[NAME=]MODEL",
        help="hub id or folder, once for each base; the first is what the others are compared with. NAME=DIR1,DIR2 gives several "
        "seeds of one way of training",
    )
    data = parser.add_mutually_exclusive_group(required=True)
    data.add_argument(
        "--contrasts", metavar="FILE", help="JSONL(.gz) of contrasts, or a set of contrasts as NAME or NAME:SPLIT"
    )
    data.add_argument(
        "--set", metavar="NAME", help="labelled texts of the catalogue, as NAME or NAME:SPLIT; or a JSONL file"
    )
    parser.add_argument("--output_dir", required=True, help="where page, figures and record go")
    parser.add_argument("--limit", type=int, help="at most so many records, drawn by the seed")
    parser.add_argument("--heldout", type=float, default=0.2, help="share that probes are judged on (default .2)")
    parser.add_argument(
        "--split",
        choices=["texts", "groups"],
        help="what the split keeps together (default: groups of contrasts; of labelled texts each text)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the split and of everything drawn")
    parser.add_argument("--C", type=float, default=1.0, help="inverse regularisation of the probes (default 1)")
    parser.add_argument(
        "--show", type=int, default=12, help="texts shown token by token (default 12; 0: a page without texts)"
    )
    parser.add_argument("--dtype", help="float32, bfloat16, ...; the checkpoint's own by default")
    parser.add_argument(
        "--attention_output",
        metavar="PATH",
        help="where the models keep the projection from their heads, {} for the layer; for families that are not known",
    )
    parser.set_defaults(run=probe_command)


def probe_command(arguments: argparse.Namespace) -> int:
    """Measure, compare, write, say what was found."""
    from detox.errors import InputError
    from detox.files import require_writable

    models = named_models(arguments.model)
    if arguments.show < 0:
        raise InputError(f"--show is {arguments.show}; expected 0 or more")
    require_writable(arguments.output_dir)

    from detox.models import LanguageModel
    from detox.probing.run import probe_bases
    from detox.probing.sites import ProbeSettings
    from detox.probing.texts import probe_texts
    from detox.scorers.profanity import ProfanityScorer

    settings = ProbeSettings(heldout=arguments.heldout, C=arguments.C, seed=arguments.seed)
    texts = probe_texts(_records(arguments), split=arguments.split, profanity=ProfanityScorer())
    for name, count in texts.omitted.items():
        print(f"{name}: {count} of {len(texts.texts)} texts have it, too few or too many for a direction; left out")
    sides, comparisons = probe_bases(
        models,
        texts,
        arguments.output_dir,
        settings,
        show=arguments.show,
        load=lambda place: LanguageModel.from_pretrained(
            place, dtype=arguments.dtype, attention_output=arguments.attention_output
        ),
        say=lambda line: print(line, flush=True),
    )
    print()
    for label, side in sides.items():
        for base in side:
            print(_line(label, base))
    for one in comparisons:
        print(f"\n{one.b} against {one.a}" + (f": {one.heads}" if one.heads is not None else ""))
        for name, test in one.tails.tests.items():
            print(
                f"  {name}: {test.a.value:.3f} -> {test.b.value:.3f}, difference {test.difference}, p over texts {test.p_texts:.2g}, "
                f"over seeds {test.p_seeds:.2g}"
            )
    print(f"\nopen {Path(arguments.output_dir) / 'probing.html'}; figures and probing.json lie beside it")
    return 0


def named_models(values: list[str]) -> dict[str, list[str]]:
    """`NAME=MODEL,MODEL` or `MODEL`, once a base, as label -> models.

    Raises:
        InputError: an empty name or model, or two bases of one name.
    """
    from detox.errors import InputError

    found: dict[str, list[str]] = {}
    for value in values:
        given = re.fullmatch(r"([^=/\\]*)=(.*)", value, re.DOTALL)
        places = given[2].split(",") if given else [value]
        label = given[1].strip() if given else Path(value).name
        if not label or not all(place.strip() for place in places):
            raise InputError(f"--model {value!r}; expected MODEL, NAME=MODEL or NAME=DIR1,DIR2")
        if label in found:
            raise InputError(f"two bases are called {label!r}; give them names: --model NAME={value}")
        found[label] = [place.strip() for place in places]
    return found


def _line(label: str, base: Any) -> str:
    layer, head = base.heads.best
    return (
        f"{label}: best head {layer}.{head} accuracy {base.heads.accuracy[layer, head]:.3f} "
        f"[{base.heads.low[layer, head]:.3f}, {base.heads.high[layer, head]:.3f}], p = {base.heads.p[layer, head]:.2g}; "
        f"selected {base.heads.selected_accuracy}; {int((base.heads.p <= 0.05).sum())} of {base.heads.p.size} heads better than "
        f"chance; best layer {base.layers.best[0]} {base.layers.accuracy.max():.3f}"
    )


def _records(arguments: argparse.Namespace) -> list[LabelledText] | list[Contrast]:
    from detox.bench.sources import read_records
    from detox.data import Contrast, LabelledText

    name = arguments.contrasts or arguments.set
    record: Any = Contrast if arguments.contrasts else LabelledText
    head, _, split = name.partition(":")
    if name.endswith((".jsonl", ".jsonl.gz")) or Path(name).is_file():
        spec: dict[str, Any] = {"file": name}
    else:
        spec = {"set": head, **({"split": split} if split else {})}
    if arguments.limit is not None:
        spec |= {"limit": arguments.limit, "seed": arguments.seed}
    return list(read_records(record, spec, where="--contrasts" if arguments.contrasts else "--set"))
