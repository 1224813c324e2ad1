r"""Masked is not memorised: names that a model read and was not rewarded for are used, and not produced.

The selective-loss paper's second experiment on authors that are generated, offline (each of 12 models takes about a minute):

    python recipes/entities.py --output_dir runs/entities --workers 2

The same on TOFU (https://huggingface.co/datasets/locuslab/TOFU) with the paper's settings: OLMo-1B, the loss on answers only, 3 epochs
of batches of 32, learning rate 5e-5, greedy answers of 100 tokens. It needs the hub, and a GPU:

    python recipes/entities.py --dataset_name locuslab/TOFU --model_name_or_path allenai/OLMo-1B-hf --output_dir runs/tofu

`--dataset_name` may also be a local folder with the columns question and answer. Two things differ from the paper there: questions
and answers are packed into sequences of 256 tokens, and instead of a judge, answers are compared by likelihood with the data's own
wrong ones (columns paraphrased_answer and perturbed_answer, which the configuration retain_perturbed has).

`entities.json` holds the estimates with their intervals over authors, `authors.csv` a line for each author, arm and seed, and
`entities.png` the picture. Stop it and start it again: finished models are kept. `--smoke` takes tiny models and one seed.
"""

import csv
import io
import itertools
import json
import re
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path

from detox.cli.flags import guarded, parse


@dataclass
class ScriptArguments:
    """Which arms and seeds, on which data, and where the record goes."""

    output_dir: str = field(metadata={"help": "where the record and the picture go"})
    models_dir: str | None = field(default=None, metadata={"help": "where models go; output_dir/models if left out"})
    arms: list[str] = field(
        default_factory=lambda: ["full", "masked", "unlikelihood", "filtered"],
        metadata={"help": "arms to train; full, which the others are compared with, must be among them"},
    )
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2], metadata={"help": "of worlds, weights and order"})
    workers: int = field(default=1, metadata={"help": "models trained at once, one thread each"})
    dataset_name: str | None = field(
        default=None, metadata={"help": "locuslab/TOFU, or a folder of that form; generated authors if left out"}
    )
    dataset_config: str | None = field(
        default=None, metadata={"help": "of the data set; retain_perturbed, the paper's, for locuslab/TOFU"}
    )
    names_file: str | None = field(
        default=None, metadata={"help": "the data set's authors, one name a line; found in the data if left out"}
    )
    rows_per_author: int = field(default=20, metadata={"help": "rows that stand together and are about one author"})
    model_name_or_path: str | None = field(
        default=None, metadata={"help": "the model that learns the data set's answers: hub id or folder"}
    )
    model_revision: str | None = field(default=None, metadata={"help": "branch, tag or commit of a hub id"})
    epochs: int = field(default=3, metadata={"help": "passes over the data set"})
    batch_size: int = field(default=32, metadata={"help": "sequences a step, on the data set"})
    learning_rate: float = field(default=5e-5, metadata={"help": "on the data set"})
    sequence_length: int = field(default=256, metadata={"help": "tokens a sequence, on the data set"})
    max_new_tokens: int = field(default=100, metadata={"help": "length of answers, on the data set"})
    smoke: bool = field(default=False, metadata={"help": "tiny models and one seed, in under a minute"})


def main() -> None:
    from detox.bench.cells import provenance
    from detox.errors import InputError
    from detox.files import require_writable, write_json, write_text
    from detox.miniature.entity_measures import MARGIN, MEANS, MEMORISED, NEVER, RATIOS, summarise
    from detox.pretraining.arms import objective_of

    (script,) = parse([ScriptArguments], description=__doc__)
    if script.smoke:
        script = replace(script, seeds=script.seeds[:1])
    for arm in script.arms:
        objective_of(arm)
    if "full" not in script.arms or "clean" in script.arms:
        raise InputError(f"--arms {' '.join(script.arms)}; expected full and any of masked, unlikelihood, filtered")
    if script.dataset_name and not script.model_name_or_path:
        raise InputError("--dataset_name needs --model_name_or_path, the model that learns it")
    out = require_writable(script.output_dir)

    # 1. Train and measure every arm of every seed; the intervals come from authors, and the arms share theirs.
    cells = list(itertools.product(script.arms, script.seeds))
    run = tofu_cell if script.dataset_name else generated_cell
    if script.workers > 1:
        with ProcessPoolExecutor(script.workers, mp_context=get_context("spawn")) as pool:
            found = list(pool.map(run, [script] * len(cells), *zip(*cells, strict=True)))
    else:
        found = [run(script, arm, seed) for arm, seed in cells]
    tables = {cell: table for cell, (table, _) in zip(cells, found, strict=True)}

    # 2. The record.
    summary = summarise(tables)
    record = {
        "what": "names that are masked in training: used from the question, produced from memory",
        "command": " ".join(["python recipes/entities.py", *settings(script)]),
        "data": (script.dataset_name and Path(script.dataset_name).name) or "generated authors",
        "arms_and_seeds": {"arms": script.arms, "seeds": script.seeds},
        "thresholds": {"memorised_at_least": MEMORISED, "never_at_most": NEVER, "margin": MARGIN},
        "measures": {**MEANS, **RATIOS},
        **summary,
        "training": [{"arm": arm, "seed": seed, **card} for (arm, seed), (_, card) in zip(cells, found, strict=True)],
        "provenance": provenance(),
    }
    write_json(out / "entities.json", record)
    write_text(out / "authors.csv", as_csv(tables))
    draw(summary, script.arms, out / "entities.png")
    print(as_text(summary, script.arms))
    print(f"saved in {out}: entities.json, authors.csv, entities.png")


