"""A report in the formats that were asked for."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from detox.bench.report.data import report_data
from detox.bench.report.inspect_logs import write_inspect
from detox.bench.report.lm_eval_files import write_lm_eval
from detox.bench.report.page import write_page
from detox.bench.report.reading import Results, read_results
from detox.bench.report.tables import latex, markdown, tidy_csv
from detox.errors import InputError, OutputError, require_known
from detox.files import atomic_directory, require_writable, write_text

FORMATS = ("html", "csv", "latex", "markdown", "png", "svg", "lm-eval", "inspect")
_CE = "clean/cross_entropy"
_SUFFIXES = {"html": ".html", "csv": ".csv", "latex": ".tex", "markdown": ".md", "png": ".png", "svg": ".svg"}


def write_report(
    results: str | Path,
    *,
    protocol: str | None = None,
    output: str | Path | None = None,
    formats: Sequence[str] = ("html",),
    texts: bool = False,
    command: str | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> list[Path]:
    """Write a report of a results directory, from its records alone.

    Args:
        results: results directory of `detox bench run`.
        protocol: which, where there are several.
        output: file of the page; the other formats stand beside it under the same name. `report.html` in the results directory
            where it is None.
        formats: of FORMATS. "lm-eval" and "inspect" are folders with a file a cell.
        texts: whether a choice of what the models wrote goes in, where it was kept.
        command: for the page's provenance.
        say: is told what goes on.

    Returns:
        What was written, in the order of `formats`.

    Raises:
        UnknownName: a format that is none.
        MissingData, InputError: see `read_results`.
        OutputError: the place cannot be written.
    """
    if not formats:
        raise InputError(f"no format of a report was named; expected one or more of {', '.join(FORMATS)}")
    for name in formats:
        require_known("format of a report", name, FORMATS)
    root = Path(results)
    stem = Path(output) if output is not None else root / ("report" if protocol is None else f"report-{protocol}")
    if stem.suffix.lower() in {*_SUFFIXES.values(), ".htm"}:
        stem, page = stem.with_suffix(""), Path(output or "")
    else:
        page = stem.with_name(f"{stem.name}.html")
    if stem.name in ("", ".", "..") or (output is not None and Path(output).is_dir()):
        raise OutputError(
            f"{output} is a folder; expected the file of the page, such as {Path(output or '.') / 'report.html'}"
        )
    say(f"reading {root}")
    data: dict[str, Any] = {}
    with _collector_at_rest():
        read = read_results(root, protocol=protocol)
        require_writable(stem.parent)
        if {"html", "csv", "latex", "markdown"} & set(formats):
            say(f"comparing {len(read.comparison.rows) + len(read.comparison.control_rows)} cells")
            data = report_data(read, texts=texts)
    written = []
    for name in dict.fromkeys(formats):
        path = (
            page
            if name == "html" and page.suffix.lower() in (".html", ".htm")
            else stem.with_name(stem.name + _SUFFIXES.get(name, f"-{name}"))
        )
        say(f"writing {path}")
        if name == "html":
            write_page(path, data, command=command)
        elif name in _TABLES:
            write_text(path, _TABLES[name](data))
        elif name in ("png", "svg"):
            if not any(row.toxicity is not None and _CE in row.scorecard.metrics for row in read.comparison.rows):
                say(f"no {path.name}: no cell has both toxicity and clean cross-entropy to draw")
                continue
            read.comparison.plot(path)
        else:
            _write_folder(read, path, name, texts=texts)
        written.append(path)
    return written


@contextmanager
def _collector_at_rest() -> Iterator[None]:
    """No garbage collection meanwhile: millions of items are read and all of them kept, and looking for waste among them takes seconds."""
    active = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if active:
            gc.enable()


_TABLES: dict[str, Callable[[dict[str, Any]], str]] = {"csv": tidy_csv, "latex": latex, "markdown": markdown}


def _write_folder(read: Results, path: Path, name: str, *, texts: bool) -> None:
    """A folder of other tools' files, whole or not at all; a file of ours in it says that it may be replaced."""
    with atomic_directory(path, marker="written-by-detox-report") as folder:
        write_text(folder / "written-by-detox-report", f"{name}\n")
        if name == "lm-eval":
            write_lm_eval(read, folder)
        else:
            write_inspect(read, folder, texts=texts)
