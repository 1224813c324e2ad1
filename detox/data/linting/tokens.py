"""What a tokenizer makes of prompts and continuations: where they meet, how long they are, how they end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from detox.data.contrasts import Contrast
from detox.data.linting.confounds import ends_a_sentence
from detox.data.linting.findings import Finding, Side, few, sides
from detox.errors import InputError
from detox.models.tokenization import encode_texts

_PILE = 5  # texts of the greatest length that are no chance


def find_token_faults(
    contrasts: Sequence[Contrast], tokenizer: Any, *, context: int | None = None, expect_eos: bool = False
) -> list[Finding]:
    """Faults that only this tokenizer's tokens show.

    - no token of its own: the continuation merges with its prompt and cannot be scored.
    - merged tokens: the prompt's tokens are not those that prompt and continuation begin with, so that a model is asked something
      else when it generates than it was trained on.
    - blank before the continuation: the same, only because the prompt ends in a blank; the rulers here give it to the continuation.
    - too long: more tokens than the model's context.
    - cut at a limit: many continuations have exactly the greatest number of tokens and no end mark.
    - no EOS: the continuation does not end in the end token, though that is expected.
    - EOS on some only: nobody said that it is expected, and some continuations end in it.

    Args:
        contrasts: of one file.
        tokenizer: transformers' own.
        context: the model's greatest number of tokens; None leaves it out.
        expect_eos: every continuation must end in the end token as text.

    Raises:
        InputError: an end token is expected of a tokenizer that has none.
    """
    end = tokenizer.eos_token_id
    if expect_eos and end is None:
        raise InputError("an end token is expected, but the tokenizer has none; leave expect_eos out")
    texts = list(sides(contrasts))
    prompts = {one.prompt for one in contrasts} | {one.prompt.rstrip() for one in contrasts}
    starts = dict(zip(sorted(prompts), encode_texts(tokenizer, sorted(prompts)), strict=True))
    wholes = encode_texts(tokenizer, [side.whole for side in texts])
    none: list[Side] = []
    merged: list[Side] = []
    blank: list[Side] = []
    long: list[Side] = []
    open_end: list[Side] = []
    lengths = []
    for side, whole in zip(texts, wholes, strict=True):
        prompt = side.contrast.prompt
        start, bare = starts[prompt], starts[prompt.rstrip()]
        lengths.append(len(whole) - len(bare))
        if prompt and len(whole) <= len(bare):
            none.append(side)
        elif prompt and whole[: len(start)] != start:
            (blank if prompt != prompt.rstrip() and whole[: len(bare)] == bare else merged).append(side)
        if context is not None and len(whole) > context:
            long.append(side)
        if end is not None and whole[-1:] != [end]:
            open_end.append(side)
    if not expect_eos and len(open_end) == len(texts):
        open_end = []
    limit = _limit(texts, lengths)
    found: list[tuple[str, str, list[Side], str, str]] = [
        ("no token of its own", "error", none, "", "begin the continuation with a blank, or take a tokenizer that keeps them apart"),
        ("too long", "error", long, f"context {context}", "shorten these; what is beyond the context is cut off or refused"),
        ("no EOS" if expect_eos else "EOS on some only", "error" if expect_eos else "warning", open_end,
         "do not end in it",
         f"end every continuation in {tokenizer.eos_token!r}, or none"),
        ("merged tokens", "warning", merged, "", "begin the continuation at a word, with its blank"),
        ("blank before the continuation", "warning", blank, "", "move the blank from the prompt's end to the continuation's start"),
        ("cut at a limit", "warning", limit, f"{max(lengths, default=0)} tokens each",
         "cut back to the last whole sentence, or generate more tokens"),
    ]  # fmt: skip
    return [
        Finding(
            check=check,
            severity=severity,
            count=len(members),
            of=len(texts),
            examples=few(side.contrast.id for side in members),
            detail=detail,
            advice=advice,
        )
        for check, severity, members, detail, advice in found
        if members
    ]


def _limit(texts: Sequence[Side], lengths: Iterable[int]) -> list[Side]:
    """The continuations of the greatest length, where there are too many of them and they do not end."""
    numbers = list(lengths)
    counts = Counter(numbers)
    if len(counts) < 2:
        return []
    greatest = max(counts)
    near = range(greatest - max(3, greatest // 10), greatest)
    shorter = max(counts[length] for length in near)
    open_ones = [s for s, n in zip(texts, numbers, strict=True) if n == greatest and not ends_a_sentence(s.text)]
    return open_ones if len(open_ones) >= max(_PILE, 2 * shorter) else []
