"""What the catalogue knows of a data set: its file, its place on the hub, its split, and how its rows are read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from detox.data.contrasts import Contrast
from detox.data.records import (
    BiasQuestion,
    Cloze,
    Document,
    LabelledText,
    LexiconTerm,
    MinimalPair,
    MultipleChoice,
    Prompt,
)
from detox.data.subsets import Record
from detox.errors import DataError, InputError

Row = Mapping[str, Any]
Reader = Callable[[Iterable[Row]], Iterable[Record]]

KINDS: dict[str, type[Record]] = {
    "contrasts": Contrast,
    "documents": Document,
    "labelled": LabelledText,
    "scored": LabelledText,
    "prompts": Prompt,
    "multiple-choice": MultipleChoice,
    "cloze": Cloze,
    "minimal-pairs": MinimalPair,
    "stereotype-pairs": MinimalPair,
    "bias-questions": BiasQuestion,
    "lexicon": LexiconTerm,
}


def read_rows(rows: Iterable[tuple[str, Row]], columns: Sequence[str], read: Reader) -> list[Record]:
    """Apply a reader to rows that carry the place they came from.

    Args:
        rows: (place, row); a place is what an error begins with, as `file:line`.
        columns: what every row must have.
        read: rows to records.

    Raises:
        DataError: a row lacks a column, or holds a value that its reader does not know; begins with the place.
    """
    place = "no row"

    def checked() -> Iterator[Row]:
        nonlocal place
        for here, row in rows:
            place = here
            missing = [column for column in columns if column not in row]
            if missing:
                saw = ", ".join(key for key in row if not key.startswith("_"))
                raise DataError(f"{place}: no column {missing[0]!r}; expected {', '.join(columns)}; saw {saw}")
            yield row

    try:
        return list(read(checked()))
    except DataError:
        raise
    except InputError as error:
        raise DataError(f"{place}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise DataError(
            f"{place}: cannot read {', '.join(columns)} ({type(error).__name__}: {error}); "
            "expected the values of the file that the catalogue pins"
        ) from error


@dataclass(frozen=True)
class LocalFile:
    """A gzipped JSON Lines file of the data directory, pinned by the SHA-256 of its bytes."""

    name: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class OwnSplit:
    """The split that a set came with: `column` says which side a row is on."""

    column: str
    train: tuple[str, ...]
    heldout: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class HubSource:
    """Where the same set lies on the Hugging Face hub, and how its columns are read.

    Attributes:
        id: owner/name.
        revision: commit; "refs/convert/parquet" where only the hub's own conversion can be loaded without running a
            script; None where no commit is known, which takes the newest.
        configs: configurations to load, one after the other.
        split: split with the rows; None loads all of them (rows then carry `_split`).
        heldout_split: the set's own held-out split, if it has one.
        columns: what the rows must have.
        read: rows to records.
        confirmed: where id and columns were read.
        gated: the hub asks for a login and a consent.
    """

    id: str
    columns: tuple[str, ...]
    read: Reader
    confirmed: str
    revision: str | None = None
    configs: tuple[str | None, ...] = (None,)
    split: str | None = "train"
    heldout_split: str | None = None
    gated: bool = False


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """A named data set of the catalogue.

    Attributes:
        name: what `load` takes.
        kind: a key of `KINDS`, which gives the type of its records.
        licence: as its source states it.
        note: what to know before using it.
        file, columns, read: the local file, the columns its rows must have, and rows to records; a set that lies on the
            hub only has none.
        hub: the same set on the hub; None where its id or columns are not known for certain.
        own_split: the split that the local file carries; without one, records are split by their text.
        evaluation: nothing of it is for training; all of it is held out.
    """

    name: str
    kind: str
    licence: str
    note: str = ""
    file: LocalFile | None = None
    columns: tuple[str, ...] = ()
    read: Reader | None = None
    hub: HubSource | None = None
    own_split: OwnSplit | None = None
    evaluation: bool = False

    def describe(self) -> str:
        """A few readable lines: kind, licence, file, hub, split, note."""
        lines = [
            f"{self.name}: {self.kind} ({KINDS[self.kind].__name__} records)",
            f"  licence: {self.licence}",
            f"  file: {self.file.name if self.file else 'none, on the hub only'}",
            f"  hub: {self._hub_line()}",
            f"  split: {self._split_line()}",
        ]
        return "\n".join([*lines, f"  note: {self.note}"] if self.note else lines)

    def _hub_line(self) -> str:
        if self.hub is None:
            return "id or columns not known"
        configs = [config for config in self.hub.configs if config]
        shown = ", ".join(configs[:3]) + (", ..." if len(configs) > 3 else "")
        parts = (
            f"{self.hub.id}{f' ({shown})' if shown else ''}",
            f"at {self.hub.revision or 'the newest commit, none is known'}",
            "(gated)" if self.hub.gated else "",
            f"- confirmed by {self.hub.confirmed}",
        )
        return " ".join(part for part in parts if part)

    def _split_line(self) -> str:
        if self.evaluation:
            return "for evaluation only, all of it held out"
        sides = []
        if self.own_split:
            own = self.own_split
            sides.append(
                f"its own column {own.column}: {'/'.join(own.train)} trains, {'/'.join(own.heldout)} is held out"
            )
        elif self.file:
            sides.append("by the text: a fifth is held out, the same texts in every set")
        if self.hub and self.hub.heldout_split:
            sides.append(f"on the hub: {self.hub.split} trains, {self.hub.heldout_split} is held out")
        elif self.hub and self.own_split:
            sides.append("on the hub: by the text")
        return "; ".join(sides)
