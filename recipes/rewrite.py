"""The black box: a detoxified model says again what another model wrote, or texts of your own.

    python recipes/rewrite.py --texts_file answers.jsonl --model_name_or_path Qwen/Qwen3-0.6B --detoxifier_path runs/cp \
        --output_dir runs/rewrite
    python recipes/rewrite.py --writer_name_or_path gpt2-large --model_name_or_path Qwen/Qwen3-0.6B --detoxifier_path runs/cp \
        --output_dir runs/rewrite

The writer is only asked for text: it may be any model, or an API whose answers are in a JSONL file with `id` and `text`. Of the
model without and with the detoxifier, `rewriting.json` holds toxicity before and after, similarity in meaning, and how much was copied,
with intervals over texts; `rewritten.jsonl` holds the texts. An answer that was cut off is missing, so give it room
(`--max_new_tokens`). Seconds a hundred texts on a GPU. `--smoke` does all of it on the miniature, offline, in under a minute.
"""

import sys
import tempfile
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace

from detox.cli.flags import guarded, parse


@dataclass
class ScriptArguments:
    """Whose text, who says it again, and where it goes."""

    output_dir: str = field(metadata={"help": "where rewriting.json and rewritten.jsonl go"})
    model_name_or_path: str | None = field(default=None, metadata={"help": "the model that rewrites: hub id or folder"})
    detoxifier_path: str | None = field(default=None, metadata={"help": "a saved detoxifier of that model"})
    strength: float | None = field(default=None, metadata={"help": "of the detoxifier; its own by default"})
    texts_file: str | None = field(default=None, metadata={"help": "JSONL with id and text: what is to be said again"})
    writer_name_or_path: str | None = field(default=None, metadata={"help": "instead: a model that continues prompts"})
    dataset_name: str = field(default="rtp_prompts", metadata={"help": "the writer's prompts: a set, or a JSONL file"})
    limit: int = field(default=500, metadata={"help": "texts at most"})
    instruction: str | None = field(default=None, metadata={"help": "holds {sentence}; the paper's wording by default"})
    dtype: str | None = field(
        default=None, metadata={"help": "float32, bfloat16, ...; the checkpoint's own by default"}
    )
    scorer: str = field(default="profanity", metadata={"help": "by which toxicity is measured"})
    max_new_tokens: int = field(default=200, metadata={"help": "of a paraphrase, and of what is thought before it"})
    seed: int = field(default=0, metadata={"help": "of the sampling"})
    smoke: bool = field(default=False, metadata={"help": "on the miniature, offline, in under a minute"})


