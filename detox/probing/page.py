"""One HTML page of what probes found: figures, tables, and texts coloured by how a direction reads them.

The page is one file. It holds no script and asks the network for nothing; its content security policy forbids both, so that a text
cannot make it. Characters that one does not see, or that turn the direction of writing, are shown by their number.
"""

from __future__ import annotations

import base64
import os
import unicodedata
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from detox.files import write_text
from detox.probing.comparison import BaseComparison, Sides
from detox.probing.measurement import BaseProbes
from detox.probing.sites import SiteProbes
from detox.probing.tokens import TokenReading, site_name
from detox.statistics import Estimate

_STRONGEST = 3.0  # sigma at which a colour is full
_CAPTIONS = {
    "heads": "Accuracy of a linear probe on each head, on held-out texts. Its numbers are in probing.json.",
    "layers": "Accuracy of a linear probe on the residual stream, layer by layer.",
    "distribution": "Distribution of the heads' accuracies. A fat right tail is a curve that stays above the others on the right.",
    "entanglement": "How much the direction of toxicity shares with that of the feature nearest to it: 0 nothing, 1 all. "
    "Bars: the same for shuffled labels, which is what a number must be compared with.",
    "covariates": "What length, profanity and topic explain of the best head's direction, and what is left of its probe.",
}
_STYLE = """
:root { color-scheme: light dark; --ink: #1a1a1a; --page: #fff; --soft: #f3f3f3; --line: #ccc; --toxic: 213,94,0; --safe: 0,114,178; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8e8; --page: #161616; --soft: #242424; --line: #4a4a4a; --toxic: 200,90,10; --safe: 30,110,190; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 64rem; padding: 1rem; color: var(--ink); background: var(--page); font: 1rem/1.5 system-ui, sans-serif; }
h1, h2, h3 { line-height: 1.2; overflow-wrap: anywhere; }
figure { margin: 1rem 0; }
figure img { display: block; max-width: 100%; height: auto; background: #fff; border-radius: .3rem; }
@media (max-width: 40rem) { figure img { max-width: none; width: 38rem; } }
figcaption { font-size: .9rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; text-align: left; white-space: nowrap; border-bottom: 1px solid var(--line); vertical-align: top; }
details { margin: .5rem 0; border: 1px solid var(--line); border-radius: .3rem; background: var(--soft); }
summary { padding: .5rem .75rem; cursor: pointer; overflow-wrap: anywhere; }
summary:focus-visible, .wide:focus-visible { outline: 3px solid rgb(var(--safe)); outline-offset: 2px; }
details > div { padding: 0 .75rem .75rem; }
.text { overflow: hidden; overflow-wrap: anywhere; white-space: pre-wrap; line-height: 1.9; margin: .2rem 0 1rem; }
.text bdi { border-radius: .15rem; padding: .1rem 0; unicode-bidi: isolate; }
.site { margin: .6rem 0 0; font-size: .85rem; }
.seen { font-size: .75em; border: 1px solid var(--line); border-radius: .2rem; padding: 0 .15rem; }
.key span { padding: .1rem .4rem; border-radius: .15rem; }
""".strip()


def write_page(
    path: str | os.PathLike[str],
    sides: Sides,
    comparisons: Sequence[BaseComparison] = (),
    *,
    figures: Mapping[str, Path] | None = None,
    readings: Mapping[str, Sequence[TokenReading]] | None = None,
    title: str = "What the heads know of toxicity",
) -> Path:
    """Write the page, whole or not at all.

    Args:
        path: of the HTML file.
        sides: label -> measurements of one base, or of several seeds of one way of training.
        comparisons: of the sides.
        figures: name -> SVG, as `draw_figures` gives them; they are put into the page.
        readings: name of a base -> texts as its directions read them. Texts of all labels are hidden until asked for.
        title: of the page.

    Raises:
        OutputError: the place cannot be written.
    """
    first = next(iter(sides.values()))[0]
    data = first.data
    parts = [
        f"<h1>{visible(title)}</h1>",
        f"<p>{data['texts']} texts ({data['toxic']} toxic) in {data['groups']} groups, {len(first.labels)} held out; "
        "each is read at its last token. A probe is a logistic regression on one head, or on the residual stream after a layer. "
        "Intervals are 95 %, over held-out texts. Of a head that is the best of many, accuracy is flattered by luck: "
        "<em>selected</em> is that of a head chosen on the other half of the held-out texts, and p is against the best of all heads "
        "where labels are shuffled.</p>",
        "<h2>Bases</h2>",
        _table(*_bases(sides)),
    ]
    for name, svg in (figures or {}).items():
        parts.append(_figure(name, svg))
        if name == "distribution" and comparisons:
            parts += [f"<h2>Against {visible(comparisons[0].a)}</h2>", *(_comparison(one) for one in comparisons)]
        if name == "covariates":
            parts += ["<h2>Probes and what else explains them</h2>", _table(*_covariates(sides))]
    if readings:
        parts += [_key(), *_texts(readings)]
    body = "\n".join(parts)
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    page = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{escape(title)}</title>\n<link rel="icon" href="data:,">\n<style>\n{_STYLE}\n</style>\n</head>\n'
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )
    return write_text(path, page)


