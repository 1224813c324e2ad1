from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from detox.data import catalogue
from detox.data.catalogue import CATALOGUE, data_directory, describe, entry, load, load_as, names
from detox.data.contrasts import Contrast
from detox.data.data_set import KINDS, LocalFile
from detox.data.jsonl import write_jsonl
from detox.data.records import Document, Prompt
from detox.errors import DataError, InputError, MissingData, UnknownName

ROWS = [{"id": f"a-{n}", "toxic": f"fool {n}", "neutral": [f"friend {n}"], "split": "train"} for n in range(8)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A data directory with a small file under a catalogued name; the hash is not the catalogue's."""
    monkeypatch.setenv("DETOX_DATA", str(tmp_path))
    write_jsonl(tmp_path / "appdia.jsonl.gz", [*ROWS, {**ROWS[0], "id": "h", "split": "dev"}])
    write_jsonl(tmp_path / "paradetox.jsonl.gz", ROWS)
    return tmp_path


def test_the_catalogue_is_complete_and_consistent():
    assert len(CATALOGUE) == len({name.casefold() for name in CATALOGUE})
    hashes = {}
    for one in CATALOGUE.values():
        assert one.kind in KINDS
        assert one.licence
        assert one.file or one.hub
        assert bool(one.file) == bool(one.read) == bool(one.columns)
        if one.file:
            assert len(one.file.sha256) == 64
            assert hashes.setdefault(one.file.name, one.file.sha256) == one.file.sha256
        if one.own_split:
            assert not one.evaluation
            assert one.own_split.column in one.columns
            assert not set(one.own_split.train) & set(one.own_split.heldout)
        if one.hub:
            assert "/" in one.hub.id
            assert one.hub.columns
            assert one.hub.confirmed
            assert one.hub.revision is None or len(one.hub.revision) == 40 or one.hub.revision.startswith("refs/")


def test_names_by_kind_and_descriptions():
    assert names() == sorted(CATALOGUE)
    assert {name for kind in KINDS for name in names(kind)} == set(CATALOGUE)
    assert "paradetox" in names("contrasts")
    text = describe("paradetox")
    for part in ("contrasts", "CC0", "paradetox.jsonl.gz", "s-nlp/paradetox", "by the text", "confirmed by"):
        assert part in text
    assert "not known" in describe("pol_posts")
    assert "evaluation only" in describe("blimp")
    with pytest.raises(UnknownName, match="did you mean 'contrasts'"):
        names("contrast")
    with pytest.raises(UnknownName, match="did you mean 'paradetox'"):
        entry("paradetoxx")


def test_a_file_is_read_only_if_it_is_the_pinned_one(folder, monkeypatch):
    with pytest.raises(DataError, match=r"^appdia\.jsonl\.gz: SHA-256 [0-9a-f]{12}\.\.\., expected f14c1c1543ab"):
        load("appdia")
    assert len(load("appdia", verify=False)) == 9
    sha = hashlib.sha256((folder / "appdia.jsonl.gz").read_bytes()).hexdigest()
    local = LocalFile("appdia.jsonl.gz", sha)
    monkeypatch.setitem(CATALOGUE, "appdia", replace(CATALOGUE["appdia"], file=local))
    assert load("appdia")[0] == Contrast(id="a-0", prompt="", safe=("friend 0",), toxic=("fool 0",))


def test_splits_are_the_sets_own_or_by_the_text(folder):
    assert [one.id for one in load("appdia", split="heldout", verify=False)] == ["h"]
    assert len(load("appdia", split="train", verify=False)) == 8
    train, heldout = (load("paradetox", split=side, verify=False) for side in ("train", "heldout"))
    assert sorted(one.id for one in (*train, *heldout)) == sorted(one.id for one in load("paradetox", verify=False))
    assert train
    write_jsonl(folder / "appdia.jsonl.gz", [{**ROWS[0], "split": "tarin"}])
    with pytest.raises(DataError, match=r"appdia\.jsonl\.gz:1: split is 'tarin'; expected one of train, dev, test"):
        load("appdia", verify=False)


def test_a_limit_draws_and_does_not_cut(folder):
    few = load("paradetox", limit=3, seed=1, verify=False)
    assert len(few) == 3
    assert few == load("paradetox", limit=5, seed=1, verify=False)[:3]
    assert any(
        load("paradetox", limit=3, seed=s, verify=False) != load("paradetox", verify=False)[:3] for s in range(3)
    )


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"name": "paradetoks"}, UnknownName, "did you mean 'paradetox'"),
        ({"name": "paradetox", "split": "test"}, UnknownName, "unknown split 'test'"),
        ({"name": "paradetox", "source": "lokal"}, UnknownName, "did you mean 'local'"),
        ({"name": "paradetox", "limit": 0}, InputError, "limit 0; expected at least 1"),
        ({"name": "blimp", "split": "train"}, InputError, "blimp is for evaluation only"),
        ({"name": "paradetox", "hub_id": "a/b"}, InputError, "give source='hub'"),
        ({"name": "blimp", "source": "local"}, MissingData, "no blimp.jsonl.gz in"),
        ({"name": "pol_posts"}, MissingData, "its hub id is not known"),
        ({"name": "pol_posts", "source": "hub"}, MissingData, "its hub id is not known"),
        ({"name": "civil_comments", "source": "local"}, MissingData, "no local file; on the hub it is 'google/civil"),
        ({"name": "xstest"}, MissingData, "no xstest.jsonl.gz in"),
    ],
)
def test_what_cannot_be_loaded_is_said_in_one_line(folder, options, error, says):
    with pytest.raises(error) as caught:
        load(**options)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not isinstance(caught.value, MissingData) or "DETOX_DATA" in str(caught.value) or "civil" in says


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (
            {"id": "1", "toxic": "a"},
            "paradetox.jsonl.gz:2: no column 'neutral'; expected id, toxic, neutral; saw id,",
        ),
        ({"id": "1", "toxic": "a", "neutral": None}, "paradetox.jsonl.gz:2: cannot read id, toxic, neutral (TypeError"),
        ({"id": 1, "toxic": "a", "neutral": ["b"]}, "paradetox.jsonl.gz:2: contrast id 1"),
        ({"id": "1", "toxic": ["a"], "neutral": ["b"]}, "paradetox.jsonl.gz:2: contrast '1': toxic holds a list"),
    ],
)
def test_a_wrong_row_is_named_by_file_and_line(folder, row, says):
    write_jsonl(folder / "paradetox.jsonl.gz", [ROWS[0], row, ROWS[1]])
    with pytest.raises(DataError) as caught:
        load("paradetox", verify=False)
    assert str(caught.value).startswith(says)


