import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from transformers.integrations import integration_utils

from detox.data.records import Document, Span
from detox.errors import DetoxError, InputError, MissingData, OutputError, UnknownName
from detox.models import LanguageModel, token_logprobs
from detox.pretraining import (
    Mixture,
    PackedSequences,
    PretrainingRecipe,
    Source,
    held_out_loss,
    pack,
    pretrain,
    tokenize_documents,
    train_tokenizer,
)

RECIPE = PretrainingRecipe(
    objective="unlikelihood",
    steps=12,
    batch_size=4,
    sequence_length=16,
    learning_rate=1e-2,
    hidden_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
)


def words(rng, count):
    return " ".join(rng.choice(["the", "cat", "sat", "on", "a", "mat"], count))


@cache
def data():
    rng = np.random.default_rng(0)
    clean = [Document(id=f"c{i}", text=words(rng, 12)) for i in range(30)]
    toxic = [Document(id=f"t{i}", text=f"you fool {words(rng, 9)} idiot", spans=(Span(4, 8),)) for i in range(20)]
    tokenizer = train_tokenizer([document.text for document in clean + toxic], 300)
    mixture = Mixture(sources=(Source(name="clean", documents=clean), Source(name="toxic", documents=toxic, share=0.2)))
    return mixture, mixture.pack(tokenizer, sequence_length=16), tokenizer


def run(folder, recipe=RECIPE, **options):
    _, sequences, tokenizer = data()
    return pretrain(recipe, sequences, tokenizer, folder, **{"progress": False} | options)


def card(folder):
    return json.loads((folder / "pretraining.json").read_text())


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    _, sequences, _ = data()
    return run(tmp_path_factory.mktemp("made") / "model", held_out={"mix": sequences}, checkpoint_steps=4)


def test_the_model_is_a_plain_checkpoint_with_its_tokenizer(made):
    model, tokenizer = AutoModelForCausalLM.from_pretrained(made), AutoTokenizer.from_pretrained(made)
    assert model.config.model_type == "olmo"
    assert model.config.use_cache
    assert (model.config.eos_token_id, model.config.pad_token_id) == (tokenizer.eos_token_id, tokenizer.pad_token_id)
    assert tokenizer("the cat")["input_ids"] == data()[2]("the cat")["input_ids"]
    assert sorted(path.name for path in made.parent.iterdir()) == ["model"]  # no work directory, nothing half-written
    assert not any(path.name.endswith((".bin", ".pt", ".pth")) for path in made.iterdir())


def test_the_card_says_what_was_done(made):
    found, (_, sequences, _) = card(made), data()
    assert PretrainingRecipe.from_dict(found["recipe"]) == RECIPE
    assert found["data"] == json.loads(json.dumps(sequences.card()))
    assert found["data"]["sources"][1]["share"] == pytest.approx(0.2, abs=16 / sequences.tokens.size)
    assert found["trained_tokens"] == 12 * 4 * 16
    assert found["epochs"] == pytest.approx(12 * 4 / len(sequences))
    assert found["parameters"] == sum(p.numel() for p in AutoModelForCausalLM.from_pretrained(made).parameters())
    training = found["curve"]["training"]
    assert [entry["step"] for entry in training] == list(range(1, 13))
    assert training[-1]["likelihood"] < training[0]["likelihood"] - 0.3
    assert sum(entry["unlikelihood_tokens"] for entry in training) > 0
    assert [entry["step"] for entry in found["curve"]["held_out"]] == [0, 4, 8, 12]
    assert found["final"]["held_out"]["mix"] == found["curve"]["held_out"][-1]["mix"]
    # The two arms pull apart on held-out text: what is risky becomes unlikelier while the rest becomes likelier.
    first, last = (found["curve"]["held_out"][i]["mix"] for i in (0, -1))
    assert last["safe"] < first["safe"]
    assert last["risky"] - last["safe"] > first["risky"] - first["safe"]


