"""What guided a fit, from the grid's file to the headline of its comparison."""

from __future__ import annotations

import json

import pytest

from detox.bench import compare, read_grid, run_grid
from detox.bench.guidance import read_sources
from detox.bench.scorers import scorer_maker
from detox.data import write_contrasts
from detox.data.contrasts import Contrast, digest
from detox.errors import InputError, UnknownName

PAIRS = [Contrast(id=str(i), prompt="", safe=(f"kind {i}",), toxic=(f"rude {i}",)) for i in range(4)]
FILTER = {"name": "toxic-bert", "revision": "4d6c", "trained_on": ["jigsaw-toxic-comments"]}


def made(folder, *, seeds="appdia", sha256=None):
    """A file of contrasts with the record that `detox contrasts make` leaves beside it."""
    write_contrasts(folder / "pairs.jsonl", PAIRS)
    record = {
        "seeds": {"from": seeds},
        "filters": {"toxicity": {"scorers": [FILTER]}},
        "contrasts": {"written": len(PAIRS), "sha256": sha256 or digest(PAIRS)},
    }
    (folder / "pairs.record.json").write_text(json.dumps(record))
    return {"file": str(folder / "pairs.jsonl")}


def test_sets_of_the_catalogue_are_known():
    assert read_sources({"set": "paradetox", "limit": 5}, PAIRS).to_dict() == {
        "datasets": ["paradetox"],
        "guides": [],
        "unknown": [],
    }
    assert read_sources({"set": "miniature"}, PAIRS).unknown == ()


def test_the_record_beside_a_file_names_seeds_and_scorers(tmp_path):
    spec = made(tmp_path)
    for contrasts in (PAIRS, PAIRS[:2]):  # the file, and a part of it
        sources = read_sources(spec, contrasts)
        assert (sources.datasets, sources.unknown) == (("appdia",), ())
        assert [(guide.name, guide.role) for guide in sources.guides] == [("toxic-bert", "filtered")]
        assert sources.guides[0].trained_on == ("jigsaw-toxic-comments",)


def test_a_file_of_which_nothing_is_known_says_so(tmp_path):
    spec = made(tmp_path, sha256="of other contrasts")
    assert read_sources(spec, PAIRS).unknown == ("pairs.jsonl",)
    (tmp_path / "pairs.record.json").write_text("[]")
    assert read_sources(spec, PAIRS).unknown == ("pairs.jsonl",)
    (tmp_path / "pairs.record.json").unlink()
    assert read_sources(spec, PAIRS).unknown == ("pairs.jsonl",)
    assert read_sources(made(tmp_path, seeds="my-seeds.txt"), PAIRS).unknown == ("my-seeds.txt",)


def test_what_the_user_declares_is_taken(tmp_path):
    write_contrasts(tmp_path / "mine.jsonl", PAIRS)
    spec = {"file": str(tmp_path / "mine.jsonl")}
    sources = read_sources(spec, PAIRS, {"datasets": ["civil_comments"], "scorers": ["toxigen-roberta"]})
    assert (sources.datasets, sources.unknown) == (("mine.jsonl", "civil_comments"), ())
    assert sources.guides[0].trained_on == ("toxigen", "founta-tweets")
    with pytest.raises(InputError, match=r"fit\.sources\.datasets is 'appdia'"):
        read_sources(spec, PAIRS, {"datasets": "appdia"})
    with pytest.raises(UnknownName, match="did you mean 'datasets'"):
        read_sources(spec, PAIRS, {"dataset": []})
    with pytest.raises(InputError, match=r"fit\.sources is 'appdia'"):
        read_sources(spec, PAIRS, "appdia")


@pytest.mark.slow
def test_a_scorer_that_overlaps_loses_the_headline(grid, grid_files, tmp_path):
    from tests.bench.conftest import SCORER

    raw, write = grid
    overlapping = SCORER.replace('"rudeness", "1", ("nothing",)', '"jigsaw-judge", "1", ("jigsaw-toxic-comments",)')
    (tmp_path / "judge.py").write_text(overlapping)
    protocol = {
        **raw["protocols"]["main"],
        "scorers": [f"{tmp_path / 'judge.py'}:Rudeness", *raw["protocols"]["main"]["scorers"]],
    }
    written = write(
        tmp_path / "grid.yaml",
        fit={**raw["fit"], "sources": {"datasets": ["paradetox"]}},
        protocols={"main": protocol},
        detoxifiers={"iti": {"settings": {"num_heads": 4}, "strengths": [3], "controls": False}},
    )
    run_grid(read_grid(written, make_scorer=scorer_maker(tmp_path)), tmp_path / "results", say=lambda line: None)
    comparison = compare(tmp_path / "results")
    assert (comparison.headline, comparison.scorers) == ("rudeness", ("rudeness", "jigsaw-judge"))
    text = str(comparison)
    assert "toxicity (rudeness)" in text.splitlines()[0]
    assert (
        "(the headline is rudeness, not jigsaw-judge: jigsaw-judge learned from jigsaw-toxic-comments too (iti))"
        in text
    )
    [saved] = (tmp_path / "results" / "fits").glob("*/detoxifier.json")
    assert json.loads(saved.read_text())["fitted_on"]["sources"]["datasets"] == ["fit.jsonl", "paradetox"]

    alone = {**protocol, "scorers": protocol["scorers"][:1]}
    written = write(
        tmp_path / "grid.yaml",
        fit={**raw["fit"], "sources": {"datasets": ["paradetox"]}},
        protocols={"main": alone},
        detoxifiers={"iti": {"settings": {"num_heads": 4}, "strengths": [3], "controls": False}},
    )
    run_grid(read_grid(written, make_scorer=scorer_maker(tmp_path)), tmp_path / "results", say=lambda line: None)
    assert "toxicity (jigsaw-judge, not independent)" in str(compare(tmp_path / "results")).splitlines()[0]
