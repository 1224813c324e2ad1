"""Strangers' text made harmless: what one does not see, or what turns the direction of writing, is shown by its number.

All text of a page passes here once, before it is put into markup or data. What is left to do then is what the places themselves
ask for: the template escapes markup, and `data_block` escapes what would end a script element.
"""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any

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


def data_block(value: Any) -> str:
    """JSON that can stand in a script element: no `<`, `>`, `&`, and nothing outside ASCII. NaN is refused."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