def test_held_out_loss_is_what_the_ruler_measures(made):
    """The learning curve's loss and the one way of scoring that results come from agree."""
    _, sequences, _ = data()
    lm = LanguageModel.from_pretrained(made)
    risky_first = np.argsort(-sequences.risk[:, 1:].sum(1), kind="stable")[:5]
    few = PackedSequences(sequences.tokens[risky_first], sequences.risk[risky_first])
    rows = few.tokens.tolist()
    measured = torch.cat(token_logprobs(lm, [row[:1] for row in rows], [row[1:] for row in rows]))
    found = held_out_loss(lm.model, few, batch_size=2)
    assert found["all"] == pytest.approx(-float(measured.mean()), abs=1e-5)
    risk = torch.from_numpy(few.risk[:, 1:].reshape(-1))
    assert risk.any()
    assert found["risky"] == pytest.approx(-float(measured[risk].mean()), abs=1e-5)
    assert found["safe"] == pytest.approx(-float(measured[~risk].mean()), abs=1e-5)
    assert "risky" not in held_out_loss(lm.model, PackedSequences(few.tokens, np.zeros_like(few.risk)))


def test_held_out_loss_makes_no_whole_logits_where_the_head_is_plain(made):
    _, sequences, _ = data()
    few = PackedSequences(sequences.tokens[:5], sequences.risk[:5])
    lm = LanguageModel.from_pretrained(made)
    head, sizes = lm.model.get_output_embeddings(), []
    hook = head.register_forward_hook(lambda module, given, out: sizes.append(out.numel()))
    in_the_head = held_out_loss(lm.model, few, batch_size=2)
    hook.remove()
    assert sizes[1:] == [1, 1, 1]  # after a first look at eight tokens
    assert sizes[0] <= 8 * head.out_features

    class Own(torch.nn.Linear):  # no plain head any more: computed from logits, to the same numbers
        def forward(self, hidden):
            return super().forward(hidden)

    own = Own(head.in_features, head.out_features, bias=head.bias is not None)
    own.weight = head.weight
    lm.model.set_output_embeddings(own)
    assert held_out_loss(lm.model, few, batch_size=2) == pytest.approx(in_the_head, abs=1e-5)


def test_the_same_run_makes_the_same_model_from_a_mixture_too(made, tmp_path):
    mixture, sequences, tokenizer = data()
    again = pretrain(RECIPE, mixture, tokenizer, tmp_path / "again", held_out={"mix": sequences}, progress=False)
    assert card(again)["hashes"] == card(made)["hashes"]
    assert card(again)["curve"]["training"] == card(made)["curve"]["training"]
    other = run(tmp_path / "other", replace(RECIPE, seed=1))
    assert card(other)["hashes"]["weights"] != card(made)["hashes"]["weights"]


def test_accumulation_makes_the_same_curve(made, tmp_path):
    pieces = run(tmp_path / "pieces", replace(RECIPE, gradient_accumulation_steps=4))
    for a, b in zip(card(pieces)["curve"]["training"], card(made)["curve"]["training"], strict=True):
        assert a["loss"] == pytest.approx(b["loss"], abs=2e-4)
        assert a["likelihood_tokens"] == b["likelihood_tokens"]


@pytest.mark.parametrize("objective", ["full", "masked"])
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_other_objectives_and_precisions(tmp_path, objective, precision):
    recipe = replace(RECIPE, objective=objective, precision=precision, schedule="linear", family="olmo2", steps=3)
    found = card(run(tmp_path / "model", recipe))
    assert found["architecture"]["model_type"] == "olmo2"
    assert found["final"]["unlikelihood_tokens"] == 0
    assert "unlikelihood" not in found["final"]
    assert {p.dtype for p in AutoModelForCausalLM.from_pretrained(tmp_path / "model").parameters()} == {torch.float32}


def test_continuing_from_a_model_starts_where_it_ended(made, tmp_path):
    _, sequences, _ = data()
    recipe = replace(RECIPE, continue_from=str(made), schedule="constant", steps=3, seed=5)
    found = card(run(tmp_path / "on", recipe, held_out={"mix": sequences}))
    assert found["curve"]["held_out"][0]["mix"] == pytest.approx(card(made)["final"]["held_out"]["mix"], abs=1e-6)
    assert found["identity"]["continued_weights"] == card(made)["hashes"]["weights"]
    assert found["hashes"]["weights"] != card(made)["hashes"]["weights"]


def test_no_random_state_is_left_behind(tmp_path):
    random.seed(1), np.random.seed(2), torch.manual_seed(3)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.random.get_rng_state()
    run(tmp_path / "model", replace(RECIPE, steps=1))
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.random.get_rng_state()
    assert before[:2] == after[:2]
    assert torch.equal(before[2], after[2])


