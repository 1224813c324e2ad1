"""`detox contrasts make`: what it prints and writes, a kill in the middle, and what is wrong in one line."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from detox.cli import main
from detox.data import read_contrasts
from tests.conftest import REPOSITORY, hear_ctrl_c
from tests.data.making.conftest import writing  # noqa: F401
from tests.data.making.server import answer, serving, status

SCORERS = """
from detox.scorers import Score, ScorerCard

class Share:
    card = ScorerCard(name="share", revision="1", trained_on=("a",), max_length=None, beyond="read")
    def score(self, texts):
        return [Score(sum(w.startswith("rude") for w in t.split()) / max(1, len(t.split()))) for t in texts]

class Any(Share):
    card = ScorerCard(name="any", revision="1", trained_on=("a", "b"), max_length=None, beyond="read")
    def score(self, texts):
        return [Score(float("rude" in t)) for t in texts]

class Third(Share):
    card = ScorerCard(name="third", revision="1", trained_on=("b",), max_length=None, beyond="read")
"""


@pytest.fixture
def flags(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scorers.py").write_text(SCORERS)
    sentences = [f"topic{n % 12} topic{(7 * n) % 12} kind{n % 8} kind{n // 8}" for n in range(30)]
    (tmp_path / "seeds.txt").write_text("\n".join(sentences))
    given = {
        "--seeds": "seeds.txt",
        "--output_file": "pairs.jsonl",
        "--scorers": "scorers.py:Share scorers.py:Any",
        "--headline": "scorers.py:Third",
        "--similarity": "none",
        "--length": "0.1 10",
        "--paraphrases": "4",
        "--max_new_tokens": "14",
        "--top_p": "1",
        "--retries": "1",
        "--form": "plain",
        "--frame": "{instruction}",
    }

    def build(**changes):
        chosen = given | {f"--{name}": value for name, value in changes.items()}
        return [
            "contrasts", "make", *(w for k, v in chosen.items() if v is not None for w in (k, *str(v).split(" "))),
            "--safe_instruction", "{sentence} says kind1", "--toxic_instruction", "{sentence} says rude1",
        ]  # fmt: skip

    return build


def lines(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0


def contents(folder, stem):
    return {name: (folder / f"{stem}{name}").read_bytes() for name in (".jsonl", ".record.json")}


@pytest.mark.slow
def test_through_an_endpoint(flags, writing, tmp_path, capsys):  # noqa: F811
    with serving(writing) as server:
        assert main(flags(writer=server.url)) == 0
        out, err = capsys.readouterr()
        assert err == ""
        assert "note: the headline scorer learned from data that a filter's scorer knows too: b" in out
        assert "30 seeds, 0 of them repeated" in out
        assert "safe: 120 answers, " in out
        assert "likeness of meaning was not looked at" in out
        found = read_contrasts("pairs.jsonl")
        assert f"{len(found)} contrasts are in pairs.jsonl" in out
        assert len(found) > 20
        asked = len(server.bodies)
        assert main(flags(writer=server.url)) == 0  # all is there already
        assert len(server.bodies) == asked
        assert capsys.readouterr().out == out
    record = json.loads((tmp_path / "pairs.record.json").read_text())
    assert record["headline"] == {"scorer": "scorers.py:Third", "shared_training_data": ["b"]}
    assert record["seeds"]["from"] == "seeds.txt"
    assert record["filters"]["similarity"] is None


def test_by_a_model_in_this_process(flags, writing, tmp_path, capsys):  # noqa: F811
    writing.model.save_pretrained("model")
    writing.tokenizer.save_pretrained("model")
    words = flags(writer="model", retries=None, limit=12, at_most=2, batch_size=8, device="cpu", dtype="float32")
    assert main(words) == 0
    assert "12 seeds" in capsys.readouterr().out
    assert lines(tmp_path / "pairs.answers.jsonl") == 1 + 24
    assert all(len(one.safe) <= 2 for one in read_contrasts("pairs.jsonl"))
    record = json.loads((tmp_path / "pairs.record.json").read_text())
    assert record["writer"]["name"] == "model"
    assert record["writer"]["fingerprint"] == writing.fingerprint()


@pytest.mark.slow
def test_requests_without_an_answer_are_told_by_the_code(flags, writing, capsys):  # noqa: F811
    def fault(number, body):
        asked = body["prompt"]
        return status(400, "too long") if asked.startswith("topic3 ") and "rude1" in asked else None

    with serving(writing, fault=fault) as server:
        assert main(flags(writer=server.url, concurrency=1, limit=16)) == 3
        out = capsys.readouterr().out
        assert (
            "2 requests were not answered, and the same command makes them again; the first, seed '4', toxic: " in out
        )
        server.fault = None
        assert main(flags(writer=server.url, limit=16)) == 0
        assert "not answered" not in capsys.readouterr().out


def test_a_writer_that_says_the_same_again_is_told_of(flags, writing, capsys):  # noqa: F811
    def greedy(number, body):
        tone = "rude" if "rude1" in body["prompt"] else "kind"
        texts = [f"{tone} {body['prompt'].split()[0]}"] * body["n"]
        return answer(
            {"choices": [{"index": n, "text": text, "finish_reason": "stop"} for n, text in enumerate(texts)]}
        )

    with serving(writing, fault=greedy) as server:
        assert main(flags(writer=server.url)) == 0
    out = capsys.readouterr().out
    assert "half of the safe answers or more repeat an earlier one: does the writer sample?" in out
    assert "half of the toxic answers" in out


def begin(words):
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "detox", *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear_ctrl_c,
    )


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_killed_and_begun_again_nothing_is_asked_twice(how, flags, writing, tmp_path):  # noqa: F811
    state = tmp_path / "pairs.answers.jsonl"
    with serving(writing, delay=0.1) as server:
        process = begin(flags(writer=server.url, concurrency=3))
        started = time.monotonic()
        while lines(state) < 15:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() - started < 300
            time.sleep(0.01)
        process.send_signal(how)
        _, err = process.communicate(timeout=60)
        kept = lines(state) - 1
        assert kept < 60, "it was killed too late"
        if how == signal.SIGKILL:
            assert process.returncode == -signal.SIGKILL
        else:
            assert process.returncode == 130
            assert "the same command goes on from there" in err
        assert not (tmp_path / "pairs.jsonl").exists()
        first = len(server.bodies)
        assert first - kept <= 3 + 3  # under way, or answered and not yet written
        server.delay = 0
        assert main(flags(writer=server.url)) == 0
        # What a kill cut short is the only line that may be lost.
        assert 60 - kept <= len(server.bodies) - first <= 60 - kept + 1
        assert main(flags(writer=server.url, output_file="whole.jsonl")) == 0
    assert contents(tmp_path, "pairs") == contents(tmp_path, "whole")


@pytest.mark.slow
def test_through_transformers_serve(flags, writing, tmp_path, capsys):  # noqa: F811
    pytest.importorskip("fastapi", reason="`transformers serve` needs transformers[serving]")
    writing.model.save_pretrained("served")
    writing.tokenizer.save_pretrained("served")
    generation = json.loads((tmp_path / "served" / "generation_config.json").read_text())
    (tmp_path / "served" / "generation_config.json").write_text(json.dumps({**generation, "do_sample": True}))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    serve = ["serve", "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    begun = (
        f"import sys; sys.argv = ['transformers', *{serve!r}]; from transformers.cli.transformers import main; main()"
    )
    log = (tmp_path / "log").open("wb")
    server = subprocess.Popen([sys.executable, "-c", begun], stdout=log, stderr=log)
    try:
        started = time.monotonic()
        while True:
            assert server.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() - started < 300
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.2)
        words = flags(
            writer=f"http://127.0.0.1:{port}/v1", writer_model=str(tmp_path / "served"), limit=4, concurrency=2
        )
        assert main(words) == 0
    finally:
        server.kill()
        server.wait()
        log.close()
    assert "safe: 16 answers" in capsys.readouterr().out
    assert read_contrasts("pairs.jsonl")
    assert json.loads((tmp_path / "pairs.record.json").read_text())["writer"]["model"] == "served"
    assert (tmp_path / "log").read_text().count('POST /v1/completions HTTP/1.1" 200') == 4 * 2 * 4  # one text at a time


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"writer": "http://127.0.0.1:1/v1"}, "cannot reach http://127.0.0.1:1/v1"),
        ({"writer": "127.0.0.1:8000/v1/x"}, "no model folder at"),
        ({"writer": "./none"}, "no model folder at ./none"),
        ({"writer": "./none", "retries": None, "concurrency": 2}, "--concurrency is about the address of a server"),
        ({"writer": "http://127.0.0.1:1/v1", "dtype": "float32"}, "--dtype is about a model in this process"),
        ({"writer": "http://127.0.0.1:1/v1", "top_k": 3}, "--top_k is about a model in this process"),
        ({"writer": "x", "seeds": "none.txt"}, "no file none.txt"),
        ({"writer": "x", "seeds": "paradetx"}, "did you mean 'paradetox'"),
        ({"writer": "x", "scorers": "scorers.py:Any"}, "expected two different ones or more"),
        ({"writer": "x", "headline": "scorers.py:Any"}, "'any' filters and is the headline too"),
        ({"writer": "x", "headline": "profanty"}, "did you mean 'profanity'"),
        ({"writer": "x", "similarity": "./none"}, "no folder none"),
        ({"writer": "x", "min_similarity": "3"}, "min_similarity is 3.0"),
        ({"writer": "x", "length": "2 1"}, "expected a range around 1"),
        ({"writer": "http://127.0.0.1:1/v1", "output_file": "pairs.csv"}, "ends in .jsonl or .jsonl.gz"),
        ({"writer": "http://127.0.0.1:1/v1", "timeout": "0"}, "timeout is 0.0"),
        ({"writer": "http://127.0.0.1:1/v1", "form": "caht"}, "did you mean 'chat'"),
    ],
)
def test_what_is_wrong_is_one_line(changes, said, flags, tmp_path, capsys):
    if changes["writer"] in ("127.0.0.1:8000/v1/x", "./none") and "concurrency" not in changes:
        changes = {**changes, "retries": None}
    assert main(flags(**changes)) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "pairs.jsonl").exists()