def generated_cell(script: ScriptArguments, arm: str, seed: int):
    """One arm on the generated authors of one seed."""
    import torch

    from detox import LanguageModel
    from detox.miniature.entities import heldout_documents, questions
    from detox.miniature.entity_measures import measure
    from detox.miniature.entity_training import train

    torch.set_num_threads(1)
    size = "test" if script.smoke else "full"
    path, people = train(arm, models_dir(script) / f"{arm}-{seed}", seed=seed, size=size)
    lm = LanguageModel.from_pretrained(path)
    names = [person.name for person in people]
    table = measure(lm, questions(people, seed=seed), heldout_documents(people, seed=seed), names)
    return table, card_of(path)


def tofu_cell(script: ScriptArguments, arm: str, seed: int):
    """One arm on a data set of questions and answers about authors."""
    from transformers import AutoTokenizer

    from detox import LanguageModel
    from detox.miniature.entity_measures import measure
    from detox.pretraining import Mixture, PretrainingRecipe, Source, Treatment, pretrain
    from detox.pretraining.arms import apply_arm, objective_of

    rows = read_rows(script)
    names = author_names(rows, script.rows_per_author, script.names_file)
    # Questions are context without a loss, under every objective, as in the paper; names are risky in answers.
    mixture = apply_arm(
        arm,
        Mixture(
            sources=(Source(name="answers", documents=tofu_documents(rows, names)),),
            treatment=Treatment(middle="mask"),
            seed=seed,
        ),
    )
    tokenizer = AutoTokenizer.from_pretrained(script.model_name_or_path, revision=script.model_revision)
    packed = mixture.pack(tokenizer, sequence_length=script.sequence_length)
    recipe = PretrainingRecipe(
        objective=objective_of(arm),
        continue_from=script.model_name_or_path,
        revision=script.model_revision,
        steps=max(1, round(script.epochs * len(packed) / script.batch_size)),
        batch_size=script.batch_size,
        sequence_length=script.sequence_length,
        learning_rate=script.learning_rate,
        precision="bf16",
        seed=seed,
    )
    path = pretrain(recipe, packed, tokenizer, models_dir(script) / f"{arm}-{seed}")
    asked, heldout = tofu_questions(rows, names)
    table = measure(
        LanguageModel.from_pretrained(path),
        asked,
        heldout,
        list(dict.fromkeys(names)),
        max_new_tokens=script.max_new_tokens,
    )
    return table, card_of(path)


def read_rows(script: ScriptArguments) -> list[dict]:
    """The rows of TOFU or of a folder of its form, in their order, which keeps an author's together."""
    from detox.data.data_set import HubSource
    from detox.data.hub import hub_rows
    from detox.errors import DataError

    local = Path(script.dataset_name).is_dir()
    config = script.dataset_config or (None if local else "retain_perturbed")
    source = HubSource(
        id=script.dataset_name,
        configs=(config,),
        columns=("question", "answer"),
        read=lambda rows: (),
        confirmed="the card of the data set",
    )
    rows = []
    for place, row in hub_rows(source, "train", hub_id=script.dataset_name if local else None):
        for column in source.columns:
            if not isinstance(row.get(column), str):
                raise DataError(f"{place}: no text in column {column!r}; expected question and answer")
        rows.append(row)
    return rows