def test_no_random_state_is_read(made, tmp_path):
    torch.manual_seed(99)
    again = run(tmp_path / "again", held_out={"mix": data()[1]}, checkpoint_steps=4)
    assert card(again)["hashes"] == card(made)["hashes"]


def test_every_epoch_has_every_sequence_once_in_an_order_of_its_own():
    from detox.pretraining.feeding import EndlessOrder

    _, sequences, _ = data()
    order = EndlessOrder(sequences, replace(RECIPE, steps=30)).order
    first, second = order[: len(sequences)], order[len(sequences) : 2 * len(sequences)]
    assert sorted(first) == sorted(second) == list(range(len(sequences)))
    assert first.tolist() != second.tolist() != sorted(second)


def test_a_finished_run_is_not_run_again(made):
    before = (made / "model.safetensors").stat().st_mtime_ns
    assert run(made, held_out={"mix": data()[1]}, checkpoint_steps=4) == made
    assert (made / "model.safetensors").stat().st_mtime_ns == before


class StopError(Exception):
    pass


def stop_at(stop, error=StopError):
    def progress(step, steps):
        assert steps == RECIPE.steps
        if step == stop:
            raise error

    return progress


@pytest.mark.parametrize(
    "stop",
    [
        pytest.param(1, marks=pytest.mark.slow),
        5,
        pytest.param(8, marks=pytest.mark.slow),
        pytest.param(11, marks=pytest.mark.slow),
    ],
)
def test_a_stopped_run_goes_on_with_the_same_curve(made, tmp_path, stop):
    options = {"held_out": {"mix": data()[1]}, "checkpoint_steps": 4}
    with pytest.raises(StopError):
        run(tmp_path / "model", progress=stop_at(stop), **options)
    assert not (tmp_path / "model").exists()
    steps = []
    run(tmp_path / "model", progress=lambda step, _: steps.append(step), **options)
    assert steps == list(range(stop - 1 - (stop - 1) % 4 + 1, 13))
    assert card(tmp_path / "model")["curve"] == card(made)["curve"]
    assert card(tmp_path / "model")["hashes"] == card(made)["hashes"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_ctrl_c_says_where_it_goes_on(tmp_path):
    with pytest.raises(KeyboardInterrupt, match=r"stopped at step 6 of 12; checkpoints are in .*model\.work"):
        run(tmp_path / "model", progress=stop_at(6, KeyboardInterrupt), checkpoint_steps=3)
    assert sorted(path.name for path in (tmp_path / "model.work").glob("checkpoint-*")) == ["checkpoint-3"]


def test_a_checkpoint_cut_short_is_passed_over(made, tmp_path):
    options = {"held_out": {"mix": data()[1]}, "checkpoint_steps": 4}
    with pytest.raises(StopError):
        run(tmp_path / "model", progress=stop_at(9), **options)
    newest = tmp_path / "model.work" / "checkpoint-8" / "trainer_state.json"
    newest.write_text(newest.read_text()[:100])
    steps = []
    run(tmp_path / "model", progress=lambda step, _: steps.append(step), **options)
    assert steps[0] == 5
    assert card(tmp_path / "model")["curve"] == card(made)["curve"]


@pytest.mark.slow
def test_another_run_s_folders_are_not_taken_over(made, tmp_path):
    with pytest.raises(StopError):
        run(tmp_path / "model", progress=stop_at(9), checkpoint_steps=4)
    masked = replace(RECIPE, objective="masked")
    with pytest.raises(InputError, match=r"another run \(objective 'unlikelihood' and not 'masked'\)"):
        run(tmp_path / "model", masked)
    fewer = PackedSequences(data()[1].tokens[1:], data()[1].risk[1:])
    with pytest.raises(InputError, match="other data"):
        pretrain(RECIPE, fewer, data()[2], tmp_path / "model", progress=False)
    steps = []
    run(tmp_path / "model", masked, resume="never", progress=lambda step, _: steps.append(step))
    assert steps[0] == 1
    with pytest.raises(InputError, match="holds a model of another run"):
        run(tmp_path / "model")
    run(tmp_path / "model", resume="never")
    assert card(tmp_path / "model")["recipe"]["objective"] == "unlikelihood"
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("all I have")
    for options in ({}, {"resume": "never"}):
        with pytest.raises(InputError, match="not a pretrained model of detox"):
            run(mine, **options)
        with pytest.raises(InputError, match="not a work directory of detox"):
            run(tmp_path / "new", work_dir=mine, **options)
    assert (mine / "thesis.txt").read_text() == "all I have"


def test_what_does_not_fit_is_said_before_any_work(tmp_path):
    _, sequences, tokenizer = data()
    with pytest.raises(InputError, match="sequences have 16 tokens and the recipe's sequence_length is 32"):
        run(tmp_path / "model", replace(RECIPE, sequence_length=32))
    with pytest.raises(InputError, match="the tokenizer has 258 tokens"):
        pretrain(RECIPE, sequences, train_tokenizer(["a"], 258), tmp_path / "model")
    documents = list(tokenize_documents(tokenizer, data()[0].sources[0].documents))
    short = pack(documents, end_token_id=0, sequence_length=4)
    with pytest.raises(InputError, match="held: sequences have 4 tokens"):
        run(tmp_path / "model", held_out={"held": short})
    with pytest.raises(UnknownName, match="did you mean 'auto'"):
        run(tmp_path / "model", resume="automatic")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        run(tmp_path / "file" / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_checkpoint_of_another_arm_is_named_in_one_line(tmp_path):
    mixture, _, tokenizer = data()
    recipe = replace(RECIPE, objective="full")
    options = {"progress": False, "checkpoint_steps": 4}
    with pytest.raises(StopError):
        pretrain(recipe, mixture, tokenizer, tmp_path / "model", arm="full", **options | {"progress": stop_at(9)})
    for arm in ("filtered", "masked", "clean"):
        with pytest.raises(InputError, match=f"checkpoints of another run .*arm 'full' and not '{arm}'") as raised:
            pretrain(recipe, mixture, tokenizer, tmp_path / "model", arm=arm, **options)
        assert "\n" not in str(raised.value)
    pretrain(recipe, mixture, tokenizer, tmp_path / "model", arm="full", **options)
    assert card(tmp_path / "model")["arm"] == "full"
    with pytest.raises(InputError, match=r"holds a model of another run .*arm 'full' and not 'masked'"):
        pretrain(recipe, mixture, tokenizer, tmp_path / "model", arm="masked", **options)


def test_an_arm_decides_objective_and_documents(tmp_path):
    mixture, sequences, tokenizer = data()
    plain = replace(RECIPE, objective="full", steps=2)
    found = {}
    for arm in ("masked", "filtered", "clean"):
        pretrain(plain, mixture, tokenizer, tmp_path / arm, arm=arm, progress=False)
        found[arm] = card(tmp_path / arm)
    assert found["masked"]["recipe"]["objective"] == "masked"
    assert found["masked"]["hashes"]["data"] == sequences.digest
    assert found["filtered"]["recipe"]["objective"] == "full"
    assert found["filtered"]["data"]["risky_tokens"] == 0
    assert found["filtered"]["treatment"]["risky_text"] == "delete"
    assert [source["name"] for source in found["clean"]["data"]["sources"]] == ["clean"]
    with pytest.raises(InputError, match="arm 'masked' has the objective 'masked' and the recipe's is 'unlikelihood'"):
        pretrain(RECIPE, mixture, tokenizer, tmp_path / "x", arm="masked", progress=False)
    with pytest.raises(InputError, match="the data is packed already; give a Mixture"):
        pretrain(plain, sequences, tokenizer, tmp_path / "x", arm="filtered", progress=False)
    with pytest.raises(UnknownName, match="did you mean 'masked'"):
        pretrain(plain, mixture, tokenizer, tmp_path / "x", arm="mask", progress=False)
    assert not (tmp_path / "x").exists()


def test_gradient_checkpointing_makes_the_same_curve(made, tmp_path):
    again = run(tmp_path / "again", replace(RECIPE, gradient_checkpointing=True))
    for a, b in zip(card(again)["curve"]["training"], card(made)["curve"]["training"], strict=True):
        assert a["loss"] == pytest.approx(b["loss"], abs=1e-4)
    assert AutoModelForCausalLM.from_pretrained(again).config.use_cache


@pytest.mark.slow
@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_a_continued_schedule_goes_on_where_the_old_one_was(tmp_path, schedule):
    """Steps 40 to 52 of a schedule of 100 after 10 of warm-up; also when the run is stopped and resumed."""
    recipe = replace(RECIPE, schedule=schedule, schedule_start=40, schedule_steps=100, warmup=10)
    with pytest.raises(StopError):
        run(tmp_path / "model", recipe, progress=stop_at(7), checkpoint_steps=4)
    run(tmp_path / "model", recipe, checkpoint_steps=4)
    rates = [entry["learning_rate"] for entry in card(tmp_path / "model")["curve"]["training"]]
    done = (40 + np.arange(12) - 10) / 90
    expected = {
        "cosine": 0.1 + 0.9 * (1 + np.cos(np.pi * done)) / 2,
        "linear": 1 - done,
        "constant": np.ones(12),
    }[schedule]
    assert rates == pytest.approx(1e-2 * expected, rel=1e-6)


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_a_schedule_of_its_own_is_the_one_that_a_continued_one_would_be(tmp_path, schedule):
    from detox.pretraining.schedule import learning_rate_factor

    recipe = replace(RECIPE, schedule=schedule, warmup=3)
    rates = [entry["learning_rate"] for entry in card(run(tmp_path / "model", recipe))["curve"]["training"]]
    assert rates == pytest.approx([1e-2 * learning_rate_factor(recipe, step) for step in range(12)], rel=1e-6)


def test_throughput_time_left_and_mfu_are_logged_and_missing_is_not_zero(tmp_path, monkeypatch):
    from detox.pretraining import run as module

    seen = []
    monkeypatch.setattr(module, "StopDiverged", lambda: Spy(seen))
    found = card(run(tmp_path / "model", peak_flops=1e9))
    logged = [logs for logs in seen if "loss" in logs]
    assert len(logged) == 12
    assert all(logs["tokens_per_second"] > 0 for logs in logged)
    flops = 6 * found["parameters"] - 6 * 258 * 16 + 12 * 1 * 16 * 16  # the input embedding multiplies nothing
    flops -= 6 * (len(data()[2]) - 258) * 16
    for logs in logged:
        assert logs["mfu"] == pytest.approx(logs["tokens_per_second"] * flops / 1e9, abs=6e-5)
    left = [logs["seconds_left"] for logs in logged]
    assert left[-1] == 0
    assert left[5] > 0
    assert found["tokens_per_second"] > 0
    assert found["mfu"] == pytest.approx(found["tokens_per_second"] * flops / 1e9, abs=6e-5)
    assert "tokens_per_second" not in found["final"]  # two equal runs have equal curves
    unknown = card(run(tmp_path / "unknown"))
    assert unknown["mfu"] is None
    assert unknown["tokens_per_second"] > 0
    assert not any("mfu" in logs for logs in seen[len(logged) :])


class Spy(TrainerCallback):
    def __init__(self, seen):
        self.seen = seen

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.seen.append(dict(logs))


def test_trackers_get_all_of_it_and_a_missing_one_is_one_line(tmp_path, monkeypatch):
    """A module in the place of trackio gets what transformers' own callback for it sends."""
    with pytest.raises(UnknownName, match="did you mean 'wandb'"):
        run(tmp_path / "model", report_to="wandbb")
    monkeypatch.setattr("detox.pretraining.tracking.TRACKERS", ("mlflowish",))
    with pytest.raises(MissingData, match=r"report_to: mlflowish is not installed; pip install mlflowish"):
        run(tmp_path / "model", report_to=["mlflowish"])
    monkeypatch.undo()
    assert not list(tmp_path.iterdir())
    seen = []

    class Reporter(Spy):
        def __init__(self):
            super().__init__(seen)

    monkeypatch.setattr("detox.pretraining.tracking.find_spec", lambda name: object())
    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "trackio", Reporter)
    run(tmp_path / "model", report_to="trackio", held_out={"mix": data()[1]}, checkpoint_steps=6)
    steps = [logs for logs in seen if "loss" in logs]
    assert len(steps) == 12
    assert all(
        {"likelihood", "likelihood_tokens", "tokens_per_second", "seconds_left"} <= logs.keys() for logs in steps
    )
    watched = [logs for logs in seen if "held_out/mix/all" in logs]
    final = card(tmp_path / "model")["final"]["held_out"]["mix"]
    assert len(watched) == 3
    assert watched[-1]["held_out/mix/all"] == final["all"]


def test_the_card_for_people_holds_no_text_of_the_data(made):
    text = (made / "README.md").read_text()
    assert text.startswith("---\nlibrary_name: transformers\n")
    found = card(made)
    for value in (found["hashes"]["weights"], "| toxic |", "unlikelihood, denominator shared", "held-out mix, risky"):
        assert value in text
    assert "fool" not in text
    assert "fool" not in (made / "pretraining.json").read_text()


def test_too_little_room_is_said_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=100_000))
    with pytest.raises(OutputError, match=r"has 0\.1 MiB free and checkpoints and model need"):
        run(tmp_path / "model")
    assert not (tmp_path / "model").exists()


