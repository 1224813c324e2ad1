"""`pretrain` under real launchers: two processes with gloo on CPUs, with a whole model each (DDP) and with shards (FSDP2)."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace

import pytest

from detox.errors import InputError, OutputError, UnknownName
from detox.training import processes
from detox.training.processes import first_alone, sequences_a_piece
from tests.conftest import REPOSITORY
from tests.pretraining.test_run import RECIPE, card, data, run

SHORT = replace(RECIPE, steps=6, tie_word_embeddings=True)
OPTIONS = {"checkpoint_steps": 3, "log_steps": 1}

_CHILD = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {repository!r})
import torch
torch.set_num_threads(1)
from detox.pretraining import pretrain
from detox.training.processes import leave
from tests.pretraining.test_distributed_run import OPTIONS, SHORT
from tests.pretraining.test_run import data, run

def kill(step, steps):
    if step == 5:
        os.kill(os.getpid(), signal.SIGKILL)

mixture, sequences, tokenizer = data()
here = Path(sys.argv[1])
for what in sys.argv[2:]:
    if what == "mixture":
        pretrain(SHORT, mixture, tokenizer, here / what, arm="unlikelihood", store=here / "store", progress=False, **OPTIONS)
    elif what == "killed":
        run(here / "model", SHORT, progress=kill, held_out={{"mix": sequences}}, **OPTIONS)
    else:
        run(here / what, SHORT, held_out={{"mix": sequences}}, **OPTIONS)
leave()
"""


def launch(tmp_path, *runs, sharded):
    """Start two processes as a user would, and wait for them."""
    child = tmp_path / "child.py"
    child.write_text(_CHILD.format(repository=str(REPOSITORY)))
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = str(found.getsockname()[1])
    config = REPOSITORY / "recipes" / "accelerate" / "fsdp2.yaml"
    words = ["accelerate.commands.launch", "--config_file", str(config), "--main_process_port", port]
    words += ["--num_processes", "2"]
    if not sharded:
        words = ["torch.distributed.run", "--nproc_per_node", "2", "--master_port", port]
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONFAULTHANDLER": "1",
    }
    command = [sys.executable, "-m", *words, str(child), str(tmp_path), *runs]
    return subprocess.run(command, capture_output=True, text=True, timeout=900, env=environment, cwd=tmp_path)


def losses(folder):
    return [entry["loss"] for entry in card(folder)["curve"]["training"]]


@pytest.mark.slow
def test_fsdp2_trains_checkpoints_resumes_and_saves_a_whole_model(tmp_path):
    """Three steps and more on shards; one process killed with -9; resumed from the shards; the same curve; a plain model."""
    from transformers import AutoModelForCausalLM

    done = launch(tmp_path, "whole", "killed", sharded=True)
    assert done.returncode != 0  # killed
    assert card(tmp_path / "whole")["machine"] == {"processes": 2, "device": "cpu", "sharding": "fsdp"}
    assert not (tmp_path / "model").exists()
    checkpoint = tmp_path / "model.work" / "checkpoint-3"
    assert len(list((checkpoint / "pytorch_model_fsdp_0").glob("*.distcp"))) == 2  # one from each process
    assert not (checkpoint / "model.safetensors").exists()

    with pytest.raises(InputError, match="was written under fsdp and this run is without it"):
        run(tmp_path / "model", SHORT, held_out={"mix": data()[1]}, **OPTIONS)

    done = launch(tmp_path, "model", sharded=True)
    assert done.returncode == 0, done.stderr
    assert card(tmp_path / "model")["resumed_at_step"] == 3
    assert card(tmp_path / "model")["curve"] == card(tmp_path / "whole")["curve"]
    assert card(tmp_path / "model")["hashes"] == card(tmp_path / "whole")["hashes"]
    assert not (tmp_path / "model.work").exists()

    alone = run(tmp_path / "alone", SHORT, held_out={"mix": data()[1]}, **OPTIONS)
    assert losses(tmp_path / "model") == pytest.approx(losses(alone), abs=1e-4)
    for part in ("all", "safe", "risky"):
        watched = [
            [entry["mix"][part] for entry in card(at)["curve"]["held_out"]] for at in (tmp_path / "model", alone)
        ]
        assert watched[0] == pytest.approx(watched[1], abs=1e-4)
    sharded, whole = (AutoModelForCausalLM.from_pretrained(at) for at in (tmp_path / "model", alone))
    assert {name: value.shape for name, value in sharded.state_dict().items()} == {
        name: value.shape for name, value in whole.state_dict().items()
    }
    for a, b in zip(sharded.parameters(), whole.parameters(), strict=True):
        assert (a - b).abs().max() < 1e-3


@pytest.mark.slow
def test_ddp_shares_the_batch_packs_once_and_writes_once(tmp_path):
    done = launch(tmp_path, "mixture", sharded=False)
    assert done.returncode == 0, done.stderr
    found = card(tmp_path / "mixture")
    assert found["machine"] == {"processes": 2, "device": "cpu", "sharding": None}
    assert found["arm"] == "unlikelihood"
    assert found["trained_tokens"] == SHORT.tokens
    assert (tmp_path / "store").is_dir()
    alone = run(tmp_path / "alone", SHORT, **OPTIONS)
    assert found["hashes"]["data"] == card(alone)["hashes"]["data"]
    assert losses(tmp_path / "mixture") == pytest.approx(losses(alone), abs=1e-4)
    assert [entry["likelihood_tokens"] for entry in found["curve"]["training"]] == [
        entry["likelihood_tokens"] for entry in card(alone)["curve"]["training"]
    ]


def test_a_batch_that_cannot_be_shared_is_one_line(tmp_path, monkeypatch):
    assert sequences_a_piece(2048, 16, 8) == 16
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(InputError, match="batch_size 4 is shared by 3 processes x gradient_accumulation_steps 1"):
        run(tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_what_the_first_process_raises_all_raise(monkeypatch):
    """What is sent to the others is put in their hands here: they raise the same, in the same words."""
    sent = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(processes.dist, "broadcast_object_list", lambda box: sent.append(box[0]))

    def fail():
        raise OutputError("no room")

    monkeypatch.setenv("RANK", "0")
    with pytest.raises(OutputError, match="no room"):
        first_alone(fail)
    assert first_alone(lambda: "found") == "found"

    def receive(box):
        box[0] = sent.pop(0)

    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(processes.dist, "broadcast_object_list", receive)
    with pytest.raises(OutputError, match="no room"):
        first_alone(lambda: pytest.fail("only the first works"))
    assert first_alone(lambda: pytest.fail("only the first works")) == "found"
    sent.append(json.dumps([None, ["UnknownName", "unknown arm 'ful'"]]))
    with pytest.raises(InputError, match="unknown arm") as raised:
        first_alone(lambda: None)
    assert not isinstance(raised.value, UnknownName)
