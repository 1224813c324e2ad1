"""`detox explain-positions`: which tokens an intervention touches, read off the same announcement that the hooks read."""

from __future__ import annotations

import argparse
from typing import Any

_PROMPT, _CONTINUATION = "The weather today", " is fine and warm"


def add_to(commands: Any) -> None:
    """Add the command of this file."""
    parser = commands.add_parser(
        "explain-positions", help="print which tokens an intervention touches, by its positions"
    )
    parser.add_argument("prompts", nargs="*", default=[_PROMPT], metavar="PROMPT", help="one row of a batch each")
    parser.add_argument("--continuation", default=_CONTINUATION, help="what is generated, or scored, after each prompt")
    parser.add_argument("--model", help="whose tokenizer to use, a folder or a hub id; without, a token is a word")
    parser.add_argument("--positions", nargs="+", help="of all, generation, last; without, all three")
    parser.set_defaults(run=command)


def command(arguments: argparse.Namespace) -> int:
    """Print one table for generating and one for scoring."""
    from detox.errors import InputError, require_known
    from detox.models.announcements import POSITIONS

    chosen = arguments.positions or list(POSITIONS)
    for name in chosen:
        require_known("positions", name, POSITIONS)
    split = _tokenizer(arguments.model)
    rows = [(split(prompt, True), split(arguments.continuation, False)) for prompt in arguments.prompts]
    if any(not prompt or not continuation for prompt, continuation in rows):
        raise InputError("a prompt or the continuation has no tokens; expected at least one of each")
    print("+ touched, . not touched. The token that a position predicts is the next one, so the first generated token")
    print("is steered where the last token of the prompt is touched.")
    print("\nGenerating: prompts padded on the left, then one token at a time")
    _table(rows, chosen, side="left")
    print("\nScoring a continuation: everything at once, padded on the right")
    _table(rows, chosen, side="right")
    return 0


def _tokenizer(model: str | None) -> Any:
    if model is None:
        return lambda text, begins: text.split()
    from transformers import AutoTokenizer

    from detox.errors import InputError

    try:
        tokenizer = AutoTokenizer.from_pretrained(model)
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise InputError(f"cannot load a tokenizer from {model}: {first}") from error

    def split(text: str, begins: bool) -> list[str]:
        # What a tokenizer puts before a text is prompt, and touched like the rest of it.
        return [tokenizer.decode([token]) for token in tokenizer(text, add_special_tokens=begins)["input_ids"]]

    return split


def _table(rows: list[tuple[list[str], list[str]]], positions: list[str], *, side: str) -> None:
    import torch

    from detox.models.announcements import Announcement

    # What is drawn, or predicted, last is never fed to the model.
    longest = max(len(prompt) for prompt, _ in rows)
    lines = []
    for prompt, continuation in rows:
        if side == "left":
            lines.append(["<pad>"] * (longest - len(prompt)) + prompt + continuation[:-1])
        else:
            lines.append(prompt + continuation[:-1] + ["<pad>"] * (longest - len(prompt)))
    width = len(lines[0])
    known = longest if side == "left" else width
    held = [
        ([False] * (longest - len(p)) + [True] * len(p)) if side == "left" else [True] * (len(p) + len(c) - 1)
        for p, c in rows
    ]
    mask = torch.tensor([one + [False] * (known - len(one)) for one in held])
    ends = torch.tensor([longest if side == "left" else len(prompt) for prompt, _ in rows])
    passes = [Announcement(mask, ends)]
    if side == "left":
        passes += [Announcement(mask, ends, columns=column + 1) for column in range(longest, width)]
    lengths = [known] + [1] * (len(passes) - 1)
    touched = {
        name: torch.cat([_where(one, length, name) for one, length in zip(passes, lengths, strict=True)], dim=1)
        for name in positions
    }
    label = max(map(len, ["kind", *positions]))
    for row, line in enumerate(lines):
        kinds = [
            "pad" if column < known and not mask[row, column] else "prompt" if column < int(ends[row]) else "generated"
            for column in range(width)
        ]
        shown = [repr(token)[1:-1] for token in line]
        widths = [max(len(token), len(kind)) for token, kind in zip(shown, kinds, strict=True)]
        print()
        for name, cells in (("", shown), ("kind", kinds), *((n, _marks(touched[n][row])) for n in positions)):
            print("  ".join([name.ljust(label), *(c.ljust(w) for c, w in zip(cells, widths, strict=True))]).rstrip())


def _where(announcement: Any, length: int, positions: str) -> Any:
    import torch

    where = announcement.acts(length, positions)
    return torch.ones(announcement.attention_mask.shape[0], length, dtype=torch.bool) if where is None else where


def _marks(row: Any) -> list[str]:
    return ["+" if touched else "." for touched in row.tolist()]
