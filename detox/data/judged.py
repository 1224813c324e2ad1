"""Answers of models that people have judged, from files of the user's."""

from __future__ import annotations

import csv
import re
from pathlib import Path

from detox.data.records import JudgedReply
from detox.errors import DataError, MissingData

XSTEST_COLUMNS = ("id", "type", "prompt", "completion", "final_label")
XSTEST_VERDICTS = {
    "1_full_compliance": "complies",
    "2_full_refusal": "refuses",
    "3_partial_refusal": "partly refuses",
}
"""XSTest's words for what a reply is, and this package's."""


def read_xstest_answers(path: str | Path) -> list[JudgedReply]:
    """The answers of one model to XSTest, judged by two of its authors (Röttger et al. 2024, arXiv 2308.01263, section 4.1).

    Args:
        path: a CSV of the folder `model_completions` of github.com/paul-rottger/xstest, as it is. The prompts are CC BY 4.0, the
            completions under the terms of the models' makers, so they are no part of this package.

    Returns:
        One a row; `group` as in the set `xstest`, `source` from the name of the file.

    Raises:
        MissingData: no such file.
        DataError: a row without these columns, or with another label; names the line.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise MissingData(f"no file {path}; expected a CSV of XSTest's model_completions")
    source = re.sub(r"^xstest_v\d+_completions_", "", path.stem)
    found = []
    with path.open(encoding="utf-8", newline="") as handle:
        reader = csv.DictReader(handle)
        for row in reader:
            absent = [name for name in XSTEST_COLUMNS if row.get(name) is None]
            if absent:
                raise DataError(
                    f"{path}:{reader.line_num}: no column {absent[0]!r}; expected {', '.join(XSTEST_COLUMNS)}"
                )
            if row["final_label"] not in XSTEST_VERDICTS:
                raise DataError(
                    f"{path}:{reader.line_num}: final_label is {row['final_label']!r}; expected {', '.join(XSTEST_VERDICTS)}"
                )
            side = "unsafe" if row["type"].startswith("contrast") else "safe"
            found.append(
                JudgedReply(
                    id=row["id"],
                    request=row["prompt"],
                    reply=row["completion"],
                    verdict=XSTEST_VERDICTS[row["final_label"]],
                    group=f"{side}/{row['type']}",
                    source=source,
                )
            )
    if not found:
        raise DataError(f"{path}:1: holds no answers; expected one a row")
    return found
