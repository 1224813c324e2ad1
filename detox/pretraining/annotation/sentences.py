"""Sentences of a text, by sentencex (Wikimedia's segmenter, about 300 languages), with their characters."""

from __future__ import annotations

import re
from importlib.metadata import version

import sentencex

from detox.errors import DataError
from detox.scorers.protocol import is_empty

SEGMENTER = {"name": "sentencex", "version": version("sentencex")}

# sentencex stops the program where a space of more than one byte stands before a full stop, and refuses halves of
# surrogate pairs. Each is replaced by one character, so that places stay places.
_UNREADABLE = re.compile("[\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ud800-\udfff]")


def sentences(text: str, *, language: str = "en") -> list[tuple[int, int]]:
    """Where the sentences of `text` are.

    White space around a sentence belongs to none: with the space, the first token of the next sentence would share a
    character with this one.

    Args:
        text: any text.
        language: code of the language whose rules end sentences; English ones for codes that sentencex does not know.

    Returns:
        Characters [start, end) of each, in order and disjoint. What they leave out is white space, and pieces without a
        visible character.

    Raises:
        DataError: the segmenter's pieces are not the text, so that places would be wrong.
    """
    plain = text if text.isascii() else _plain(text)
    pieces = sentencex.segment(language, plain)
    if "".join(pieces) != plain:
        pieces = _with_blanks(pieces, plain)
    found = []
    start = 0
    for piece in pieces:
        core = piece.strip()
        if core:
            lead = 0 if core[0] == piece[0] else len(piece) - len(piece.lstrip())
            if core[0].isprintable() or not is_empty(core):  # the first character nearly always decides
                found.append((start + lead, start + lead + len(core)))
        start += len(piece)
    return found


def _with_blanks(pieces: list[str], plain: str) -> list[str]:
    """The pieces with what is between them: of a text of more than 10,000 bytes sentencex leaves out some blank lines."""
    whole = []
    start = 0
    for piece in [*pieces, ""]:
        at = plain.find(piece, start) if piece else len(plain)
        if at < 0 or plain[start:at].strip():
            raise _not_the_text(plain, start)
        whole += [plain[start:at], piece]
        start = at + len(piece)
    return [piece for piece in whole if piece]


def _not_the_text(plain: str, start: int) -> DataError:
    return DataError(
        f"sentencex {SEGMENTER['version']} left out more than white space at character {start} of {len(plain)}; "
        "expected sentences that make up the text, use another version"
    )


def _plain(text: str) -> str:
    return _UNREADABLE.sub(_stand_in, text)


def _stand_in(match: re.Match[str]) -> str:
    character = match.group()
    if character in "\x85\u2028\u2029":
        return "\n"
    return "\ufffd" if "\ud800" <= character <= "\udfff" else " "
