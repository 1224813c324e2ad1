"""Two gloo processes with a batch each are one process with both batches, however unequal their tokens are.

On the way the processes also shard a model's weights (FSDP2) and find the same loss and the same gradients.

This file is what the processes run: `torch.distributed.run -m tests.pretraining.test_data_parallel FOLDER`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from detox.losses import DENOMINATORS, OBJECTIVES
from detox.pretraining import SelectiveLossTrainer
from detox.pretraining.trainer import _targets, collate
from detox.training.fused_head import fused_head, why_not_fused
from tests.conftest import REPOSITORY
from tests.pretraining.test_trainer import LENGTH, STEPS, arguments, examples, model, weights

BATCH = 4
RUNS = [("sgd", o, d) for o in OBJECTIVES for d in DENOMINATORS] + [("adamw_torch", o, "shared") for o in OBJECTIVES]


def unequal():
    """Batches in turns: a few tokens with a loss, then many; a mean of the processes' means would be far off."""
    found = examples(2 * BATCH * STEPS, padded=False)
    for i, example in enumerate(found):
        if i // BATCH % 2 == 0:
            example["labels"] = example["labels"].clone()
            example["labels"][3:] = -100
    for example in found[2 * BATCH : 3 * BATCH]:  # in the second step the first process has no likelihood at all
        example["risk"] = torch.ones(LENGTH, dtype=torch.bool)
    return found


def run(folder, run, *, accumulate, **options):
    optimizer, objective, denominator = run
    trainer = SelectiveLossTrainer(
        model(),
        arguments(
            folder,
            BATCH,
            accumulate,
            optim=optimizer,
            learning_rate=0.5 if optimizer == "sgd" else 0.01,
            adam_epsilon=1e-6,
        ),
        train_dataset=unequal(),
        objective=objective,
        denominator=denominator,
        unlikelihood_weight=0.5,
        **options,
    )
    trainer.train()
    return trainer


def sharded_gradients(*, precision=None, sharded=True):
    """Gradients and loss of the head that computes it, on a model whose weights lie in pieces with both processes."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    one = model()
    if sharded:
        mesh = init_device_mesh("cpu", (2,))
        policy = MixedPrecisionPolicy(param_dtype=precision, output_dtype=precision)
        for layer in one.model.layers:
            fully_shard(layer, mesh=mesh, mp_policy=policy)
        fully_shard(one, mesh=mesh, mp_policy=policy)
    batch = collate(examples(BATCH))
    targets, risk = _targets(batch)
    given = {"input_ids": batch["input_ids"]}
    assert why_not_fused(one, one.get_output_embeddings(), given) is None
    scales = torch.tensor(0.01), torch.tensor(0.02)
    with fused_head(one.get_output_embeddings(), targets, risk, "unlikelihood", scales=scales) as sums:
        total = one(**given).logits.sum()
    total.float().backward()
    pieces = (parameter.grad for parameter in one.parameters())
    return sums[0].total, torch.cat([(p.full_tensor() if sharded else p).reshape(-1) for p in pieces]).float()


def check_sharded() -> None:
    """Both processes have the same batch: the mean of their gradients is that of one."""
    loss, expected = sharded_gradients(sharded=False)
    found, gradients = sharded_gradients()
    torch.testing.assert_close(found, loss)
    torch.testing.assert_close(gradients, expected, rtol=0, atol=1e-6)
    found, gradients = sharded_gradients(precision=torch.bfloat16)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, loss, rtol=5e-3, atol=0)
    assert (gradients - expected).norm() < 0.03 * expected.norm()


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    found, logs = {}, {}
    for one in RUNS:
        trainer = run(folder, one, accumulate=1)
        assert trainer.accelerator.num_processes == 2
        assert trainer._tried[1]  # the loss is computed in the head
        found["/".join(one)] = weights(trainer).numpy()
        logs["/".join(one)] = trainer.state.log_history
    check_sharded()
    if os.environ["RANK"] == "0":
        np.savez(folder / "weights.npz", **found)
        (folder / "logs.json").write_text(json.dumps(logs))


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*command, "-m", "tests.pretraining.test_data_parallel", str(folder)],
        cwd=REPOSITORY,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return np.load(folder / "weights.npz"), json.loads((folder / "logs.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("one", RUNS, ids="/".join)
def test_two_processes_are_one_with_two_batches(tmp_path, two_processes, one):
    found, logs = two_processes
    alone = run(tmp_path, one, accumulate=2, fused=False)
    if one[0] == "sgd":
        np.testing.assert_allclose(found["/".join(one)], weights(alone).numpy(), rtol=0, atol=1e-5)
    entries = zip(logs["/".join(one)][:STEPS], alone.state.log_history[:STEPS], strict=True)
    for theirs, expected in entries:
        assert theirs["loss"] == pytest.approx(expected["loss"], rel=1e-4, abs=1e-5)
        for arm in ("likelihood", "unlikelihood"):
            assert theirs[f"{arm}_tokens"] == expected[f"{arm}_tokens"]
            assert (arm in theirs) is (arm in expected)
            if arm in expected:
                assert theirs[arm] == pytest.approx(expected[arm], rel=1e-4, abs=1e-5)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