_FULL = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tests.pretraining.test_run import RECIPE, data, run
from detox.cli.flags import guarded
import torch
torch.set_num_threads(1)
def step(done, steps):
    if done == 6:  # checkpoint 4 is there; no file may grow beyond the limit from now on: weights at 4096, AdamW at 50000
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
sys.exit(guarded(lambda: run(Path(sys.argv[1]), progress=step, checkpoint_steps=4) and None))
"""


@pytest.mark.slow
@pytest.mark.parametrize("limit", [4096, pytest.param(50_000, marks=pytest.mark.evidence)])
def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(made, tmp_path, limit):
    """Files that may not grow stand for a disk that is full: the same errors of the same calls."""
    repository = str(Path(__file__).resolve().parents[2])
    command = [sys.executable, "-c", _FULL, str(tmp_path / "model"), repository, str(limit)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert "cannot write checkpoint or model" in lines[0]
    assert [path.name for path in tmp_path.iterdir()] == ["model.work"]
    assert [path.name for path in (tmp_path / "model.work").glob("checkpoint-*")] == ["checkpoint-4"]
    run(tmp_path / "model", checkpoint_steps=4)
    for a, b in zip(card(tmp_path / "model")["curve"]["training"], card(made)["curve"]["training"], strict=True):
        assert a["loss"] == pytest.approx(b["loss"], abs=1e-4)
    assert card(tmp_path / "model")["resumed_at_step"] == 4


def test_a_diverged_run_ends_and_keeps_its_good_checkpoint(tmp_path):
    wild = replace(RECIPE, learning_rate=1e30, max_grad_norm=1e30, warmup=0, steps=20)
    with pytest.raises(DetoxError, match="training diverged: the loss is nan at step"):
        run(tmp_path / "model", wild)
    assert not (tmp_path / "model").exists()


def test_progress_goes_to_stderr_with_time_left(tmp_path, capfd):
    run(tmp_path / "model", progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "12/12" in err
    assert "loss=" in err
    assert "step/s" in err or "s/step" in err


_CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import torch
torch.set_num_threads(1)
from tests.pretraining.test_run import LONG, data, run
run(Path(sys.argv[1]), LONG[sys.argv[3]], held_out={"mix": data()[1]}, checkpoint_steps=10)
"""
LONG = {
    "float32": replace(RECIPE, steps=150),
    "bf16": replace(RECIPE, steps=100, precision="bf16", gradient_accumulation_steps=2, gradient_checkpointing=True),
}


