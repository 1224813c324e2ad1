"""Named data sets: local files of a data directory, pinned by hash, or the same sets on the Hugging Face hub.

    load("rtp_prompts", split="heldout", limit=1000)     # list[Prompt]
    load("paradetox", split="train")                     # list[Contrast]
    print(describe("toxic_spans"))

The data directory is the environment variable DETOX_DATA, or else a folder `shared/data` with a README.md in or above
the current directory or the package.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from detox.data.data_set import KINDS, DataSet, HubSource, Row, read_rows
from detox.data.hub import hub_rows
from detox.data.jsonl import read_jsonl
from detox.data.sets import SETS
from detox.data.subsets import SPLITS, AnyRecord, Record, draw, split_records
from detox.errors import DataError, InputError, MissingData, UnknownName, require_known

VARIABLE = "DETOX_DATA"
SOURCES = ("auto", "local", "hub")
CATALOGUE: dict[str, DataSet] = {one.name: one for one in SETS}


def names(kind: str | None = None) -> list[str]:
    """Names of the data sets, sorted; of one kind if given.

    Raises:
        UnknownName: no such kind.
    """
    if kind is not None and kind not in KINDS:
        raise UnknownName("kind of data set", kind, KINDS)
    return sorted(name for name, one in CATALOGUE.items() if kind is None or one.kind == kind)


def entry(name: str) -> DataSet:
    """The entry of a name.

    Raises:
        UnknownName: no such data set; gives the nearest.
    """
    require_known("data set", name, CATALOGUE)
    return CATALOGUE[name]


def describe(name: str) -> str:
    """A few readable lines about a data set: kind, licence, file, hub id and revision, split, note.

    Raises:
        UnknownName: no such data set.
    """
    return entry(name).describe()


def data_directory() -> Path:
    """The folder of the local files.

    Raises:
        MissingData: DETOX_DATA names no folder, or it is unset and there is no `shared/data` to be found.
    """
    configured = os.environ.get(VARIABLE)
    if configured:
        folder = Path(configured).expanduser()
        if not folder.is_dir():
            raise MissingData(
                f"{VARIABLE} is {configured!r}, which is no directory; set it to the folder with the data files"
            )
        return folder
    starts = (Path.cwd(), Path(__file__).resolve().parent)
    for start in starts:
        for folder in (start, *start.parents):
            if (folder / "shared" / "data" / "README.md").is_file():
                return folder / "shared" / "data"
    looked = " or ".join(str(start) for start in starts)
    raise MissingData(f"no data directory: no shared/data/README.md in or above {looked}; set {VARIABLE} to the folder")


def load(
    name: str,
    *,
    split: str | None = None,
    limit: int | None = None,
    seed: int = 0,
    source: str = "auto",
    verify: bool = True,
    hub_id: str | os.PathLike[str] | None = None,
) -> list[Record]:
    """Read a data set.

    Args:
        name: one of `names()`.
        split: "train", "heldout" or None for both. A set's own split where it carries one, else by the text: a fifth is
            held out, and the same text is on the same side in every set so split. `describe` says which. Sets for
            evaluation are held out as a whole.
        limit: at most so many records: a seeded, stratified sample, never the first ones, since files are sorted.
        seed: of that sample.
        source: "local", "hub", or "auto": the local file if it is there, else the hub.
        verify: compare the local file's SHA-256 with the catalogue's.
        hub_id: another hub id with the same columns, or a local folder that `datasets.load_dataset` reads; only with
            source="hub".

    Returns:
        Records of the type that `KINDS` gives for the set's kind; in the file's order without `limit`.

    Raises:
        UnknownName: no such data set, split or source.
        InputError: `limit` below 1, the training split of an evaluation set, a hub id without source="hub".
        MissingData: no file and no hub; says where it was looked for.
        DataError: the file is not the one that is pinned, or a row cannot be read; begins with `file:line`.
    """
    one = entry(name)
    if split is not None and split not in SPLITS:
        raise UnknownName("split", split, SPLITS)
    require_known("source", source, SOURCES)
    if limit is not None and limit < 1:
        raise InputError(f"limit {limit}; expected at least 1, or None for everything")
    if one.evaluation and split == "train":
        raise InputError(
            f"{name} is for evaluation only, all of it held out; leave split out, or take another set to train on"
        )
    if hub_id is not None and source != "hub":
        raise InputError(f"a hub id together with source={source!r}; give source='hub' to read {hub_id} from the hub")
    path = _local_path(one) if source != "hub" else None
    if path is not None:
        records = _read_local(one, path, split, verify=verify)
    elif source == "local" or one.hub is None:
        raise MissingData(_not_found(one))
    else:
        try:
            records = _read_hub(one, one.hub, split, hub_id)
        except MissingData as error:
            raise error if source == "hub" else MissingData(f"{_not_found(one)}; {error}") from error
    return records if limit is None else draw(records, limit, seed=seed)


def load_as(
    record: type[AnyRecord],
    name: str,
    *,
    split: str | None = None,
    limit: int | None = None,
    seed: int = 0,
    source: str = "auto",
) -> list[AnyRecord]:
    """`load`, for code that takes one type of record: `load_as(Prompt, "rtp_prompts", limit=100)`.

    Raises:
        InputError: the set holds another type of record; names the sets that hold this one.
    """
    kind = entry(name).kind
    if KINDS[kind] is not record:
        fitting = ", ".join(other for other in names() if KINDS[CATALOGUE[other].kind] is record)
        raise InputError(
            f"{name} holds {KINDS[kind].__name__} records; expected {record.__name__}: {fitting or 'no set'}"
        )
    loaded = load(name, split=split, limit=limit, seed=seed, source=source)
    return [one for one in loaded if isinstance(one, record)]


def verify_file(path: str | os.PathLike[str], sha256: str) -> None:
    """Compare a file with the hash that it should have.

    Raises:
        DataError: it is another file.
    """
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise DataError(
            f"{Path(path).name}: SHA-256 {found[:12]}..., expected {sha256[:12]}...; "
            "it is not the file that the catalogue pins: fetch it again, or pass verify=False to read it all the same"
        )


def _local_path(one: DataSet) -> Path | None:
    if one.file is None:
        return None
    try:
        path = data_directory() / one.file.name
    except MissingData:
        # A wrong DETOX_DATA is a mistake to be told of; an unset one means that there is no local data.
        if os.environ.get(VARIABLE):
            raise
        return None
    return path if path.is_file() else None


def _not_found(one: DataSet) -> str:
    hub = f"on the hub it is {one.hub.id!r} (source='hub')" if one.hub else "its hub id is not known"
    if one.file is None:
        return f"{one.name} has no local file; {hub}"
    try:
        looked = f"no {one.file.name} in {data_directory()} ({VARIABLE} overrides it)"
    except MissingData as error:
        looked = f"no {one.file.name}: {error}"
    return f"{one.name}: {looked}; {hub}"


def _read_local(one: DataSet, path: Path, split: str | None, *, verify: bool) -> list[Record]:
    assert one.file is not None
    assert one.read is not None
    if verify:
        verify_file(path, one.file.sha256)
    records = read_rows(_local_rows(one, path, split), one.columns, one.read)
    by_text = split is not None and one.own_split is None and not one.evaluation
    return split_records(records, split) if by_text and split is not None else records


def _local_rows(one: DataSet, path: Path, split: str | None) -> Iterator[tuple[str, Row]]:
    own = one.own_split
    for number, row in read_jsonl(path):
        if own is not None and row.get(own.column) not in own.train + own.heldout:
            raise DataError(
                f"{path.name}:{number}: {own.column} is {row.get(own.column)!r}; "
                f"expected one of {', '.join(own.train + own.heldout)}"
            )
        if own is None or split is None or row[own.column] in (own.train if split == "train" else own.heldout):
            yield f"{path.name}:{number}", row


def _read_hub(one: DataSet, hub: HubSource, split: str | None, hub_id: str | os.PathLike[str] | None) -> list[Record]:
    wanted = [hub.split] if hub.heldout_split is None or split == "train" else [hub.heldout_split]
    if hub.heldout_split is not None and split is None:
        wanted = [hub.split, hub.heldout_split]
    rows = (pair for part in wanted for pair in hub_rows(hub, part, hub_id=hub_id))
    records = read_rows(rows, hub.columns, hub.read)
    by_text = split is not None and hub.heldout_split is None and not one.evaluation
    return split_records(records, split) if by_text and split is not None else records
