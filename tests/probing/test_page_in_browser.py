"""The page in a real browser: Debian's chromium, driven by playwright; skipped where one of them is absent."""

from __future__ import annotations

import pytest

from tests.probing.test_page import HOSTILE, hostile_page  # noqa: F401

pytestmark = pytest.mark.slow


@pytest.fixture
def opened(new_page, hostile_page):  # noqa: F811
    def open_page(**options):
        page = new_page(**options)
        page.goto(hostile_page.as_uri())
        return page

    return open_page


def test_it_loads_in_silence_and_texts_are_hidden_until_they_are_asked_for(opened):
    page = opened()
    assert page.title() == "What the heads know of toxicity"
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 100)")
    texts = page.locator("main > details")
    assert texts.count() == len(HOSTILE)
    assert page.locator("details[open]").count() == 0
    assert not page.locator(".text").first.is_visible()
    texts.nth(1).locator("> summary").click()
    assert texts.nth(1).locator(".text").is_visible()
    assert not texts.nth(2).locator(".text").is_visible()
    # By keyboard: Tab comes to a summary, Enter opens it.
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")  # past the numbers of the text that is open
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    assert texts.nth(2).locator(".text").is_visible()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY"
    page.keyboard.press("Enter")
    assert texts.nth(2).locator("details").evaluate("node => node.open")
    assert texts.nth(2).locator("td").first.is_visible()


def test_hostile_texts_are_text(opened):
    page = opened()
    page.evaluate("document.querySelectorAll('details').forEach(node => node.open = true)")
    assert page.title() == "What the heads know of toxicity"
    assert page.evaluate("document.scripts.length") == 0
    assert page.locator("iframe, main svg, main a, main b:not(.site b), h1:not(main > h1:first-child)").count() == 0
    shown = page.locator("main > details .text").all_inner_texts()
    assert [text.replace("↵\n", "↵") for text in shown[:4]] == list(HOSTILE[:4])
    assert "U+202Etxet desreverU+202C" in shown[5]
    assert "U+0000" in shown[6]
    assert "U+D800" in shown[9]
    for text in shown:
        assert not set(text) & set("\u202e\u200b\x00\x07\x1b\u2028")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read_in_light_and_dark(opened, scheme):
    page = opened(color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach(node => node.open = true)")
    contrast = page.evaluate(CONTRAST)
    assert len(contrast) > 20
    assert min(contrast) >= 4.5  # WCAG 2.2, 1.4.3
    back = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (back == "rgb(255, 255, 255)") == (scheme == "light")


@pytest.mark.parametrize("width", [320, 375])
def test_a_phone_scrolls_in_one_direction(opened, width):
    page = opened(viewport={"width": width, "height": 700})
    page.evaluate("document.querySelectorAll('details').forEach(node => node.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("parseFloat(getComputedStyle(document.body).fontSize)") >= 16


# Contrast of every token with its colour laid over what is behind it.
CONTRAST = """
() => {
  const read = text => text.match(/[\\d.]+/g).map(Number);
  const light = rgb => {
    const [r, g, b] = rgb.map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  return [...document.querySelectorAll('.text bdi, .key span, p, td, summary')].map(node => {
    let layers = [];
    for (let at = node; at; at = at.parentElement) layers.push(read(getComputedStyle(at).backgroundColor));
    let back = [255, 255, 255];
    for (const [r, g, b, a = 1] of layers.reverse()) back = back.map((v, i) => v * (1 - a) + [r, g, b][i] * a);
    const [high, low] = [light(read(getComputedStyle(node).color).slice(0, 3)), light(back)].sort((x, y) => y - x);
    return (high + .05) / (low + .05);
  });
}
"""