@pytest.mark.evidence
@pytest.mark.parametrize("kind", LONG)
def test_kill_9_again_and_again_leaves_the_same_curve(tmp_path, kind):
    """A real process, really killed, at whatever it was doing; then run to its end."""
    repository = str(Path(__file__).resolve().parents[2])
    command = [sys.executable, "-c", _CHILD]
    subprocess.run([*command, str(tmp_path / "whole"), repository, kind], check=True)
    killed = 0
    for attempt in range(1, 4):
        child = subprocess.Popen([*command, str(tmp_path / "model"), repository, kind])
        work = tmp_path / "model.work"
        deadline = time.monotonic() + 120
        while child.poll() is None and time.monotonic() < deadline:
            saved = [int(path.name.rpartition("-")[2]) for path in work.glob("checkpoint-*")]
            if saved and max(saved) >= 30 * attempt:
                os.kill(child.pid, signal.SIGKILL)
                break
            time.sleep(0.002)
        killed += child.wait() == -signal.SIGKILL
        assert not (tmp_path / "model").exists() or child.returncode == 0
    assert killed >= 2
    subprocess.run([*command, str(tmp_path / "model"), repository, kind], check=True)
    assert card(tmp_path / "model")["curve"] == card(tmp_path / "whole")["curve"]
    assert card(tmp_path / "model")["hashes"] == card(tmp_path / "whole")["hashes"]
    assert card(tmp_path / "model")["resumed_at_step"] > 0
    assert not (tmp_path / "model.work").exists()
