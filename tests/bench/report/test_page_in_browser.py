"""The page in a real browser: Debian's chromium, driven by playwright; skipped where one of them is absent."""

from __future__ import annotations

import json

import pytest

from detox.bench.report import read_results, report_data, write_page
from tests.bench.report.synthetic import HOSTILE
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pages(tmp_path_factory, hostile_data, infinite_results):
    folder = tmp_path_factory.mktemp("pages")
    demo = report_data(read_results(REPOSITORY / "benchmarks" / "results" / "demo"))
    return {
        "hostile": write_page(folder / "hostile.html", hostile_data),
        "demo": write_page(folder / "demo.html", demo),
        "infinite": write_page(folder / "infinite.html", report_data(read_results(infinite_results))),
    }


@pytest.fixture
def opened(new_page, pages):
    """Opens a page of `pages` and waits until it is drawn."""

    def open_page(name="demo", **options):
        page = new_page(**options)
        page.goto(pages[name].as_uri())
        page.wait_for_selector("html[data-ready]", state="attached")
        return page

    return open_page


def test_hostile_records_do_not_run_wherever_one_clicks(opened, tmp_path):
    page = opened("hostile")
    page.evaluate("document.querySelectorAll('details').forEach(node => node.open = true)")
    page.wait_for_timeout(100)
    # Every choice of every list, then every button: samples of all cells, toxic ones too.
    for select in page.locator("main select").all():
        for value in select.evaluate("node => [...node.options].map(option => option.value)"):
            select.select_option(value)
    page.evaluate("document.querySelectorAll('#sample-list details').forEach(node => node.open = true)")
    page.wait_for_timeout(100)
    buttons = page.locator("#sample-list button")
    assert buttons.count() > 2
    while buttons.count():
        buttons.first.click()
    shown = "\n".join(page.locator("#sample-list .text").all_text_contents())
    for text in HOSTILE[:6]:
        assert text.replace("\u202e", "⟨U+202E⟩") in shown
    assert "⟨U+202E⟩txet desrever" in shown
    assert "null⟨U+0000⟩bell⟨U+0007⟩escape⟨U+001B⟩[31m⟨U+000D⟩" in shown
    assert not set(page.content()) & set("\u202e\u2066\u200b\x07\x1b\u2028")
    for circumstance in ("window.ran", "document.querySelector('iframe, img, object, form, a:not([href^=\"#\"])')"):
        assert page.evaluate(f"{circumstance} === undefined || {circumstance} === null")
    assert page.evaluate("document.scripts.length") == 2
    assert page.locator("h1").count() == 1
    page.screenshot(path=tmp_path / "hostile.png", full_page=True)
    assert (tmp_path / "hostile.png").stat().st_size > 50_000


def test_the_policy_itself_stops_what_is_put_in_later(browser, pages):
    """Were a text ever to become markup: its script, handler, style and picture would not work."""
    page = browser.new_page()
    asked = []
    page.on("request", lambda request: asked.append(request))
    page.goto(pages["demo"].as_uri())
    asked.clear()
    page.evaluate(
        """() => {
          const box = document.createElement('div');
          document.body.append(box);
          box.innerHTML = '<img src="https://example.org/x.png" onerror="window.ran = 1"><p onclick="window.ran = 2">x</p>';
          box.querySelector('p').click();
          const script = document.createElement('script');
          script.textContent = 'window.ran = 3';
          document.body.append(script);
        }"""
    )
    page.wait_for_timeout(200)
    assert page.evaluate("window.ran === undefined")
    assert [request.failure for request in asked] == ["csp"]  # the picture never left the machine
    page.close()


