"""Folders that appear whole or not at all, and never in the place of what is not theirs."""

from __future__ import annotations

import shutil

import pytest

from detox.errors import MissingData, OutputError
from detox.files import atomic_directory, disk_errors


def held(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_of_another_kind_is_refused_before_the_block(tmp_path):
    target = tmp_path / "out"
    target.mkdir()
    (target / "a thesis.txt").write_text("years")
    (target / "more.txt").write_text("years")
    entered = False
    with (
        pytest.raises(OutputError, match=r"holds a thesis.txt and 1 more but no mine.json") as error,
        atomic_directory(target, marker="mine.json"),
    ):
        entered = True
    assert not entered
    assert "\n" not in str(error.value)
    assert held(target) == ["a thesis.txt", "more.txt"]
    assert held(tmp_path) == ["out"]


def test_a_file_in_the_place_is_refused(tmp_path):
    (tmp_path / "out").write_text("kept")
    with pytest.raises(OutputError, match="is a file"), atomic_directory(tmp_path / "out", marker="mine.json"):
        pass
    assert (tmp_path / "out").read_text() == "kept"


@pytest.mark.parametrize("before", [None, [], ["mine.json", "old.txt"]])
def test_nothing_an_empty_folder_and_one_of_the_same_kind_are_replaced(tmp_path, before):
    target = tmp_path / "out"
    if before is not None:
        target.mkdir()
        for name in before:
            (target / name).write_text("old")
    with atomic_directory(target, marker="mine.json") as folder:
        (folder / "mine.json").write_text("new")
    assert held(target) == ["mine.json"]
    assert held(tmp_path) == ["out"]


def test_what_came_while_the_block_ran_is_kept(tmp_path):
    target = tmp_path / "out"
    block = atomic_directory(target, marker="mine.json")
    block.__enter__()
    target.mkdir()
    (target / "a.txt").write_text("kept")
    with pytest.raises(OutputError, match=r"holds a\.txt"):
        block.__exit__(None, None, None)
    assert held(target) == ["a.txt"]


def test_a_folder_that_cannot_be_replaced_is_put_back(tmp_path):
    target = tmp_path / "out"
    target.mkdir()
    (target / "mine.json").write_text("old")
    with pytest.raises(FileNotFoundError), atomic_directory(target, marker="mine.json") as folder:
        shutil.rmtree(folder)  # what was to take the place is gone when its turn comes
    assert (target / "mine.json").read_text() == "old"
    assert held(tmp_path) == ["out"]


def test_all_savers_leave_other_peoples_folders_alone(tmp_path):
    from detox.detoxifiers import Prompting
    from detox.evaluation.scorecard import Scorecard
    from detox.scorers import train_default, train_scorer

    (tmp_path / "model.safetensors").write_text("a week of training")
    texts = [f"{tone} word {number}" for number in range(30) for tone in ("rude", "kind")]
    scorer, _ = train_scorer(texts, [1.0, 0.0] * 30, trained_on=["words"], n_folds=2, n_bootstrap=2)
    card = Scorecard(protocol={}, fingerprint="", metrics={})
    for save in (Prompting().save_pretrained, card.save, scorer.save, lambda path: train_default(path, {})):
        with pytest.raises(OutputError, match=r"holds model\.safetensors but no"):
            save(tmp_path)
    assert held(tmp_path) == ["model.safetensors"]
    for save in (Prompting().save_pretrained, card.save, scorer.save):
        save(tmp_path / save.__qualname__)
        save(tmp_path / save.__qualname__)


def test_what_the_disk_refuses_is_one_line_and_an_error_of_our_own_stays(tmp_path):
    line = r"^cannot write it: No such file or directory; make room$"
    with pytest.raises(OutputError, match=line), disk_errors("write it", advice="make room"):
        (tmp_path / "nowhere" / "file").write_text("text")
    ours = MissingData("no such set")  # an OSError, too
    with pytest.raises(MissingData) as caught, disk_errors("write it", advice="make room"):
        raise ours
    assert caught.value is ours
