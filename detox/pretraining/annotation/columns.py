"""Where the parts of a document are in a row of data, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from detox.data.jsonl import unusable_text
from detox.data.records import Document, Span, span_from_json
from detox.errors import DataError, InputError, UnknownName


def document_of(row: Mapping[str, Any], place: str, columns: Columns, kind: str) -> Document:
    """The document in a row.

    Args:
        row: by column.
        place: `file:line` or the like, what an error begins with and the id of a row without one.
        columns: where its parts are.
        kind: of spans that name none.

    Raises:
        DataError: a column is not there, or holds something else.
    """
    text = _text(row, columns.text, place)
    key = columns.id or ("id" if row.get("id") is not None else None)
    name = place if key is None else _text(row, key, place, number=True)
    spans: tuple[Span, ...] = ()
    if columns.spans is not None:
        if columns.spans not in row:
            raise DataError(f"{place}: no column {columns.spans!r}; saw {', '.join(map(str, row))}")
        spans = tuple(_span(value, place, kind) for value in _listed(row[columns.spans], columns.spans, place))
    source = row.get("source")
    try:
        return Document(id=name, text=text, spans=spans, source=source if isinstance(source, str) else "")
    except InputError as error:
        raise DataError(f"{place}: {error}") from error


def _text(row: Mapping[str, Any], column: str, place: str, *, number: bool = False) -> str:
    value = row.get(column)
    if number and type(value) is int:
        return str(value)
    if not isinstance(value, str):
        seen = f"is {type(value).__name__}" if column in row else f"is not there (saw {', '.join(map(str, row))})"
        raise DataError(f"{place}: column {column!r} {seen}; expected text")
    problem = unusable_text(value)
    if problem is not None:
        raise DataError(f"{place}: {problem} of column {column!r}; expected text that UTF-8 can hold")
    return value


def _listed(value: Any, column: str, place: str) -> list[Any]:
    if value is None:
        return []
    if isinstance(value, Mapping) and value and all(isinstance(part, list) for part in value.values()):
        # A sequence of structs as `datasets` hands it out: a list for each field.
        if len({len(part) for part in value.values()}) == 1:
            return [dict(zip(value, parts, strict=True)) for parts in zip(*value.values(), strict=True)]
    elif isinstance(value, list):
        return value
    raise DataError(
        f"{place}: column {column!r} is {type(value).__name__}; expected a list of spans, [start, end] each"
    )


def _span(value: Any, place: str, kind: str) -> Span:
    if isinstance(value, list) and len(value) == 2:
        value = [*value, kind]
    elif isinstance(value, Mapping) and value.get("kind") is None:
        value = {**value, "kind": kind}
    span = span_from_json(value)
    if span is None or unusable_text(span.kind):
        raise DataError(
            f"{place}: span {value!r}; expected [start, end], [start, end, kind] or an object with these names"
        )
    return span


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Where the parts of a document are in a row.

    Attributes:
        text: column of the text.
        id: column of the id, text or whole number; None: "id" where there is one, else the place of the row.
        spans: column with a list of spans, each [start, end], [start, end, kind] or an object with these names, counted in
            characters; None: documents begin without spans.
    """

    text: str = "text"
    id: str | None = None
    spans: str | None = None

    def of(self, names: Sequence[str], where: str) -> list[str]:
        """Those of a table that are needed.

        Raises:
            UnknownName: one is not there.
        """
        for wanted in (self.text, self.id, self.spans):
            if wanted is not None and wanted not in names:
                raise UnknownName(f"column of {where}", wanted, names)
        used = dict.fromkeys((self.id or "id", self.text, self.spans or self.text, "source"))
        return [name for name in used if name in names]

    def needed(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """A row without what is not needed; whole where something needed is not there, so that an error can say what is."""
        if any(wanted not in row for wanted in (self.text, self.id, self.spans) if wanted is not None):
            return row
        return {name: row[name] for name in self.of(list(row), "")}