def test_texts_are_hidden_until_they_are_asked_for_and_toxic_ones_need_a_second_click(opened):
    page = opened("hostile")
    assert page.locator("#sample-list details").count() == len(HOSTILE)
    assert page.locator("#sample-list .text").count() == 0
    first = page.locator("#sample-list details").first  # most toxic by the base
    first.locator("summary").click()
    first.locator("button").first.wait_for()  # what opens a fold is told later
    before = first.locator(".text").count()
    first.locator("button").first.focus()
    page.keyboard.press("Enter")
    assert first.locator(".text").count() == before + 1
    # The keyboard goes on from the text, not from the top of the page.
    assert page.evaluate("document.activeElement.className") == "text"


def test_figures_say_their_values_to_mouse_and_keyboard(opened):
    page = opened()
    picture = page.locator("#pareto-plot svg")
    marks = picture.locator(".mark")
    assert marks.count() == 52  # four bases with 13 cells each; controls are not shown at first
    read = page.locator("#pareto-read")
    marks.nth(10).hover(force=True)
    assert "toxicity" in read.text_content()
    assert "[" in read.text_content()
    page.locator("#pareto-bars").focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.tagName") == "svg"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    first = read.text_content()
    page.keyboard.press("ArrowRight")
    assert read.text_content() != first
    page.keyboard.press("End")
    last = page.evaluate("document.querySelector('#pareto-plot .here').dataset.cell")
    cell = page.evaluate("JSON.parse(document.getElementById('data').textContent).cells")[int(last)]
    assert cell["cost_change"][0] == max(c["cost_change"][0] for c in page.evaluate(
        "JSON.parse(document.getElementById('data').textContent).cells") if c["cost_change"] and "(" not in c["label"])  # fmt: skip
    page.locator("#prompt-plot svg").focus()
    page.keyboard.press("End")
    assert "change" in page.locator("#prompt-read").text_content()


def test_bases_and_methods_are_chosen_for_tables_and_figures_alike(opened):
    page = opened()
    rows = page.locator("#results tbody tr:visible")
    assert rows.count() == 52
    page.locator("#filter input[value='toxic-mix']").uncheck()
    assert rows.count() == 39
    assert page.locator("#pareto-plot .mark").count() == 39
    page.locator("#filter input[value='iti (random)']").check()
    assert page.locator("#pareto-plot .mark").count() == 39  # this control was measured on the base that is off
    page.locator("#filter button", has_text="None").click()
    assert page.locator("#pareto-plot .mark").count() == 0
    page.locator("#filter button", has_text="All").click()
    assert page.locator("#pareto-plot .mark").count() == 64
    page.locator("#pareto-y").select_option("recognition/auc")
    assert "recognition/auc" in page.locator("#pareto-plot svg").text_content()


