"""A work directory belongs to one run, and is given up only where nothing would be lost."""

from __future__ import annotations

import json

import pytest

from detox.errors import InputError
from detox.training.checkpoints import discard_unbegun, open_work_dir


def checkpoint(folder, step):
    (folder / f"checkpoint-{step}").mkdir(parents=True)
    (folder / f"checkpoint-{step}" / "trainer_state.json").write_text(f'{{"global_step": {step}}}')
    return folder / f"checkpoint-{step}"


def test_checkpoints_of_another_run_are_kept_and_named(tmp_path):
    work = tmp_path / "work"
    assert open_work_dir(work, {"rate": 1}, resume="auto") is None
    last = checkpoint(work, 5)
    with pytest.raises(InputError, match=r"checkpoints of another run \(rate 1 and not 2\)"):
        open_work_dir(work, {"rate": 2}, resume="auto")
    discard_unbegun(work, keys=["rate"])
    assert last.is_dir()
    assert str(open_work_dir(work, {"rate": 1}, resume="auto")) == str(last)
    assert open_work_dir(work, {"rate": 2}, resume="never") is None
    assert not last.exists()


def test_a_run_that_ended_before_its_first_checkpoint_is_in_nobodys_way(tmp_path):
    open_work_dir(tmp_path / "work", {"target": "nosuch"}, resume="auto")
    with pytest.raises(InputError, match="target 'nosuch' and not 'all'"):  # it may be at work
        open_work_dir(tmp_path / "work", {"target": "all"}, resume="auto")
    discard_unbegun(tmp_path / "work", keys=["target"])
    assert open_work_dir(tmp_path / "work", {"target": "all"}, resume="auto") is None
    (run,) = (tmp_path / "work").iterdir()
    assert json.loads(run.read_text()) == {"target": "all"}


def test_somebody_elses_folder_is_refused(tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.txt").write_text("mine")
    discard_unbegun(tmp_path / "work", keys=[])
    for resume in ("auto", "never"):
        with pytest.raises(InputError, match="is not a work directory of detox"):
            open_work_dir(tmp_path / "work", {}, resume=resume)
    assert (tmp_path / "work" / "thesis.txt").is_file()


@pytest.mark.parametrize("run", ['{"lr": 1}', '{"target": 1}', "{", "[]", '"target"'])
def test_what_is_not_surely_ours_is_left_alone(run, tmp_path):
    (tmp_path / "run.json").write_text(run)
    if "target" in run:
        (tmp_path / "thesis.txt").write_text("mine")
    before = sorted(path.name for path in tmp_path.iterdir())
    discard_unbegun(tmp_path, keys=["target"])
    assert sorted(path.name for path in tmp_path.iterdir()) == before
