from __future__ import annotations

import json
import re
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from detox.bench.report.escaping import data_block, made_visible, plain_visible

anything = st.text(st.characters(codec=None), max_size=60)


@given(anything)
def test_nothing_that_acts_is_left_and_nothing_is_lost(text):
    shown = plain_visible(text)
    for character in shown:
        assert character in "\n\t" or unicodedata.category(character)[0] != "C"
    assert not set(shown) & set("\u2028\u2029")
    if "⟨U+" not in text:
        assert re.sub("⟨U\\+([0-9A-F]+)⟩", lambda m: chr(int(m[1], 16)), shown) == text


@given(
    st.recursive(
        anything | st.integers() | st.none(),
        lambda inner: st.lists(inner) | st.dictionaries(anything, inner),
        max_leaves=8,
    )
)
def test_a_data_block_ends_no_script_and_says_the_same(value):
    block = data_block(value)
    assert not set(block) & set("<>&\u2028\u2029")
    assert block.isascii()
    assert json.loads(block) == json.loads(json.dumps(value))


def test_names_of_fields_are_made_visible_too():
    assert made_visible({"a\u202e": ["b\x00", 1, None]}) == {"a⟨U+202E⟩": ["b⟨U+0000⟩", 1, None]}