def visible(text: str) -> str:
    """`text` as HTML in which nothing acts: markup is escaped, invisible characters and turns of direction become their numbers.

    Line breaks stay and are marked; blanks and tabulators stay.
    """
    shown = []
    for character in text:
        if character == "\n":
            shown.append('<span class="seen">↵</span>\n')
        elif character == "\t" or (unicodedata.category(character)[0] != "C" and character not in "\u2028\u2029"):
            shown.append(escape(character))
        else:
            shown.append(f'<span class="seen">U+{ord(character):04X}</span>')
    return "".join(shown)


def _figure(name: str, svg: Path) -> str:
    caption = _CAPTIONS.get(name, name)
    encoded = base64.b64encode(svg.read_bytes()).decode("ascii")
    return (
        f'<figure><div class="wide" tabindex="0"><img alt="{escape(caption)}" src="data:image/svg+xml;base64,{encoded}"></div>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells are HTML already."""
    top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    lines = "".join(
        f'<tr><th scope="row">{first}</th>' + "".join(f"<td>{cell}</td>" for cell in rest) + "</tr>"
        for first, *rest in rows
    )
    # A table that is wider than a phone scrolls by itself, also by keyboard.
    return f'<div class="wide" tabindex="0"><table><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table></div>'


def _bases(sides: Sides) -> tuple[list[str], list[list[str]]]:
    head = ["base", "best head", "accuracy", "p", "selected", "better than chance", "best layer", "accuracy", "p"]
    rows = []
    for label, base in _named(sides):
        heads, layers = base.heads, base.layers
        rows.append(
            [
                visible(label),
                site_name("heads", *heads.best),
                _best(heads),
                _p(float(heads.p[heads.best])),
                _estimate(heads.selected_accuracy),
                f"{int((heads.p <= 0.05).sum())} of {heads.p.size} heads",
                site_name("layers", *layers.best),
                _best(layers),
                _p(float(layers.p[layers.best])),
            ]
        )
    return head, rows


def _covariates(sides: Sides) -> tuple[list[str], list[list[str]]]:
    named = _named(sides)
    rows = []
    for key in named[0][1].heads.best_auc:
        rows.append([f"AUC of the best head: {escape(key)}", *(_estimate(b.heads.best_auc[key]) for _, b in named)])
    for key in named[0][1].covariates_auc:
        rows.append([f"AUC of {escape(key)} alone", *(_estimate(b.covariates_auc[key]) for _, b in named)])
    for key in named[0][1].heads.explained:
        cells = []
        for _, base in named:
            value, low, high = base.heads.explained[key][(slice(None), *base.heads.best)]
            cells.append(f"{value:.3f} [{low:.3f}, {high:.3f}]")
        rows.append([f"R² of the direction: {escape(key)}", *cells])
    return ["", *(visible(label) for label, _ in named)], rows


def _comparison(one: BaseComparison) -> str:
    parts = [f"<h3>{visible(one.b)}</h3>"]
    if one.heads is not None:
        tests = "".join(f"<li>{escape(str(test))}</li>" for test in one.heads.tests.values())
        parts.append(f"<p>Mean gain over heads: {one.heads.gain:+.2f} accuracy points.</p><ul>{tests}</ul>")
    head = ["shape of the distribution", visible(one.a), visible(one.b), "difference", "p over texts", "p over seeds"]
    rows = [
        [escape(name), _estimate(t.a), _estimate(t.b), _estimate(t.difference), _p(t.p_texts), _p(t.p_seeds)]
        for name, t in one.tails.tests.items()
    ]
    parts.append(_table(head, rows))
    if one.entanglement:
        head = ["entanglement of toxicity", visible(one.a), visible(one.b), "difference", "shuffled", "p over seeds"]
        rows = [
            [
                escape(name), _estimate(t.a), _estimate(t.b), _estimate(t.difference),
                f"{t.a_shuffled:.3f}, {t.b_shuffled:.3f}", _p(t.p_seeds),
            ]
            for name, t in one.entanglement.items()
        ]  # fmt: skip
        parts.append(_table(head, rows))
    parts.append(f"<p>A head counts as above where its accuracy is at least {one.tails.threshold:.3f}.</p>")
    return "".join(parts)


def _key() -> str:
    steps = [(-3, "safe"), (-1.5, ""), (1.5, ""), (3, "toxic")]
    shown = " ".join(f'<span style="{_colour(z)}">{z:+g} σ {word}</span>' for z, word in steps)
    return (
        "<h2>Texts, token by token</h2><p>The colour of a token is its projection on the direction, in standard deviations from "
        "halfway between the classes. Directions are made at last tokens; what they say of others is an extrapolation. "
        "Texts are from the held-out part of the data; some are offensive, and each is hidden until it is opened.</p>"
        f'<p class="key">{shown}</p>'
    )


def _texts(readings: Mapping[str, Sequence[TokenReading]]) -> list[str]:
    texts = list(dict.fromkeys(reading.id for rows in readings.values() for reading in rows))
    parts = []
    for id in texts:
        same = [(name, reading) for name, rows in readings.items() for reading in rows if reading.id == id]
        label = {1: "Toxic text (offensive; open to read)", 0: "Text that is not toxic"}.get(
            same[0][1].label or 0, "Text"
        )
        body = "".join(_reading(name, reading) for name, reading in same)
        parts.append(f"<details><summary>{label}: {visible(id)}</summary><div>{body}</div></details>")
    return parts


def _reading(name: str, reading: TokenReading) -> str:
    parts = []
    for site, values in reading.values.items():
        tokens = "".join(
            f'<bdi style="{_colour(z)}" title="{z:+.2f} σ">{visible(piece)}</bdi>'
            for piece, z in zip(reading.pieces, values, strict=True)
            if piece
        )
        last = f"{values[-1]:+.2f} σ at the last token" if values else ""
        parts.append(f'<p class="site"><b>{visible(name)}</b>, {escape(site)}: {last}</p><p class="text">{tokens}</p>')
    # The numbers behind the colours, for who does not see colours or has no mouse to point with.
    rows = [
        [f"<bdi>{visible(piece)}</bdi>", *(f"{z:+.2f}" for z in numbers)]
        for piece, *numbers in zip(reading.pieces, *reading.values.values(), strict=True)
    ]
    table = _table(["token", *(escape(site) for site in reading.values)], rows)
    parts.append(f"<details><summary>{visible(name)}: the numbers, in σ</summary><div>{table}</div></details>")
    return "".join(parts)


def _colour(z: float) -> str:
    strength = min(abs(z) / _STRONGEST, 1.0) * 0.6
    return f"background:rgba(var(--{'toxic' if z > 0 else 'safe'}),{strength:.2f})"


def _named(sides: Sides) -> list[tuple[str, BaseProbes]]:
    return [
        (label if len(side) == 1 else f"{label}, {number + 1} of {len(side)}", base)
        for label, side in sides.items()
        for number, base in enumerate(side)
    ]


def _best(site: SiteProbes) -> str:
    at = site.best
    return f"{site.accuracy[at]:.3f} [{site.low[at]:.3f}, {site.high[at]:.3f}]"


def _estimate(estimate: Estimate) -> str:
    if estimate.value != estimate.value:
        return "–"
    return escape(str(estimate)) if estimate.low == estimate.low else f"{estimate.value:.3f}"


def _p(value: float) -> str:
    return "–" if value != value else "&lt; .001" if value < 0.001 else f"{value:.3f}"
