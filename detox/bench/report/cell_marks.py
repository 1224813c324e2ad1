"""How numbers stand in a page: filters of its template. What comes back as markup holds numbers and words of ours only."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

from detox.evaluation.scorecard import spelled

Cell = Mapping[str, Any]
_MISSING = "missing"
_GOOD = '<span class="good" role="img" aria-label="better">▲</span> '
_BAD = '<span class="bad" role="img" aria-label="worse">▼</span> '
_WIDTH = 130  # of the drawn changes, in pixels


def _markup(text: str) -> Any:
    from markupsafe import Markup

    return Markup(text)


def fixed(value: float | None, *, sign: bool = False) -> str:
    """Three decimals, or four digits where there is much before the point."""
    if value is None or math.isnan(value):
        return _MISSING
    plus = "+" if sign else ""
    if math.isinf(value):
        return "-∞" if value < 0 else f"{plus}∞"
    return f"{value:{plus}.4g}" if abs(value) >= 1000 else f"{value:{plus}.3f}"


def signed(value: float | None) -> str:
    """The same with its sign."""
    return fixed(value, sign=True)


def number(value: float | None) -> str:
    """As short as it can be said."""
    return _MISSING if value is None else fixed(value) if math.isinf(value) else f"{value:g}"


def percent(value: float | None) -> str:
    """A share as percent, one decimal."""
    return "–" if value is None else f"{100 * value:.1f} %"


def interval(estimate: Sequence[Any] | None, *, sign: bool = False) -> str:
    """The interval alone; empty where there is none."""
    if estimate is None or estimate[0] is None or estimate[1] is None or estimate[2] is None:
        return ""
    return f"[{fixed(estimate[1], sign=sign)}, {fixed(estimate[2], sign=sign)}]"


def td(estimate: Sequence[Any] | None) -> Any:
    """A cell of a table: the value, its interval under it."""
    return _estimate_cell(estimate, sign=False, mark="")


def td_change(estimate: Sequence[Any] | None, better: int | None) -> Any:
    """The same for a change: with its sign, and marked where its interval excludes zero; without a mark where `better` is None."""
    return _estimate_cell(estimate, sign=True, mark="" if better is None else _mark(estimate, better))


def td_judged(estimate: Sequence[Any] | None, word: str) -> Any:
    """A change that has a verdict: marked where the verdict says so, which is after correction for the number of cells."""
    if word == "–":
        return _estimate_cell(estimate, sign=True, mark=_mark(estimate, -1))
    good, bad = (
        word.startswith(words) for words in (("less toxic", "better", "beats"), ("more toxic", "worse", "loses"))
    )
    if good and ", not by " in word:  # another scorer does not see it: changed, and not said to be better
        return _estimate_cell(estimate, sign=True, mark=_mark(estimate, 0))
    return _estimate_cell(estimate, sign=True, mark=_GOOD if good else _BAD if bad else "")


def _estimate_cell(estimate: Sequence[Any] | None, *, sign: bool, mark: str) -> Any:
    if estimate is None:
        return _markup("<td>–</td>")
    if estimate[0] is None:
        return _markup(f"<td>{_MISSING}</td>")
    ends = interval(estimate, sign=sign)
    small = f"<small>{ends}</small>" if ends else ""
    sorted_by = spelled(float(f"{estimate[0]:.6g}"))
    return _markup(f'<td data-value="{sorted_by}">{mark}{fixed(estimate[0], sign=sign)}{small}</td>')


def _mark(estimate: Sequence[Any] | None, better: int) -> str:
    """A sign before a change that is no chance, so that colour is not all that says it."""
    if estimate is None or estimate[0] is None or estimate[1] is None or not (estimate[1] > 0 or estimate[2] < 0):
        return ""
    if better == 0:
        return '<span role="img" aria-label="changed">◆</span> '
    gain = estimate[0] * better > 0
    return (
        '<span class="good" aria-label="better">▲</span> ' if gain else '<span class="bad" aria-label="worse">▼</span> '
    )


def td_side(cell: Cell, metric: Mapping[str, Any]) -> Any:
    """The change of one metric in one cell, for the panel of side effects; multiple choice with McNemar's test under it."""
    change = cell["changes"].get(metric["name"])
    withheld = change is not None and change["withheld"]
    made = str(td_change(None if change is None else change["estimate"], None if withheld else metric["direction"]))
    if withheld:
        made = made.removesuffix("</td>") + "<small>withheld</small></td>"
    parts = metric["name"].split("/")
    test = cell["tests"].get("/".join(parts[1:-1])) if parts[0] == "choice" and parts[-1] == "accuracy" else None
    if test is not None and test["p"] is not None:
        made = made.removesuffix("</td>") + f"<small>McNemar p {probability(test['p'])}</small></td>"
    return _markup(made)


def td_interaction(value: Mapping[str, Any]) -> Any:
    """A difference of differences with its verdict; marked only where there is one."""
    word = str(value["verdict"])
    mark = _GOOD if word.startswith("better") else _BAD if word.startswith("worse") else ""
    made = str(_estimate_cell(value["estimate"], sign=True, mark=mark))
    return _markup(made.removesuffix("</td>") + f"<small>{escape(word)}</small></td>")


def td_fine(estimate: Sequence[Any]) -> Any:
    """Small numbers with two more digits."""
    value, low, high = (_MISSING if v is None else fixed(v) if math.isinf(v) else f"{v:.5f}" for v in estimate[:3])
    return _markup(f"<td>{value}<small>[{low}, {high}]</small></td>")