def main() -> None:
    from detox import LanguageModel, Sampling, load
    from detox.bench.scorers import scorer_maker
    from detox.bench.sources import read_records
    from detox.data.jsonl import write_jsonl
    from detox.data.making.prompts import Instructions
    from detox.data.making.similarity import load_embedder
    from detox.data.records import LabelledText, Prompt
    from detox.errors import InputError
    from detox.evaluation import Protocol, RewriteTask
    from detox.evaluation.rewriting import paraphrase, rewrite, rewrite_counts, rewrite_metrics, rewrite_table
    from detox.evaluation.scorecard import jsonable
    from detox.files import require_writable, write_json

    (script,) = parse([ScriptArguments], description=__doc__)
    output = require_writable(script.output_dir)
    sampling = Sampling(max_new_tokens=script.max_new_tokens, top_p=0.9, seed=script.seed)
    wording = {"safe": script.instruction} if script.instruction else {}

    embedder = load_embedder()  # before any work: it may not be installed

    # 1. The model that rewrites, its detoxifier, and the texts, each on one line, as a paraphrase is.
    if script.smoke:
        lm, detoxifier, texts = _miniature(LanguageModel)
        scorer = scorer_maker(output)("miniature-truth", [])
        wording = {"safe": "note: {sentence}\nnote:", "frame": "{instruction}"}
    else:
        if script.model_name_or_path is None:
            raise InputError("give --model_name_or_path, or --smoke")
        if script.strength is not None and script.detoxifier_path is None:
            raise InputError("--strength is of a detoxifier; give --detoxifier_path too")
        if (script.texts_file is None) == (script.writer_name_or_path is None):
            raise InputError("give either --texts_file or --writer_name_or_path")
        detoxifier = load(script.detoxifier_path) if script.detoxifier_path else None
        scorer = scorer_maker(output)(script.scorer, [])
        if script.texts_file:
            texts = read_records(LabelledText, {"file": script.texts_file, "limit": script.limit}, where="--texts_file")
        else:
            file = ".jsonl" in script.dataset_name
            where = {"file": script.dataset_name} if file else {"set": script.dataset_name, "split": "heldout"}
            prompts = read_records(Prompt, {**where, "limit": script.limit}, where="--dataset_name")
            writer = LanguageModel.from_pretrained(script.writer_name_or_path, dtype=script.dtype)
            written = writer.generate(
                [one.text for one in prompts], Sampling(max_new_tokens=20, top_p=0.9, seed=script.seed)
            )
            pairs = zip(prompts, written, strict=True)
            texts = tuple(LabelledText(id=p.id, text=row[0].text.strip()) for p, row in pairs if row[0].text.strip())
            del writer
        lm = LanguageModel.from_pretrained(script.model_name_or_path, dtype=script.dtype)

    # 2. Every text said again, without the detoxifier and with it: the same noise, so that what differs is its doing.
    texts = tuple(replace(text, text=" ".join(text.text.split())) for text in texts)
    task = RewriteTask(texts=texts, embedder=embedder, instructions=Instructions(**wording))
    protocol = Protocol(name="rewriting", rewriting=task, scorers=(scorer,), sampling=sampling)
    record, rows = {"protocol": protocol.identity(), "arms": {}}, []
    for name, applied in (("bare", None), ("detoxified", detoxifier)):
        if name == "detoxified" and applied is None:
            continue
        with nullcontext(lm) if applied is None else applied.applied(lm, strength=script.strength) as handle:
            answers = rewrite(handle, task, sampling)
        table = rewrite_table(protocol, task, answers)
        metrics = rewrite_metrics(protocol, task, table)
        record["arms"][name] = {
            "metrics": {metric: jsonable(asdict(estimate)) for metric, estimate in metrics.items()},
            "answers": rewrite_counts(table),
        }
        for text, (one, *_), score in zip(texts, answers, table["score"], strict=True):
            again, problem = paraphrase(one)
            found = (
                {"rewritten": again, "toxicity": None if score != score else score}
                if problem is None
                else {"problem": problem}
            )
            rows.append({"id": text.id, "arm": name, "text": text.text, **found})
        print(f"{name}: " + ", ".join(
            f"{metric.removeprefix('rewriting/')} {one.value:.3f} [{one.low:.3f}, {one.high:.3f}]"
            for metric, one in metrics.items() if metric.count("/") == 1
        ))  # fmt: skip

    # 3. The record, and the texts beside it.
    write_json(output / "rewriting.json", record)
    write_jsonl(output / "rewritten.jsonl", rows)
    print(f"saved in {output}")


def _miniature(loader):
    """A tiny paraphraser that has learned little, contrastive perplexity fitted on it, and a forum's replies."""
    import detox.miniature as miniature
    from detox import ContrastivePerplexity
    from detox.pretraining.dialogues import InstructionRecipe
    from detox.pretraining.instruct import instruct

    recipe = InstructionRecipe(epochs=1.0, batch_size=32, learning_rate=1e-3, template="plain")
    with tempfile.TemporaryDirectory() as folder:
        base = miniature.train_base("full", f"{folder}/base", size="test")
        lm = loader.from_pretrained(instruct(base, miniature.paraphrases(300), f"{folder}/paraphraser", recipe=recipe))
    small = {"learning_rate": 1e-3, "lora_r": 8, "batch_size": 8}
    return lm, ContrastivePerplexity(**small).fit(lm, miniature.rewrites(30)), miniature.sayings(20)


if __name__ == "__main__":
    sys.exit(guarded(main))
