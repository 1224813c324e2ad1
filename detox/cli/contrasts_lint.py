"""`detox contrasts lint`: duplicates, leaks, confounds, cut texts, merged tokens, groups of people that one label has for itself."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from detox.data import Contrast, Record


def add_to(commands: Any) -> None:
    """Add the command of this file."""
    parser = commands.add_parser(
        "lint",
        help="faults of contrasts: duplicates, leaks, confounds, cut texts, merged tokens, label balance by group of people",
        description="Find the faults of contrasts before anything is trained on them. Only ids are printed, never a text. "
        "Exit code: 0 without an error among the findings (warnings and notes are none), 3 with one, 2 for wrong input.",
    )
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="JSONL(.gz) of contrasts, or a set of the catalogue as NAME or NAME:SPLIT; several are splits of one data set, "
        "and no text of one may be in another",
    )
    parser.add_argument(
        "--against",
        nargs="+",
        default=[],
        metavar="FILE",
        help="what will be evaluated: JSONL(.gz) with prompt or text, contrasts, or a set of the catalogue (NAME or NAME:SPLIT)",
    )
    parser.add_argument("--words", type=int, default=8, help="a shared run of so many words is a leak (default 8)")
    parser.add_argument("--near", type=float, default=0.7, help="Jaccard index of near duplicates (default .7)")
    parser.add_argument(
        "--above", type=float, default=0.65, help="area under the ROC curve of a confound (default .65)"
    )
    parser.add_argument("--tokenizer", metavar="ID_OR_PATH", help="also look at the tokens of this tokenizer")
    parser.add_argument("--revision", help="of the tokenizer")
    parser.add_argument("--context", type=int, help="greatest number of tokens (default: what tokenizer or model say)")
    parser.add_argument(
        "--expect_eos", action="store_true", help="every continuation must end in the tokenizer's end token"
    )
    parser.add_argument(
        "--terms", metavar="FILE", help="names of groups of people, one a line, instead of the own list"
    )
    parser.add_argument("--json", metavar="OUT", help="write the findings and what was measured as JSON")
    parser.set_defaults(run=lint_command)


def lint_command(arguments: argparse.Namespace) -> int:
    """Lint each file, print what was found, write the record."""
    from detox.data import digest
    from detox.data.linting import TERMS, lint, measure_confounds, report, worst
    from detox.errors import InputError
    from detox.files import require_writable, write_json

    if arguments.tokenizer is None:
        for flag in ("revision", "context", "expect_eos"):
            if getattr(arguments, flag):
                raise InputError(f"--{flag} is about tokens; give it with --tokenizer")
    for names in (arguments.files, arguments.against):
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise InputError(f"{twice} is named twice; expected each file once")
    if arguments.json:
        if Path(arguments.json).is_dir():
            raise InputError(f"--json {arguments.json} is a folder; expected the name of a file to write")
        require_writable(Path(arguments.json).parent)
    terms = TERMS if arguments.terms is None else _terms(Path(arguments.terms))
    tokenizer, context = None, None
    if arguments.tokenizer is not None:
        tokenizer, context = _tokenizer(arguments.tokenizer, arguments.revision)
        context = arguments.context or context
        if context is None:
            print(f"{arguments.tokenizer}: its context is not known, lengths are not looked at; give --context")
    files = {name: _contrasts(name) for name in arguments.files}
    evaluated = {name: _records(name) for name in arguments.against}
    record: list[dict[str, Any]] = []
    bad = False
    for name, contrasts in files.items():
        others: dict[str, Sequence[Record]] = {other: rows for other, rows in files.items() if other != name}
        findings = lint(
            contrasts,
            against={**others, **evaluated},
            tokenizer=tokenizer,
            context=context,
            expect_eos=arguments.expect_eos,
            words=arguments.words,
            near=arguments.near,
            above=arguments.above,
            terms=terms,
        )
        bad = bad or worst(findings) == "error"
        toxic, safe = (sum(len(getattr(one, side)) for one in contrasts) for side in ("toxic", "safe"))
        print(f"{name}: {len(contrasts)} contrasts, {safe} safe and {toxic} toxic texts")
        print(report(findings), end="\n\n")
        record.append(
            {
                "file": Path(name).name,
                "digest": digest(contrasts),
                "contrasts": len(contrasts),
                "safe": safe,
                "toxic": toxic,
                "findings": [finding.to_json() for finding in findings],
                "confounds": {key: one.to_json() for key, one in measure_confounds(contrasts).items()},
            }
        )
    if arguments.json:
        asked = {key: getattr(arguments, key) for key in ("words", "near", "above", "expect_eos")}
        asked |= {"against": [Path(name).name for name in evaluated], "context": context}
        write_json(Path(arguments.json), {"asked": asked, "files": record})
    return 3 if bad else 0


def _contrasts(name: str) -> list[Contrast]:
    from detox.data import Contrast, load_as, read_contrasts

    if _is_file(name):
        return read_contrasts(name)
    set_name, split = _set(name)
    return load_as(Contrast, set_name, split=split)


def _records(name: str) -> list[Record]:
    """Records of a set, contrasts of a file, or the texts of one that has a column prompt or text."""
    from detox.data import Prompt, load, read_contrasts, read_jsonl
    from detox.errors import DataError

    if not _is_file(name):
        set_name, split = _set(name)
        return load(set_name, split=split)
    rows = list(read_jsonl(name))
    if rows and {"safe", "toxic"} <= rows[0][1].keys():
        return list(read_contrasts(name))
    found: list[Record] = []
    for number, row in rows:
        text = row.get("prompt", row.get("text"))
        if not isinstance(text, str):
            raise DataError(f"{Path(name).name}:{number}: no text under prompt or text; expected one, or contrasts")
        found.append(Prompt(id=str(row.get("id", number)), text=text))
    return found


def _is_file(name: str) -> bool:
    return name.endswith((".jsonl", ".jsonl.gz", ".json")) or Path(name).is_file()


def _set(name: str) -> tuple[str, str | None]:
    head, _, split = name.partition(":")
    return head, split or None


def _terms(path: Path) -> list[str]:
    from detox.errors import DataError, MissingData

    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise MissingData(f"--terms: no file {path}; expected a name a line") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path.name}:1: cannot be read ({error}); expected UTF-8 text, a name a line") from error
    return [line for line in lines if line.strip()]


def _tokenizer(where: str, revision: str | None) -> tuple[Any, int | None]:
    """The tokenizer, and the number of tokens that it or the model beside it is made for."""
    from types import SimpleNamespace

    from transformers import AutoConfig, AutoTokenizer

    from detox.errors import MissingData
    from detox.models.architectures import context_length

    try:
        tokenizer = AutoTokenizer.from_pretrained(where, revision=revision)
    except (OSError, ValueError) as error:
        raise MissingData(
            f"no tokenizer at {where} ({str(error).splitlines()[0]}); expected a folder or an id of the hub"
        ) from error
    try:
        length = context_length(SimpleNamespace(config=AutoConfig.from_pretrained(where, revision=revision)))
    except (OSError, ValueError):
        length = None  # a tokenizer may lie there alone
    stated = tokenizer.model_max_length
    return tokenizer, length or (stated if stated < 10**9 else None)