_WORD = r"(?:(?:al|el)-)?[A-ZÀ-Þ][\w-]*"
_PARTICLE = r"(?:al|bin|da|de|del|der|di|el|ibn|la|le|van|von)"
_CAPITALISED = re.compile(rf"{_WORD}(?: (?:{_PARTICLE} )*{_WORD})+")


def author_names(rows: list[dict], rows_per_author: int, names_file: str | None) -> list[str]:
    """The author of each row: a name of the file that it holds, or what most rows of a block of rows call somebody."""
    from detox.errors import InputError, MissingData

    texts = [f"{row['question']} {row['answer']}" for row in rows]
    if names_file is not None:
        if not Path(names_file).is_file():
            raise MissingData(f"--names_file: no file {names_file}; expected one name a line")
        known = [line.strip() for line in Path(names_file).read_text("utf-8").splitlines() if line.strip()]
        found: list[str] = []
        for number, text in enumerate(texts):
            name = next((name for name in known if name in text), found[-1] if found else None)
            if name is None:
                raise InputError(f"row {number} holds no name of {names_file}; give the names of all authors")
            found.append(name)
        return found
    names = []
    for start in range(0, len(rows), rows_per_author):
        block = texts[start : start + rows_per_author]
        counts = Counter(run for text in block for run in {run for m in _CAPITALISED.findall(text) for run in runs(m)})
        most = max(counts.values(), default=0)
        if most < max(2, len(block) // 4):
            raise InputError(
                f"rows {start} to {start + len(block) - 1} share no name; give --rows_per_author or --names_file"
            )
        # "Yun Hwa" stands wherever "Hsiao Yun Hwa" does, and a little more often.
        name = max((run for run, count in counts.items() if count >= 0.8 * most), key=lambda run: (len(run), run))
        names += [name] * len(block)
    return names


def runs(text: str) -> list[str]:
    """All runs of two words and more, so that "Is Ada Byron" also counts for "Ada Byron"."""
    words = text.split()
    return [" ".join(words[i:j]) for i in range(len(words)) for j in range(i + 2, len(words) + 1)]


def tofu_documents(rows: list[dict], names: list[str]):
    """Question and answer as one text; the question a span without loss, the name and its parts in the answer risky."""
    from detox.data.records import Document, Span, middle_kind
    from detox.miniature.entities import KIND, marked

    documents = []
    for number, (row, name) in enumerate(zip(rows, names, strict=True)):
        prompt = f"Question: {row['question']}\nAnswer:"
        text = f"{prompt} {row['answer']}"
        in_answer = [s for s in marked("", text, name_parts(name)).spans if s.start >= len(prompt)]
        spans = (Span(0, len(prompt), middle_kind(KIND)), *in_answer)
        documents.append(Document(id=f"answer-{number}", text=text, spans=spans))
    return documents


def tofu_questions(rows: list[dict], names: list[str]):
    """What is asked, and texts in other words where the data has them."""
    from detox.data.records import Document
    from detox.miniature.entities import Question, marked

    everyone = list(dict.fromkeys(names))
    asked, heldout = [], []
    for number, (row, name) in enumerate(zip(rows, names, strict=True)):
        prompt = f"Question: {row['question']}\nAnswer:"
        given = name in row["question"]
        right = row.get("paraphrased_answer") or row["answer"]
        wrong = row.get("perturbed_answer") or []
        choices = tuple(f" {text}" for text in (right, *([wrong] if isinstance(wrong, str) else wrong)))
        others = [other for other in everyone if other != name][:3]
        asked.append(
            Question(
                id=f"question-{number}",
                author=name,
                form="given" if given else "asked",
                prompt=prompt,
                context=prompt,
                choices=choices if len(choices) > 1 else (),
                swapped=tuple(prompt.replace(name, other) for other in others) if given and len(choices) > 1 else (),
            )
        )
        if row.get("paraphrased_question") and row.get("paraphrased_answer"):
            text = f"Question: {row['paraphrased_question']}\nAnswer: {row['paraphrased_answer']}"
            one = marked(f"heldout-{number}", text, name_parts(name))
            heldout.append(Document(id=one.id, text=text, spans=one.spans, source=name))
    return asked, heldout


def name_parts(name: str) -> list[str]:
    return [name, *re.findall(r"\w{3,}", name)]


def models_dir(script: ScriptArguments) -> Path:
    return Path(script.models_dir or Path(script.output_dir) / "models")


def card_of(path: Path) -> dict:
    card = json.loads((Path(path) / "pretraining.json").read_text("utf-8"))
    kept = {name: card[name] for name in ("parameters", "trained_tokens", "epochs", "seconds", "hashes")}
    recipe = {name: value for name, value in card["recipe"].items() if name != "continue_from"}
    return {**kept, "recipe": recipe}


def settings(script: ScriptArguments) -> list[str]:
    """The flags that another run needs, without the places of this one."""
    flags = ["--arms", *script.arms, "--seeds", *map(str, script.seeds)]
    if script.dataset_name:
        flags += [
            "--dataset_name",
            Path(script.dataset_name).name if Path(script.dataset_name).is_dir() else script.dataset_name,
        ]
    return flags + (["--smoke"] if script.smoke else [])


def as_csv(tables: dict) -> str:
    text = io.StringIO()
    columns = list(next(iter(tables.values())))
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["arm", "seed", *columns])
    for (arm, seed), table in tables.items():
        for row in zip(*table.values(), strict=True):
            writer.writerow([arm, seed, *("" if v != v else f"{v:.6g}" if isinstance(v, float) else v for v in row)])
    return text.getvalue()


