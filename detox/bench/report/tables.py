"""A report as tables: every number in CSV, the headline in Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from detox.bench.comparison_text import harmless
from detox.bench.report.cell_marks import fixed, interval, named, percent, signed, verdict
from detox.bench.report.escaping import made_visible

_CE = "clean/cross_entropy"


def tidy_csv(data: Mapping[str, Any]) -> str:
    """One line a (cell, metric): the value, its change against the base, both with their intervals; empty where there is none."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    ends = ("", "_low", "_high")
    writer.writerow(
        ["base", "method", "strength", "seed", "protocol", "role", "metric", *(f"value{end}" for end in ends), "n", "missing",
         *(f"change{end}" for end in ends), "paired"]
    )  # fmt: skip
    for cell in data["cells"]:
        names = [
            cell["base"],
            cell["method"] or "",
            cell["strength"],
            cell["seed"],
            data["protocol"]["name"],
            cell["role"],
        ]
        for metric, value in cell["metrics"].items():
            change = cell["changes"].get(metric, {"estimate": [None] * 5, "paired": None})
            paired = "" if change["paired"] is None else str(change["paired"]).lower()
            line = [*names, metric, *value, *change["estimate"][:3], paired]
            writer.writerow(["" if v is None else harmless(v) for v in line])
    return out.getvalue()


def headline_rows(data: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """The headline table as text: its head, and a line a cell; bases and prompted bases that are not there are lines, too."""
    scorers, cells = data["scorers"], data["cells"]
    head, columns = ["base", "method"], [_of("base"), named]

    def add(name: str, column: Callable[[Mapping[str, Any]], str]) -> None:
        head.append(name)
        columns.append(column)

    if data["headline"]:
        add(
            f"toxicity ({data['named'].get(data['headline'], data['headline'])})",
            lambda cell: _with_interval(cell["toxicity"]),
        )
        add("change", lambda cell: _with_interval(cell["toxicity_change"], sign=True))
        if any(verdict(cell, "toxicity") != "–" for cell in cells):
            add("verdict", lambda cell: verdict(cell, "toxicity"))
        for scorer in scorers[1:]:
            add(f"toxicity ({data['named'].get(scorer, scorer)})", _value_of(f"toxicity/{scorer}/mean"))
    if any(_CE in cell["metrics"] for cell in cells):
        add("CE (nats)", _value_of(_CE))
        add("change in CE", lambda cell: _with_interval(cell["cost_change"], sign=True))
        if any(verdict(cell, "utility") != "–" for cell in cells):
            add("utility", lambda cell: verdict(cell, "utility"))
    others = ("recognition/auc", "probe/auc", "rewriting/toxicity", "rewriting/similarity", "minimal_pairs/accuracy")
    for metric in others:
        if any(metric in cell["metrics"] for cell in cells):
            add(metric, _value_of(metric))
    if data["headline"]:
        add("not scored", lambda cell: _lost(cell, data["headline"]))
    rows = [[column(cell) for column in columns] for cell in cells if cell["role"] != "control"]
    rows += [[one["base"], one["kind"], f"not measured: {one['reason']}"] for one in data["absent"]]
    return head, rows


def _of(key: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda cell: str(cell[key])


def _value_of(metric: str) -> Callable[[Mapping[str, Any]], str]:
    def column(cell: Mapping[str, Any]) -> str:
        value = cell["metrics"].get(metric)
        return "–" if value is None else fixed(value[0])

    return column


def _with_interval(estimate: Sequence[Any] | None, *, sign: bool = False) -> str:
    if estimate is None:
        return "–"
    value = signed(estimate[0]) if sign else fixed(estimate[0])
    return f"{value} {interval(estimate, sign=sign)}".strip()


def _lost(cell: Mapping[str, Any], scorer: str) -> str:
    found = next((one for one in cell["accounting"] if one["scorer"] == scorer), None)
    return "–" if found is None else "0" if found["share"] == 0 else percent(found["share"])


def markdown(data: Mapping[str, Any]) -> str:
    """The headline table in Markdown."""
    head, rows = headline_rows(made_visible(dict(data)))
    lines = [head, ["---"] * len(head), *(row + [""] * (len(head) - len(row)) for row in rows)]
    return "\n".join("| " + " | ".join(map(_markdown_cell, line)) + " |" for line in lines) + "\n"


def _markdown_cell(text: str) -> str:
    escaped = re.sub(r"([\\`*_|<>\[\]])", r"\\\1", text) if text != "---" else text
    # Brackets of an interval are numbers, never links.
    return re.sub(r"\\\[([-+\d., ∞]+)\\\]", r"[\1]", escaped).replace("\n", " ")


def latex(data: Mapping[str, Any]) -> str:
    """The headline table in LaTeX, for the package booktabs; UTF-8."""
    head, rows = headline_rows(made_visible(dict(data)))
    lines = [
        f"% {_tex(str(data['name']))}, protocol {_tex(str(data['protocol']['name']))}; \\usepackage{{booktabs}}",
        f"\\begin{{tabular}}{{ll{'r' * (len(head) - 2)}}}",
        "\\toprule",
        " & ".join(map(_tex, head)) + r" \\",
        "\\midrule",
    ]
    previous = None
    for row in rows:
        if previous not in (None, row[0]):
            lines.append("\\addlinespace")
        previous = row[0]
        if len(row) < len(head):
            cells = [_tex(row[0]), _tex(row[1]), f"\\multicolumn{{{len(head) - 2}}}{{l}}{{\\emph{{{_tex(row[2])}}}}}"]
        else:
            cells = [_tex(value) for value in row]
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"]) + "\n"


_TEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    "–": "--", "∞": r"$\infty$", "\n": " ", "[": "{[}", "]": "{]}", "*": "{*}",
    "⟨": r"\ensuremath{\langle}", "⟩": r"\ensuremath{\rangle}",
}  # fmt: skip


def _tex(text: str) -> str:
    number_like = re.fullmatch(r"[-+]?[\d.∞]+( \[[-+\d., ∞]+\])?", text)
    escaped = "".join(_TEX.get(character, character) for character in text)
    return re.sub(r"(?<![\d\w])-(?=[\d$])", "$-$", escaped) if number_like else escaped
