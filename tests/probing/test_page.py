"""The page as text; `test_page_in_browser` looks at it."""

from __future__ import annotations

import re
import unicodedata
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detox.probing.measurement import measure_base
from detox.probing.page import visible, write_page
from detox.probing.sites import ProbeSettings
from detox.probing.texts import probe_texts
from detox.probing.tokens import TokenReading

HOSTILE = (
    "<script>document.title='ran'</script>",
    "<img src=x onerror=\"document.title='ran'\">",
    '"><svg onload=alert(1)>',
    "</bdi></details></main><h1>out</h1>",
    "<a href='javascript:alert(1)'>x</a><iframe src=https://example.org></iframe>",
    "safe \u202etxet desrever\u202c \u2066isolated\u2069 \u200bzero\u200d width\ufeff",
    "null\x00bell\x07escape\x1b[31m\r\nline\u2028separator",
    "&lt;b&gt; &amp;amp; &#60;script&#62;",
    "<!-- comment --> ]]> <![CDATA[ x ]]>",
    "lone \ud800 surrogate",
)


class Text(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.text = [], ""

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def parsed(html):
    parser = Text()
    parser.feed(html)
    parser.close()
    return parser


def back(html):
    """The text that `visible` shows, with what it numbered put back."""
    numbered = re.sub(r'<span class="seen">U\+([0-9A-F]+)</span>', lambda m: chr(int(m[1], 16)), html)
    return unescape(numbered.replace('<span class="seen">↵</span>', ""))


@given(st.text(st.characters(codec=None), max_size=40))
def test_any_text_is_shown_whole_and_inert(text):
    html = visible(text)
    found = parsed(html)
    assert all(tag == ("span", {"class": "seen"}) for tag in found.tags)
    assert back(html) == text
    for character in html:
        assert character in "\n\t" or unicodedata.category(character)[0] != "C"
    assert not set(html) & set("\u2028\u2029")


def hostile_readings():
    rows = []
    for number, text in enumerate(HOSTILE):
        pieces = tuple(text[i : i + 9] for i in range(0, len(text), 9))
        values = {"layer 0, head 1": tuple(np.linspace(-4, 4, len(pieces)).tolist())}
        rows.append(
            TokenReading(id=text if number % 2 else f"text {number}", label=number % 2, pieces=pieces, values=values)
        )
    return {"<b onclick=alert(1)>base": rows}


@pytest.fixture(scope="session")
def hostile_page(planted, tmp_path_factory):
    """A page whose labels, ids and texts are all hostile."""
    from detox.probing.comparison import compare_bases
    from detox.probing.figures import draw_figures

    folder = tmp_path_factory.mktemp("page")
    base = measure_base(planted.lm, probe_texts(planted.contrasts), ProbeSettings(heldout=0.3, draws=50), name="x")
    sides = {"<b onclick=alert(1)>base": [base], "--></svg><script>document.title='ran'</script>$\\frac": [base, base]}
    figures = draw_figures(sides, folder / "figures")
    return write_page(
        folder / "probing.html", sides, compare_bases(sides), figures=figures, readings=hostile_readings()
    )


@pytest.mark.slow
def test_nothing_that_comes_from_outside_becomes_markup(hostile_page):
    html = hostile_page.read_text()
    found = parsed(html)
    tags = {tag for tag, _ in found.tags}
    assert not tags & {"script", "iframe", "svg", "object", "embed", "form", "base", "a"}
    for tag, attributes in found.tags:
        assert not any(name.startswith("on") for name in attributes), tag
        for name in ("src", "href"):
            assert attributes.get(name, "data:").startswith("data:")
    assert [tag for tag, _ in found.tags].count("main") == 1
    policy = next(a["content"] for t, a in found.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    assert "script" not in policy
    assert not any(unicodedata.category(c) == "Cf" for c in html)
    for text in HOSTILE[:5]:
        assert text.replace("'", "&#x27;")[:9].replace("<", "&lt;").replace('"', "&quot;").replace(">", "&gt;") in html


@pytest.mark.slow
def test_every_text_is_closed_and_every_picture_has_words(hostile_page):
    found = parsed(hostile_page.read_text())
    details = [attributes for tag, attributes in found.tags if tag == "details"]
    assert len(details) == 2 * len(HOSTILE)  # each text, and its numbers
    assert not any("open" in attributes for attributes in details)
    images = [attributes for tag, attributes in found.tags if tag == "img"]
    assert len(images) == 5
    assert all(len(image["alt"]) > 20 for image in images)
