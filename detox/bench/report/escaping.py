"""Strangers' text made harmless: what one does not see, or what turns the direction of writing, is shown by its number.

All text of a page passes here once, before it is put into markup or data. What is left to do then is what the places themselves
ask for: the template escapes markup, and `data_block` escapes what would end a script element.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from typing import Any

_INFINITY, _NEGATIVE = json.dumps("\0+"), json.dumps("\0-")

# Quick refusal of what cannot be in need: printable ASCII, line feed and tabulator.
_PLAIN = re.compile(r"[\n\t\x20-\x7e]*")


def plain_visible(text: str) -> str:
    """`text` without characters that act or hide: each becomes `⟨U+202E⟩`. Line feeds and tabulators stay."""
    if _PLAIN.fullmatch(text):
        return text
    return "".join(
        character
        if character in "\n\t" or (unicodedata.category(character)[0] != "C" and character not in "\u2028\u2029")
        else f"⟨U+{ord(character):04X}⟩"
        for character in text
    )


def made_visible(value: Any) -> Any:
    """`plain_visible` for every string of a JSON value, names of fields too."""
    if isinstance(value, str):
        return plain_visible(value)
    if isinstance(value, dict):
        return {plain_visible(str(key)): made_visible(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [made_visible(item) for item in value]
    return value


def _marked(value: Any) -> Any:
    """Infinite numbers as strings that no other string can be: `made_visible` leaves no control character in any."""
    if isinstance(value, float) and math.isinf(value):
        return "\0+" if value > 0 else "\0-"
    if isinstance(value, dict):
        return {key: _marked(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_marked(item) for item in value]
    return value


def data_block(value: Any) -> str:
    """JSON that can stand in a script element: no `<`, `>`, `&`, and nothing outside ASCII. NaN is refused.

    Infinity is written as 1e999: JSON has no word for it, and that is a number of JSON which a browser reads as infinite.
    """
    text = json.dumps(_marked(value), separators=(",", ":"), allow_nan=False)
    text = text.replace(_INFINITY, "1e999").replace(_NEGATIVE, "-1e999")
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
