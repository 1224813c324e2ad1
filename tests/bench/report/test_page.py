"""The page as text; `test_page_in_browser` looks at it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest

from detox.bench.report import read_results, report_data
from detox.bench.report.page import render
from tests.bench.report.synthetic import write_results
from tests.conftest import REPOSITORY

VOID = {"meta", "link", "input", "br", "wbr", "hr", "img"}


class Page(HTMLParser):
    """Tags must close in order, and none may be a stranger's."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.attributes, self.blocks, self.rows = [], [], [], {}, []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append("")

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("script", "style"):
            self.blocks.setdefault(self.open[-1], []).append(data)
        elif self.rows:
            self.rows[-1] += data


@pytest.fixture(scope="module")
def hostile_html(hostile_data):
    return render(hostile_data)


def test_the_policy_allows_our_script_and_style_and_nothing_else(hostile_html):
    page = Page(hostile_html)
    policy = next(value for tag, key, value in page.attributes if tag == "meta" and value and "default-src" in value)
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    style, (data, script) = page.blocks["style"][0], page.blocks["script"]
    for kind, block in (("style", style), ("script", script)):
        digest = base64.b64encode(hashlib.sha256(block.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert json.loads(data)["cells"]


def test_strangers_text_is_text(hostile_html):
    page = Page(hostile_html)
    assert page.tags.count("script") == 2
    assert not {"iframe", "img", "object", "embed", "form", "base"} & set(page.tags)
    assert page.tags.count("h1") == 1
    assert page.tags.count("main") == 1
    for tag, key, value in page.attributes:
        assert not key.startswith("on"), (tag, key)
        assert key != "style"
        if key in ("href", "src"):
            assert value.startswith("#") or value == "data:,"
    assert "{{ 7 * 7 }}" in json.dumps(json.loads(page.blocks["script"][0])["samples"])
    # Nothing that turns or hides, anywhere in the file.
    assert not set(hostile_html) & set("\u202e\u202c\u2066\u2069\u200b\u200d\ufeff\x00\x07\x1b\u2028\r")
    assert "⟨U+202E⟩" in hostile_html


def test_every_cell_is_a_row_and_every_hole_has_its_reason(hostile_html, hostile_data):
    rows = Page(hostile_html).rows
    for cell in hostile_data["cells"]:
        if cell["role"] != "control" and cell["toxicity_change"]:
            value = f"{cell['toxicity_change'][0]:+.3f}"
            assert any(cell["label"] in row and value in row for row in rows)
    assert any("not measured: the grid did not ask for" in row for row in rows)
    assert any("RuntimeError" in row for row in rows)


def test_the_same_records_give_the_same_page(hostile_data, hostile_html):
    assert render(hostile_data) == hostile_html


def test_a_page_without_texts_says_so_and_holds_none(tmp_path):
    kept = render(report_data(read_results(write_results(tmp_path / "kept"))))
    assert "Texts of 7 cells were kept" in kept
    assert "sample 3 of prompt" not in kept
    dropped = render(report_data(read_results(write_results(tmp_path / "dropped", texts=False)), texts=True))
    assert "No texts were kept" in dropped


@pytest.mark.slow
@pytest.mark.parametrize("name", ["demo", "iti", "rewriting", "slung-dose"])
def test_committed_records_make_a_page(name):
    data = report_data(read_results(REPOSITORY / "benchmarks" / "results" / name))
    html = render(data)
    page = Page(html)
    assert len(page.rows) > len(data["cells"])
    shown = re.sub(r"<(script|style).*?</\1>|<button.*?</button>", "", html, flags=re.DOTALL)
    assert not re.search(r"\bnan\b|Undefined|None", shown)


@pytest.mark.slow
def test_the_base_against_itself_and_controls_are_not_counted_as_methods(hostile_html):
    assert "7 cells: 2 bases, 2 methods, 1 control;" in hostile_html
    demo = render(report_data(read_results(REPOSITORY / "benchmarks" / "results" / "demo")))
    assert "64 cells: 4 bases, 5 methods, 3 controls, the base against itself (A/A);" in demo