def said(estimate: Mapping[str, Any] | None) -> str:
    """An estimate of a record, in one line."""
    if estimate is None or estimate["value"] is None:
        return "–"
    values = [estimate["value"], estimate["low"], estimate["high"]]
    return f"{signed(values[0])} {interval(values, sign=True)}".strip()


def probability(value: float | None) -> str:
    """A p-value."""
    return "–" if value is None else "< .001" if value < 0.001 else f"{value:.3f}"


def td_number(value: float | None) -> Any:
    """A plain number, or the word for none."""
    return _markup("<td>not recorded</td>" if value is None else f'<td data-value="{value:.6g}">{value:.3g}</td>')


def td_share(value: float | None) -> Any:
    """A share in percent."""
    return _markup("<td>–</td>" if value is None else f'<td data-value="{value:.6g}">{100 * value:.0f} %</td>')


def td_seconds(value: float | None, method: str | None) -> Any:
    """Seconds; a base needs no fit, and what a record does not hold is missing."""
    if value is None:
        return _markup("<td>–</td>" if method is None else "<td>not recorded</td>")
    return _markup(f'<td data-value="{value:.6g}">{"none" if value == 0 else f"{value:.3g} s"}</td>')


def td_missing(accounting: Sequence[Mapping[str, Any]], scorer: str) -> Any:
    """Share of the texts that a scorer could not score."""
    found = next((one for one in accounting if one["scorer"] == scorer), None)
    return _markup("<td>–</td>") if found is None else td_percent(found["share"])


def td_percent(value: float | None) -> Any:
    """A share in percent, one decimal; 0 is 0."""
    if value is None:
        return _markup("<td>–</td>")
    return _markup(f'<td data-value="{value:.6g}">{"0" if value == 0 else percent(value)}</td>')


def forest(estimate: Sequence[Any] | None, span: tuple[float, float]) -> Any:
    """A change as a mark on a line with zero drawn across; for the eye only, the numbers stand beside it.

    Args:
        estimate: value and interval.
        span: least and greatest of all values that are drawn under one another.
    """
    if estimate is None or estimate[0] is None:
        return ""
    at = [_across(v, span) for v in estimate[:3] if v is not None]
    line = (
        f'<line x1="{at[1]:.1f}" x2="{at[2]:.1f}" y1="12" y2="12" stroke="currentColor" stroke-width="1.5"/>'
        if len(at) == 3
        else ""
    )
    zero = _across(0.0, span)
    return _markup(
        f'<svg width="{_WIDTH}" height="24" aria-hidden="true"><line class="zero" x1="{zero:.1f}" x2="{zero:.1f}" y1="0" y2="24"/>'
        f'{line}<circle cx="{at[0]:.1f}" cy="12" r="3.5" fill="currentColor"/></svg>'
    )


def forest_head(span: tuple[float, float]) -> Any:
    """Where zero is, for the head of that column."""
    return _markup(
        f'<svg width="{_WIDTH}" height="14" aria-hidden="true">'
        f'<text x="{_across(0.0, span):.1f}" y="11" text-anchor="middle">0</text></svg>'
    )


def _across(value: float, span: tuple[float, float]) -> float:
    low, high = min(span[0], 0.0), max(span[1], 0.0)
    return 6 + (_WIDTH - 12) * ((value - low) / (high - low) if high > low else 0.5)


def named(cell: Cell) -> str:
    """What a cell is called beside its base."""
    if cell["role"] == "base":
        return "base"
    name = f"{cell['label']} (prompted base)" if cell["role"] == "prompted base" else str(cell["label"])
    parts = {"development": "development prompts", "test": "these prompts"}
    return f"{name}, chosen on {parts[cell['chosen_on']]}" if cell.get("chosen_on") in parts else name


def verdict(cell: Cell, kind: str) -> str:
    """A verdict in words; a dash where there is none."""
    return str((cell.get("verdicts") or {}).get(kind) or "–")


def short(metric: str) -> str:
    """A metric's name without what all of its kind share."""
    return metric.replace("/accuracy", "").replace("choice/", "")


def breakable(text: str) -> Any:
    """A long name that may break where its parts meet."""
    return _markup(escape(text).replace("/", "/<wbr>").replace("--", "--<wbr>"))


def sentence(text: str) -> str:
    """A note of one line with a capital and a full stop."""
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"


def listed(values: Mapping[str, Any]) -> str:
    """A dictionary in one line."""
    return "; ".join(f"{key}: {v if isinstance(v, str) else json.dumps(v)}" for key, v in values.items()) or "–"


def pretty(value: Any) -> str:
    """A JSON value to read."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def audited(audit: Any) -> str:
    """What the audit of a cell found, in one line."""
    if not isinstance(audit, Mapping) or not audit:
        return "not recorded"
    return "; ".join(f"{name.replace('_', ' ')}: {_outcome(value)}" for name, value in audit.items())


def _outcome(value: Any) -> str:
    if isinstance(value, bool):
        return "passed" if value else "FAILED"
    if isinstance(value, Mapping) and {"difference", "bound"} <= value.keys():
        return f"{value['difference']:g} nats, bound {value['bound']:g}"
    return listed(value) if isinstance(value, Mapping) else str(value)


FILTERS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        fixed, signed, number, percent, said, probability, td, td_change, td_judged, td_side, td_interaction, td_fine, td_number, td_share,
        td_seconds, td_missing, forest, forest_head, named, verdict, short, breakable, sentence, listed, pretty, audited,
    )
}  # fmt: skip
