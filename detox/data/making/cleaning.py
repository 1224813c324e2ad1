"""From what a model answered to the paraphrase in it, or the reason why there is none."""

from __future__ import annotations

import re

EMPTY, REFUSED, UNFINISHED = "empty", "refused", "unfinished"
PROBLEMS = (EMPTY, REFUSED, UNFINISHED)

CONTENT_FILTER = "content_filter"
"""The finish reason of an answer that the endpoint itself held back."""

_LIST_MARK = re.compile(r"^(?:[-*•]|\d{1,2}[.)])\s+")
_LABEL = re.compile(
    r"^[\s*_#]*(?:toxic |safe )?(?:paraphrased?|rewritten|response|answer)(?: (?:sentence|text|version))?[\s*_]*:[\s*_]*",
    re.IGNORECASE,
)
_QUOTES = {'"': '"', "“": "”", "'": "'", "‘": "’", "`": "`", "«": "»"}
_REFUSAL = re.compile(
    r"""\b(?:can(?:'|’)?t|cannot|can\ not|won(?:'|’)?t|will\ not|unable\ to|not\ able\ to|not\ comfortable|must\ decline)\s+
        (?:\w+\s+){0,3}?(?:assist|help|comply|fulfil+|provide|generat\w+|creat\w+|writ\w+|produc\w+|rewrit\w+|paraphras\w+|engag\w+)\b
      | \bas\ an\ ai\b""",
    re.IGNORECASE | re.VERBOSE,
)
_SENTENCES = re.compile(r".*[.!?…][\"'”’)]*(?=\s|$)")
_REFUSAL_WITHIN = 120  # characters: what a sentence says later on is its own matter


def paraphrase_in(answer: str, finish_reason: str, *, cut_off: str = "sentences") -> tuple[str, str | None]:
    """The paraphrase that an answer holds.

    Models explain, quote, number and go on: only the first line that is a sentence counts. What stands before `</think>`, after a
    line that ends with a colon, in quotes, behind a list mark or a label such as "Paraphrase:", is unwrapped.

    Args:
        answer: as the model wrote it.
        finish_reason: "length" where the model was cut off.
        cut_off: of a line that was cut off, "sentences" keeps the whole ones; "refused" keeps nothing, where what is left out would
            count.

    Returns:
        (text, None), or ("", reason) with one of `PROBLEMS`.
    """
    if finish_reason == CONTENT_FILTER:
        return "", REFUSED
    thought, ended_thinking, _ = answer.rpartition("</think>")
    if "<think>" in answer and not ended_thinking:
        return "", UNFINISHED
    text = answer[len(thought) + len(ended_thinking) :].lstrip()
    cut = text.find("###", 1)  # the frame's next turn
    ended = finish_reason != "length" or cut > 0
    lines = [line.strip() for line in (text[:cut] if cut > 0 else text).splitlines()]
    lines = [line for line in lines if line.strip("#*_`-= ")]
    if len(lines) > 1 and lines[0].endswith(":"):
        lines = lines[1:]
    if not lines:
        return "", EMPTY
    found = _unwrapped(lines[0])
    if not found:
        return "", EMPTY
    if _REFUSAL.search(found[:_REFUSAL_WITHIN]):
        return "", REFUSED
    if len(lines) == 1 and not ended:
        # A model that never ends its text has all the same written whole sentences before it was cut off.
        whole = None if cut_off == "refused" else _SENTENCES.match(found)
        return (whole.group().strip(), None) if whole else ("", UNFINISHED)
    return found, None


def _unwrapped(line: str) -> str:
    found = " ".join(line.split())
    while True:
        before = found
        found = _LABEL.sub("", _LIST_MARK.sub("", found)).strip()
        closing = _QUOTES.get(found[:1])
        if closing and len(found) > 1 and found.endswith(closing) and closing not in found[1:-1]:
            found = found[1:-1].strip()
        if found == before:
            return found