def test_only_the_expected_type_of_record(folder):
    with pytest.raises(InputError, match=r"appdia holds Contrast records; expected Prompt: .*rtp_prompts"):
        load_as(Prompt, "appdia")
    with pytest.raises(UnknownName):
        load_as(Document, "nothing like it")


def test_the_directory_is_the_variable_or_found_above(tmp_path, monkeypatch):
    monkeypatch.setenv("DETOX_DATA", str(tmp_path / "none"))
    for call in (data_directory, lambda: load("paradetox")):
        with pytest.raises(MissingData, match=r"DETOX_DATA is '.*none', which is no directory"):
            call()
    shared = tmp_path / "project" / "shared" / "data"
    inner = tmp_path / "project" / "checkout" / "inner"
    shared.mkdir(parents=True)
    inner.mkdir(parents=True)
    monkeypatch.delenv("DETOX_DATA")
    monkeypatch.chdir(inner)
    monkeypatch.setattr(catalogue, "__file__", str(inner / "catalogue.py"))
    with pytest.raises(MissingData, match="set DETOX_DATA") as caught:
        data_directory()
    assert str(inner) in str(caught.value)
    (shared / "README.md").write_text("data")
    assert data_directory() == shared
    monkeypatch.setenv("DETOX_DATA", str(inner))
    assert data_directory() == inner