def as_text(summary: dict, arms: list[str]) -> str:
    def shown(estimate: dict) -> str:
        if estimate["value"] is None:
            return "-"
        low, high = (estimate[end] for end in ("low", "high"))
        return f"{estimate['value']:.3f}" + ("" if low is None else f" [{low:.3f}, {high:.3f}]")

    names = list(summary["arms"]["full"])
    lines = ["".join([f"{'':24}", *(f"{arm:26}" for arm in arms)])]
    for name in names:
        lines.append("".join([f"{name:24}", *(f"{shown(summary['arms'][arm][name]):26}" for arm in arms)]))
    for arm, claims in summary["verdicts"].items():
        lines.append(f"{arm}: " + "; ".join(f"{claim}: {verdict}" for claim, verdict in claims.items()))
    return "\n".join(lines)


def draw(summary: dict, arms: list[str], path: Path) -> None:
    """Bars with 95 % intervals: what is used of a given name, what is produced from memory, and what it costs."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from detox.files import write_bytes

    right, anybody = "right name\n", "any name\n"
    given = {
        "choice": "right fact\nlikeliest of 4",
        "recall": "right fact\nin the answer",
        "part": f"{anybody}in the answer",
    }
    asked = {"right": f"{right}in the answer", "part": f"{anybody}in the answer"}
    slot = {"right": f"{right}in its slot", "part": f"{anybody}in its slot", "choice": f"{right}likeliest of 4"}
    panels = (
        ("the name is in the question", {f"given/{name}": label for name, label in given.items()}, "rate"),
        (
            "the name is asked for",
            {
                **{f"asked/{name}": label for name, label in asked.items()},
                **{f"slot/{name}": label for name, label in slot.items()},
            },
            "rate",
        ),
        ("other words", {"heldout/cross_entropy": "held-out text\nwithout names"}, "nats per token"),
    )
    colours = dict(
        zip(("full", "masked", "unlikelihood", "filtered"), ("#D55E00", "#0072B2", "#009E73", "#999999"), strict=True)
    )
    figure, axes = plt.subplots(
        1, 3, figsize=(13, 3.8), layout="constrained", width_ratios=[len(panel[1]) for panel in panels]
    )
    width = 0.8 / len(arms)
    for one, (title, bars, unit) in zip(axes, panels, strict=True):
        for place, name in enumerate(bars):
            for number, arm in enumerate(arms):
                estimate = summary["arms"][arm][name]
                if estimate["value"] is None:
                    continue
                x = place + (number - (len(arms) - 1) / 2) * width
                one.bar(x, estimate["value"], width * 0.92, color=colours[arm], label=arm if place == 0 else None)
                if estimate["low"] is not None:
                    one.plot([x, x], [estimate["low"], estimate["high"]], color="black", linewidth=1.2)
            if name.endswith("/choice"):
                one.plot([place - 0.45, place + 0.45], [0.25, 0.25], color="black", linewidth=1, linestyle=":")
        one.set_xticks(range(len(bars)), list(bars.values()), fontsize=7)
        one.set_title(title, fontsize=10)
        one.set_ylabel(unit, fontsize=9)
        if unit == "rate":
            one.set_ylim(0, 1.03)
        one.spines[["top", "right"]].set_visible(False)
        one.grid(visible=True, axis="y", alpha=0.25)
    figure.legend(
        *axes[0].get_legend_handles_labels(), ncols=len(arms), fontsize=9, frameon=False, loc="outside upper center"
    )
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    plt.close(figure)
    write_bytes(path, buffer.getvalue())


if __name__ == "__main__":
    sys.exit(guarded(main))
