"""Two processes that share a step learn what one learns from the same batch."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import pytest
from safetensors.torch import load_file

from tests.conftest import REPOSITORY

_CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, {repository!r})
import torch
torch.set_num_threads(1)
from detox import DPO, SFT, Contrast, ContrastivePerplexity
from detox.detoxifiers.planted import plant
from detox.training.processes import is_first, leave

planted = plant("llama")
# Of many lengths: what is averaged over tokens must be averaged over all of them.
some = [
    Contrast(
        id=one.id, prompt=one.prompt,
        safe=tuple(" ".join(text.split(" ")[: 2 + i % 4]) for text in one.safe),
        toxic=tuple(" ".join(text.split(" ")[: 5 - i % 3]) for text in one.toxic),
    )
    for i, one in enumerate(planted.contrasts)
]
sgd = {{"optim": "sgd", "lr_scheduler_type": "constant"}}
common = {{"lora_r": 4, "lora_dropout": 0.0, "epochs": 1.0, "learning_rate": 0.5}}
methods = {{
    "sft": SFT(batch_size=16, trainer_args=sgd, **common),
    "dpo": DPO(batch_size=16, pairing="zip", warmup_steps=0, weight_decay=0.0, optimizer="sgd", **common),
    # Rows that come again: one process asks the reference once, two at every step.
    "dpo-twice": DPO(batch_size=16, pairing="zip", warmup_steps=0, weight_decay=0.0, optimizer="sgd", **{{**common, "epochs": 2.0}}),
    "cp": ContrastivePerplexity(batch_size=8, trainer_args=sgd, **common),
    "cp-ce": ContrastivePerplexity(batch_size=8, anchor="ce", form="paper", trainer_args=sgd, **common),
}}
for name, method in methods.items():
    method.fit(planted.lm, some, work_dir=Path(sys.argv[1]) / f"{{name}}.work")
    if is_first():
        method.save_pretrained(Path(sys.argv[1]) / name)
leave()
"""


def launch(tmp_path, processes):
    child = tmp_path / "child.py"
    child.write_text(_CHILD.format(repository=str(REPOSITORY)))
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = str(found.getsockname()[1])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "CUDA_VISIBLE_DEVICES": ""}
    words = ["torch.distributed.run", "--nproc_per_node", str(processes), "--master_port", port]
    done = subprocess.run(
        [sys.executable, "-m", *words, str(child), str(tmp_path / str(processes))],
        capture_output=True, text=True, timeout=900, env=environment, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-6000:]


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(tmp_path):
    launch(tmp_path, 1)
    launch(tmp_path, 2)
    for name in ("sft", "dpo", "dpo-twice", "cp", "cp-ce"):
        one, two = (load_file(tmp_path / str(n) / name / "adapter_model.safetensors") for n in (1, 2))
        moved = max(float(value.abs().max()) for key, value in one.items() if ".lora_B." in key)
        assert moved > 1e-4, f"{name}: nothing was learned"
        apart = max(float((one[key] - two[key]).abs().max()) for key in one)
        assert apart < 1e-5, (name, apart, moved)
    for name in ("cp", "cp-ce"):  # the log speaks of all groups, whoever read them
        one, two = (json.loads((tmp_path / str(n) / name / "detoxifier.json").read_text())["learned"] for n in (1, 2))
        curves = [[entry["contrast"] for entry in found["record"]["curve"]] for found in (one, two)]
        assert len(curves[0]) > 2
        assert curves[1] == pytest.approx(curves[0], abs=1e-4)
