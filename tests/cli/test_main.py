"""The command line: first words fast, mistakes in one line, Ctrl-C clean."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from detox.cli import main
from tests.conftest import hear_ctrl_c

DETOX = str(Path(sys.executable).with_name("detox"))


def test_without_a_command_it_says_what_there_is(capsys):
    assert main([]) == 0
    out = capsys.readouterr().out
    for command in ("demo", "bench", "scorers", "data", "contrasts", "probe"):
        assert command in out


def test_the_version_is_that_of_the_package(capsys):
    import detox

    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"detox {detox.__version__}"


def test_the_catalogue_is_listed_and_shown(capsys):
    assert main(["data", "list", "--kind", "contrasts"]) == 0
    assert "paradetox" in capsys.readouterr().out
    assert main(["data", "show", "paradetox"]) == 0
    assert "licence" in capsys.readouterr().out.lower()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["data", "show", "paradetux"], "paradetox"),
        (["data", "list", "--kind", "contrast"], "contrasts"),
        (["bench", "run", "no.yaml"], "no.yaml"),
        (["bench", "show", "nothing"], "nothing"),
        (["scorers", "train", "--output_dir", "s", "--dataset_name", "rtp_promts"], "rtp_prompts"),
    ],
)
def test_what_is_wrong_is_one_line(words, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    err = capsys.readouterr().err
    assert said in err
    assert len(err.splitlines()) == 1
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_missing_data_directory_is_named(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("DETOX_DATA", str(tmp_path / "gone"))
    assert main(["scorers", "train", "--output_dir", str(tmp_path / "s"), "--dataset_name", "rtp_prompts"]) == 2
    err = capsys.readouterr().err
    assert "DETOX_DATA" in err
    assert "gone" in err
    assert len(err.splitlines()) == 1


def test_a_reader_that_stops_reading_is_no_error():
    listing = subprocess.run(f"{DETOX} data list | head -n 1", shell=True, capture_output=True, text=True)
    assert listing.returncode == 0
    assert "Traceback" not in listing.stderr
    assert "BrokenPipe" not in listing.stderr


@pytest.mark.slow
def test_the_demo_speaks_at_once_stops_cleanly_and_goes_on(tmp_path):
    started = time.monotonic()
    demo = subprocess.Popen(
        [DETOX, "demo", "--output_dir", str(tmp_path / "out")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=hear_ctrl_c,
    )
    assert demo.stdout is not None
    assert "detox demo" in demo.stdout.readline()
    assert time.monotonic() - started < 3
    work = tmp_path / "out" / "bases"
    while not list(work.glob("clean-*.work/checkpoint-*")):
        assert demo.poll() is None
        assert time.monotonic() - started < 120
        time.sleep(0.2)
    demo.send_signal(signal.SIGINT)
    _, err = demo.communicate(timeout=60)
    assert demo.returncode == 130
    assert "interrupted: stopped at step" in err
    assert "Traceback" not in err
    assert not list((tmp_path / "out").rglob("pareto.png"))
    assert not list(work.glob("clean-*/model.safetensors"))


def test_the_demos_output_directory_is_tried_before_any_work(tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    assert main(["demo", "--output_dir", str(tmp_path / "file" / "out")]) == 2
    assert "cannot write to" in capsys.readouterr().err


def test_the_demos_grid_names_what_there_is():
    import detox.cli
    from detox.bench import read_grid
    from detox.bench.scorers import scorer_maker
    from detox.miniature import NOTICE

    grid = read_grid(Path(detox.cli.__file__).with_name("demo.yaml"), make_scorer=scorer_maker("unused"))
    assert [base.name for base in grid.bases] == ["clean", "toxic-mix", "masked", "unlikelihood"]
    prompting = next(method for method in grid.methods if method.name == "prompting")
    assert prompting.settings["text"] == NOTICE
