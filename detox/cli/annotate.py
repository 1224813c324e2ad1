"""`detox data annotate`: risk labels for a corpus of any size."""

from __future__ import annotations

import argparse
from typing import Any

_OF_SCORERS = ("toxic_above", "middle_above", "missing", "language")


def add_to(commands: Any) -> None:
    """Add the command of this file."""
    parser = commands.add_parser(
        "annotate",
        help="label the risky spans of a corpus: by a scorer of sentences, a word list, or spans in the data",
        description="Label the risky spans of a corpus. A folder of shards and annotation.json is written; after Ctrl-C or a "
        "kill the same command goes on. Give a scorer, a word list, a column of spans, or the last with one of the others.",
    )
    data = parser.add_argument_group("data")
    data.add_argument(
        "--input",
        nargs="+",
        required=True,
        help="JSONL(.gz), Parquet or Arrow files; a folder; or the id of a data set on the hub",
    )
    data.add_argument("--output_dir", required=True, help="new or empty folder, or that of the same command, to go on")
    data.add_argument("--text_column", default="text")
    data.add_argument(
        "--id_column", help="text or whole number (default: id where there is one, else the place of the row)"
    )
    data.add_argument("--dataset_config", help="configuration of a data set of the hub")
    data.add_argument("--split", default="train", help="of a data set of the hub or a folder")
    data.add_argument("--revision", help="commit of a data set of the hub (default: the newest, which is recorded)")
    data.add_argument("--limit", type=int, help="only the first so many rows")
    data.add_argument(
        "--invalid",
        default="error",
        help="what to do with lines that are no JSON, texts with NUL, spans outside the text: error, or skip and count",
    )
    risk = parser.add_argument_group("risk")
    risk.add_argument(
        "--scorer", help="scores sentences: profanity, hf:ID_OR_PATH, a folder of a trained scorer, FILE.py:CLASS, ..."
    )
    risk.add_argument("--wordlist", help="file with a term a line, or: lexicons (those of the data directory)")
    risk.add_argument(
        "--from_spans", metavar="COLUMN", help="spans in the data: [start, end], [start, end, kind] or objects"
    )
    risk.add_argument("--kind", default="toxic", help="of risk: toxic, copyrighted, personal-name, ...")
    risk.add_argument("--toxic_above", type=float, help="a sentence with a higher score is risky (default .99)")
    risk.add_argument(
        "--middle_above",
        type=float,
        help="a sentence with a higher score, up to toxic_above, is of the kind KIND:middle, whose policy is chosen when "
        "training (default 1e-4; the same as toxic_above: no middle band)",
    )
    risk.add_argument(
        "--missing", help="what a sentence counts as that cannot be scored: middle (the default), risky, safe or error"
    )
    risk.add_argument("--language", help="whose rules end sentences: en (the default), de, ja, ...")
    output = parser.add_argument_group("output")
    output.add_argument("--format", default="arrow", help="arrow (the default), parquet or jsonl")
    output.add_argument("--documents_per_shard", type=int, default=1000, help="what a kill loses at most, a worker")
    output.add_argument("--num_workers", type=int, default=1, help="processes; the result is the same for any number")
    parser.set_defaults(run=annotate_command)


def annotate_command(arguments: argparse.Namespace) -> int:
    """Annotate, say what was found."""
    from detox.errors import InputError
    from detox.pretraining.annotation.columns import Columns
    from detox.pretraining.annotation.files import annotate_files
    from detox.pretraining.annotation.work import AnnotationSettings

    of_scorer = {name: getattr(arguments, name) for name in _OF_SCORERS if getattr(arguments, name) is not None}
    if of_scorer and arguments.scorer is None:
        raise InputError(f"--{next(iter(of_scorer))} is about scores of sentences; give it with --scorer")
    settings = AnnotationSettings(
        scorer=arguments.scorer, wordlist=arguments.wordlist, kind=arguments.kind, **of_scorer
    )
    documents = annotate_files(
        arguments.input,
        arguments.output_dir,
        settings,
        columns=Columns(text=arguments.text_column, id=arguments.id_column, spans=arguments.from_spans),
        config=arguments.dataset_config,
        split=arguments.split,
        revision=arguments.revision,
        limit=arguments.limit,
        format=arguments.format,
        documents_per_shard=arguments.documents_per_shard,
        num_workers=arguments.num_workers,
        invalid=arguments.invalid,
        progress=True,
    )
    _show(documents.card["counts"])
    print(f"annotated documents and their card (annotation.json) are in {arguments.output_dir}")
    return 0


def _show(counts: dict[str, Any]) -> None:
    characters = max(1, counts["characters"])
    print(f"{counts['documents']} documents ({counts['empty_documents']} empty), {counts['characters']} characters")
    for kind, inside in counts["characters_by_kind"].items():
        print(f"  {kind}: {inside} characters ({inside / characters:.2%})")
    if counts["sentences"]:
        bands = ", ".join(f"{number} {band}" for band, number in counts["sentences_by_band"].items())
        print(f"{counts['sentences']} sentences: {bands}")
    for reason, number in counts["unscored"].items():
        print(f"  could not be scored ({reason}): {number}")
    if counts["invalid"]:
        print(f"{counts['invalid']} invalid rows were skipped; the first: {counts['invalid_examples'][0]}")
