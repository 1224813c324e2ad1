"""The benchmarks of loss and trainer run, and what they compare is the same thing. How fast it is, is recorded and never asserted."""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys

import pytest
import torch

from tests.conftest import REPOSITORY

SPEED = REPOSITORY / "benchmarks" / "speed"


@pytest.fixture
def loss(monkeypatch):
    monkeypatch.syspath_prepend(str(SPEED))
    spec = importlib.util.spec_from_file_location("speed_loss", SPEED / "loss.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("risky", [0.0, 0.25])
def test_the_share_of_risky_tokens_is_the_one_asked_for(loss, risky):
    batch = loss.make_batch("tiny", sequences=3, length=256, risky=risky)
    assert batch["input_ids"].shape == batch["risk"].shape == (3, 256)
    assert batch["risk"].float().mean() == risky
    assert (batch["risk"].reshape(3, -1, loss.SPAN).float().mean(-1) % 1 == 0).all()  # whole spans


@pytest.mark.parametrize(("ours", "theirs"), [("full", "transformers"), ("unlikelihood", "naive-unlikelihood")])
def test_both_arms_take_the_same_step(loss, ours, theirs):
    shape = argparse.Namespace(sequences=2, length=32, risky=0.25 if ours == "unlikelihood" else 0.0)
    stepped = []
    for arm in (ours, theirs):
        from models import build

        model, _ = build("tiny")
        model.train()
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        batch = loss.make_batch("tiny", **vars(shape))
        before = model.lm_head.weight.detach().clone()
        loss.step_of(arm, model, optimizer, batch)()
        stepped.append(model.lm_head.weight.detach())
        assert (stepped[-1] - before).abs().max() > 1e-3
        assert model.lm_head.weight.grad is None
    torch.testing.assert_close(*stepped, rtol=0, atol=1e-5)


@pytest.mark.evidence
@pytest.mark.parametrize("name", ["loss", "trainer"])
def test_the_benchmark_runs(name, tmp_path):
    done = subprocess.run(
        [sys.executable, str(SPEED / f"{name}.py"), "--quick"], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert not list(tmp_path.rglob("*.json"))