def test_tables_sort_by_their_heads(opened):
    page = opened()
    head = page.locator("#results th", has_text="clean CE")
    head.locator("button").click()
    place = head.evaluate("node => node.cellIndex")
    values = page.evaluate(
        f"[...document.querySelectorAll('#results tbody tr')].map(r => Number(r.cells[{place}].dataset.value))"
    )
    assert values == sorted(values)
    assert head.get_attribute("aria-sort") == "ascending"
    head.locator("button").click()
    values = page.evaluate(
        f"[...document.querySelectorAll('#results tbody tr')].map(r => Number(r.cells[{place}].dataset.value))"
    )
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read_in_light_and_dark(opened, scheme):
    page = opened("hostile", color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach(node => node.open = true)")
    contrast = page.evaluate(CONTRAST)
    assert len(contrast) > 200
    low = [entry for entry in contrast if entry[0] < 4.5]  # WCAG 2.2, 1.4.3
    assert low == []
    white = "rgb(255, 255, 255)"
    back = "getComputedStyle(document.body).backgroundColor"
    assert (page.evaluate(back) == white) == (scheme == "light")
    # The button goes through system, light and dark.
    page.locator("#theme").click()
    assert page.evaluate(back) == white
    page.locator("#theme").click()
    assert page.evaluate(back) != white
    page.locator("#theme").click()
    assert (page.evaluate(back) == white) == (scheme == "light")


@pytest.mark.parametrize("width", [320, 375])
@pytest.mark.parametrize("name", ["hostile", "demo"])
def test_a_phone_scrolls_in_one_direction(opened, name, width):
    page = opened(name, viewport={"width": width, "height": 700})
    page.evaluate("document.querySelectorAll('details').forEach(node => node.open = true)")
    page.wait_for_timeout(100)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("parseFloat(getComputedStyle(document.body).fontSize)") >= 16


def test_paper_is_wide_enough(opened):
    page = opened(viewport={"width": 1032, "height": 700})  # A4, landscape, margins of 12 mm
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("document.documentElement.scrollWidth") <= 1032


def test_paper_has_no_folds_and_no_texts(opened):
    page = opened("hostile")
    page.locator("#sample-list summary").first.click()
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("main details:not([open])").locator("visible=true").count() == 0
    assert page.locator("#samples").is_hidden()
    assert page.locator("#filter").is_hidden()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator("#pareto-plot svg").is_visible()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("#provenance details[open]").count() == 0


def test_without_scripts_all_tables_are_there(browser, pages):
    page = browser.new_page(java_script_enabled=False)
    page.goto(pages["demo"].as_uri())
    assert page.locator("#results tbody tr").count() == 52
    assert page.locator("noscript").count() == 1
    page.close()


def test_the_data_is_what_the_records_hold(opened, pages):
    page = opened()
    data = json.loads(page.locator("#data").text_content())
    comparison = read_results(REPOSITORY / "benchmarks" / "results" / "demo").comparison
    shown = {(cell["base"], cell["method"], cell["strength"]): cell for cell in data["cells"]}
    assert len(comparison.rows) == 48
    for row in (*comparison.rows, *comparison.noise_floor, *comparison.control_rows):
        cell = shown.pop((row.base, row.method, row.strength))
        assert cell["toxicity"][0] == pytest.approx(row.toxicity.value, rel=1e-3)
    assert shown == {}


def test_what_is_infinite_is_said_and_has_no_place_in_a_figure(opened):
    page = opened("infinite")
    data = json.loads(page.locator("#data").text_content())
    [number] = [cell["id"] for cell in data["cells"] if cell["cost_change"] and cell["cost_change"][0] == float("inf")]
    page.select_option("#pareto-x", "cost_change")
    assert "Infinite, so that it has no place here: clean + iti @ 2." in page.locator("#pareto-plot").text_content()
    drawn = [mark.get_attribute("data-cell") for mark in page.locator("#pareto-plot .mark").all()]
    assert drawn
    assert str(number) not in drawn
    places = page.locator("#pareto-plot svg, #curve-plots svg").evaluate_all(
        "all => all.map(one => one.outerHTML).join('')"
    )
    assert "NaN" not in places
    assert "Infinity" not in places
    assert "+∞[+∞, +∞]" in page.locator("body").text_content()


# Contrast of every text with what is behind it, and what it is.
CONTRAST = """
() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const read = text => { const found = text.match(/[\\d.]+/g).map(Number); return found.length > 3 ? found : [...found, 1]; };
  const light = rgb => {
    const [r, g, b] = rgb.map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const nodes = [...document.querySelectorAll('p, td, th, summary, small, .of, dd, dt, label, button, select, a, .good, .bad, .key span')];
  return nodes.filter(node => node.offsetParent !== null && node.textContent.trim()).map(node => {
    let layers = [];
    for (let at = node; at; at = at.parentElement) layers.push(read(getComputedStyle(at).backgroundColor));
    let back = [255, 255, 255];
    for (const [r, g, b, a] of layers.reverse()) back = back.map((v, i) => v * (1 - a) + [r, g, b][i] * a);
    const [high, low] = [light(read(getComputedStyle(node).color).slice(0, 3)), light(back)].sort((x, y) => y - x);
    return [(high + .05) / (low + .05), node.tagName, node.className, node.textContent.slice(0, 30)];
  });
}
"""
