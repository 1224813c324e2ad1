import numpy as np
import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    OlmoConfig,
    OlmoForCausalLM,
    Trainer,
    TrainingArguments,
)

from detox.errors import InputError, UnknownName
from detox.fused_loss import fused_selective_loss
from detox.losses import DENOMINATORS, OBJECTIVES, selective_loss
from detox.pretraining import SelectiveLossTrainer, TokenizedDocument
from detox.pretraining.trainer import _targets
from detox.training import fused_head
from detox.training.fused_head import why_not_fused

VOCAB, LENGTH, STEPS = 40, 12, 3
FUSABLE = ("olmo", "olmo2", "llama", "gpt2", "gpt_neox", "qwen3")
BEHIND_THE_HEAD = ("gemma2", "cohere", "granite")  # a soft cap, a scale, a divisor


def model(family="olmo", **options):
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    if family == "gpt2":
        sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    if family in ("qwen3", "gemma2"):
        sizes |= {"head_dim": 8, "num_key_value_heads": 1}
    if family == "granite":
        sizes |= {"logits_scaling": 4.0}
    torch.manual_seed(0)
    special = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None}
    config = AutoConfig.for_model(family, **{"vocab_size": VOCAB, **special, **sizes, **options})
    return AutoModelForCausalLM.from_config(config)


def examples(count=8 * STEPS, risky=0.3, padded=True):
    """Sequences of very unequal loss: some all risky, some half padding, so that a mean of means is far off."""
    rng = np.random.default_rng(0)
    found = []
    for i in range(count):
        tokens = torch.tensor(rng.integers(1, VOCAB, LENGTH))
        labels = tokens.clone()
        if padded and i % 3 == 0:
            labels[LENGTH // 3 :] = -100
        risk = torch.tensor(rng.random(LENGTH) < (1.0 if i % 4 == 0 else risky))
        found.append({"input_ids": tokens, "labels": labels, "risk": risk})
    return found


def arguments(folder, batch=8, accumulate=1, **options):
    return TrainingArguments(
        output_dir=str(folder),
        **{
            "max_steps": STEPS,
            "per_device_train_batch_size": batch,
            "gradient_accumulation_steps": accumulate,
            "optim": "sgd",
            "learning_rate": 0.5,
            "lr_scheduler_type": "constant",
            "max_grad_norm": 0.0,
            "weight_decay": 0.0,
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
            "use_cpu": True,
            "train_sampling_strategy": "sequential",
            "remove_unused_columns": False,
        }
        | options,
    )


def train(folder, batch=8, accumulate=1, family="olmo", data=None, of=None, training=None, **options):
    trainer = SelectiveLossTrainer(
        model(family, **(of or {})),
        arguments(folder, batch, accumulate, **(training or {})),
        train_dataset=examples() if data is None else data,
        **options,
    )
    trainer.train()
    return trainer


def weights(trainer):
    return torch.cat([parameter.detach().reshape(-1) for parameter in trainer.model.parameters()])


@pytest.fixture
def fused_calls(monkeypatch):
    """How many rows went into the fused loss, call by call."""
    calls = []

    def noted(hidden, *args, **options):
        calls.append(hidden.shape[:-1].numel())
        return fused_selective_loss(hidden, *args, **options)

    monkeypatch.setattr(fused_head, "fused_selective_loss", noted)
    return calls


@pytest.mark.slow
@pytest.mark.parametrize("denominator", DENOMINATORS)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_accumulation_changes_nothing(tmp_path, objective, denominator):
    options = {"objective": objective, "unlikelihood_weight": 0.5, "denominator": denominator}
    once = train(tmp_path, 8, 1, **options, fused=False)
    eight_times = train(tmp_path, 1, 8, **options)
    torch.testing.assert_close(weights(once), weights(eight_times), rtol=0, atol=1e-6)
    assert (weights(once) - torch.cat([p.detach().reshape(-1) for p in model().parameters()])).abs().max() > 1e-2
    for a, b in zip(once.state.log_history[:STEPS], eight_times.state.log_history[:STEPS], strict=True):
        assert a["loss"] == pytest.approx(b["loss"], abs=1e-5)
        assert a["likelihood"] == pytest.approx(b["likelihood"], abs=1e-5)
        assert a["likelihood_tokens"] == b["likelihood_tokens"]
        assert a["unlikelihood_tokens"] == b["unlikelihood_tokens"]


@pytest.mark.slow
@pytest.mark.parametrize("family", FUSABLE)
def test_the_loss_in_the_head_trains_as_that_of_the_logits(tmp_path, family, fused_calls):
    options = {"family": family, "objective": "unlikelihood", "unlikelihood_weight": 0.5}
    of_logits = train(tmp_path, 8, 1, **options, fused=False)
    assert not fused_calls
    in_head = train(tmp_path, 4, 2, **options)
    assert fused_calls == [4 * LENGTH] * 2 * STEPS
    assert "forward" not in vars(in_head.model.get_output_embeddings())  # the model is as it was
    torch.testing.assert_close(weights(of_logits), weights(in_head), rtol=0, atol=1e-6)
    for a, b in zip(of_logits.state.log_history[:STEPS], in_head.state.log_history[:STEPS], strict=True):
        for name in ("loss", "likelihood", "unlikelihood"):
            assert a[name] == pytest.approx(b[name], abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("family", BEHIND_THE_HEAD)
def test_what_stands_behind_the_head_is_found_however_small_the_logits(tmp_path, family, fused_calls):
    small = model(family)
    for parameter in small.parameters():
        parameter.data.mul_(1e-3)
    batch = {"input_ids": examples(2)[0]["input_ids"].unsqueeze(0)}
    assert "soft-capped, scaled" in why_not_fused(small, small.get_output_embeddings(), batch)
    plain = model()
    assert why_not_fused(plain, plain.get_output_embeddings(), batch) is None
    once, twice = (train(tmp_path, b, a, family=family, objective="unlikelihood") for b, a in ((8, 1), (4, 2)))
    torch.testing.assert_close(weights(once), weights(twice), rtol=0, atol=1e-6)
    assert not fused_calls
    with pytest.raises(InputError, match=r"fused=True, but .*soft-capped, scaled or cut.*leave fused at None"):
        train(tmp_path, family=family, fused=True)


def test_a_head_that_is_not_plain_is_left_alone():
    class Louder(torch.nn.Linear):
        def forward(self, hidden):
            return 2 * super().forward(hidden)

    other = model()
    other.set_output_embeddings(Louder(16, VOCAB, bias=False))
    batch = {"input_ids": torch.ones(1, 4, dtype=torch.long)}
    assert "Louder, not a plain linear layer" in why_not_fused(other, other.get_output_embeddings(), batch)
    hooked = model()
    hooked.lm_head.register_forward_hook(lambda module, given, logits: logits + 1)
    assert "cut" in why_not_fused(hooked, hooked.lm_head, batch)
    twice = model()
    twice.lm_head.forward = lambda hidden: hidden
    assert "not a plain" in why_not_fused(twice, twice.lm_head, batch)


def test_trying_the_head_takes_nothing_from_the_random_state(tmp_path):
    dropping = {"resid_pdrop": 0.1, "embd_pdrop": 0.1}
    runs = [train(tmp_path, family="gpt2", of=dropping, objective="masked", fused=fused) for fused in (False, None)]
    torch.testing.assert_close(*map(weights, runs), rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("fused", [False, True])
def test_checkpointed_activations_change_nothing(tmp_path, fused, fused_calls):
    plain = train(tmp_path, objective="unlikelihood", fused=False)
    options = {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": False}}
    checkpointed = train(tmp_path, 2, 4, objective="unlikelihood", fused=fused, training=options)
    assert any(getattr(module, "gradient_checkpointing", False) for module in checkpointed.model.modules())
    assert bool(fused_calls) is fused
    torch.testing.assert_close(weights(plain), weights(checkpointed), rtol=0, atol=1e-6)


def test_packed_documents_and_tokens_without_a_loss(tmp_path):
    """Against the formula on the logits: sequences that documents run across, some tokens of which are ignored."""
    rng = np.random.default_rng(1)
    documents = [
        TokenizedDocument(str(i), rng.integers(1, VOCAB, n), rng.random(n) < 0.3)
        for i, n in enumerate(rng.integers(3, 30, 40))
    ]
    tokens, risk = (np.concatenate([getattr(d, name) for d in documents]) for name in ("tokens", "risk"))
    count = len(tokens) // LENGTH // 8 * 8
    data = []
    for row in range(count):
        part = slice(row * LENGTH, (row + 1) * LENGTH)
        ids = torch.tensor(tokens[part])
        data.append(
            {
                "input_ids": ids,
                "labels": torch.where(torch.tensor(rng.random(LENGTH) < 0.2), -100, ids),
                "risk": torch.tensor(risk[part]),
            }
        )
    trainer = train(tmp_path, 2, 4, data=data, objective="unlikelihood", training={"max_steps": 1})
    plain = model()
    batch = {name: torch.stack([example[name] for example in data[:8]]) for name in data[0]}
    log_p = torch.log_softmax(plain(input_ids=batch["input_ids"]).logits[:, :-1], -1)
    targets, risky = batch["labels"][:, 1:], batch["risk"][:, 1:]
    log_p = log_p.gather(-1, targets.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    losses = torch.where(risky, -torch.log1p(-log_p.exp()), -log_p)
    losses[targets >= 0].mean().backward()
    expected = torch.cat([(p - 0.5 * p.grad).detach().reshape(-1) for p in plain.parameters()])
    torch.testing.assert_close(weights(trainer), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_without_risk_it_is_the_stock_trainer(tmp_path, objective):
    data = [example | {"risk": torch.zeros(LENGTH, dtype=torch.bool)} for example in examples()]
    ours = train(tmp_path, 4, 2, objective=objective, data=data)
    stock = Trainer(
        model(),
        arguments(tmp_path, 4, 2, remove_unused_columns=True),
        train_dataset=[{name: example[name] for name in ("input_ids", "labels")} for example in data],
    )
    stock.train()
    torch.testing.assert_close(weights(ours), weights(stock), rtol=0, atol=1e-6)
    for a, b in zip(ours.state.log_history[:STEPS], stock.state.log_history[:STEPS], strict=True):
        assert a["loss"] == pytest.approx(b["loss"], abs=1e-5)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("denominator", DENOMINATORS)
def test_what_is_logged_is_what_was_computed(tmp_path, objective, denominator):
    """Against the paper's sums, written out from the logits of the same batch."""
    data = examples(8)
    batch = {name: torch.stack([example[name] for example in data]) for name in data[0]}
    with torch.no_grad():
        log_p = torch.log_softmax(model()(input_ids=batch["input_ids"]).logits[:, :-1].double(), -1)
    targets, risk = batch["labels"][:, 1:], batch["risk"][:, 1:]
    log_p = log_p.gather(-1, targets.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    present = targets >= 0
    safe, risky = present & ~risk, present & risk
    likely = present if objective == "full" else safe
    unlikely = risky if objective == "unlikelihood" else torch.zeros_like(risky)
    likelihood, unlikelihood = -log_p[likely].sum(), -torch.log1p(-log_p[unlikely].exp()).sum()

    torch.manual_seed(0)
    trainer = SelectiveLossTrainer(
        model(),
        arguments(tmp_path, max_steps=1),
        train_dataset=data,
        objective=objective,
        unlikelihood_weight=2.0,
        denominator=denominator,
    )
    trainer.train()
    logged = trainer.state.log_history[0]
    assert logged["likelihood_tokens"] == likely.sum()
    assert logged["unlikelihood_tokens"] == unlikely.sum()
    assert logged["likelihood"] == pytest.approx(float(likelihood / likely.sum()), rel=1e-5)
    # The paper's shared denominator: every token that carries a loss, whichever it is.
    expected = {
        "shared": (likelihood + 2 * unlikelihood) / (likely.sum() + unlikely.sum()),
        "per-kind": likelihood / likely.sum() + 2 * unlikelihood / unlikely.sum().clamp(min=1),
    }
    assert logged["loss"] == pytest.approx(float(expected[denominator]), rel=1e-5)
    if objective == "unlikelihood":
        assert logged["unlikelihood"] == pytest.approx(float(unlikelihood / unlikely.sum()), rel=1e-5)
    else:
        assert "unlikelihood" not in logged  # no such tokens: missing, not zero


def test_a_step_without_any_loss_moves_nothing(tmp_path):
    data = [example | {"risk": torch.ones(LENGTH, dtype=torch.bool)} for example in examples()]
    trainer = train(tmp_path, 4, 2, objective="masked", data=data)
    assert torch.equal(weights(trainer), torch.cat([p.detach().reshape(-1) for p in model().parameters()]))
    assert trainer.state.log_history[0]["loss"] == 0
    assert "likelihood" not in trainer.state.log_history[0]


def test_logged_sums_cover_all_steps_since_the_last_entry(tmp_path):
    every, at_end = (
        SelectiveLossTrainer(
            model(), arguments(tmp_path, 2, 4, logging_steps=steps), train_dataset=examples(), objective="unlikelihood"
        )
        for steps in (1, STEPS)
    )
    every.train()
    at_end.train()
    entries, (entry, *_) = every.state.log_history[:STEPS], at_end.state.log_history
    for arm in ("likelihood", "unlikelihood"):
        tokens = [logged[f"{arm}_tokens"] for logged in entries]
        assert entry[f"{arm}_tokens"] == sum(tokens)
        assert entry[arm] == pytest.approx(np.average([logged[arm] for logged in entries], weights=tokens), rel=1e-5)


def test_evaluation_does_not_leak_into_the_training_log(tmp_path):
    trainer = SelectiveLossTrainer(
        model(),
        arguments(tmp_path, max_steps=1),
        train_dataset=examples(8),
        eval_dataset=examples(3),
        objective="masked",
    )
    assert trainer.evaluate()["eval_loss"] > 0
    trainer.train()
    entry = next(logged for logged in trainer.state.log_history if "loss" in logged)
    targets = torch.stack([example["labels"][1:] for example in examples(8)])
    risk = torch.stack([example["risk"][1:] for example in examples(8)])
    assert entry["likelihood_tokens"] == ((targets >= 0) & ~risk).sum()


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("metrics", [None, lambda predicted: {"shape": predicted.predictions.shape}])
def test_evaluation_divides_by_the_tokens_of_the_objective(tmp_path, objective, metrics, fused_calls):
    data = examples(8)
    trainer = SelectiveLossTrainer(
        model(),
        arguments(tmp_path, per_device_eval_batch_size=8),
        eval_dataset=data,
        objective=objective,
        compute_metrics=metrics,
    )
    found = trainer.evaluate()
    batch = {name: torch.stack([example[name] for example in data]) for name in data[0]}
    targets, risk = _targets(batch)
    with torch.no_grad():
        expected = selective_loss(model()(input_ids=batch["input_ids"]).logits, targets, risk, objective)
    assert found["eval_loss"] == pytest.approx(float(expected.total / expected.count), rel=1e-5)
    assert found.get("eval_shape") == (None if metrics is None else (8, LENGTH, VOCAB))
    assert bool(fused_calls) is (metrics is None)  # metrics need the logits


@pytest.mark.parametrize("fused", [False, True])
def test_bf16_autocast_trains_with_the_loss_in_float32(tmp_path, fused, fused_calls):
    losses = {}
    for bf16 in (False, True):
        trainer = SelectiveLossTrainer(
            model(), arguments(tmp_path, bf16=bf16), train_dataset=examples(), objective="unlikelihood", fused=fused
        )
        trainer.train()
        assert {p.dtype for p in trainer.model.parameters()} == {torch.float32}
        losses[bf16] = [entry["loss"] for entry in trainer.state.log_history[:STEPS]]
    np.testing.assert_allclose(losses[True], losses[False], rtol=2e-2)
    assert losses[True] != losses[False]
    assert bool(fused_calls) is fused


def test_what_is_wrong_is_said(tmp_path):
    with pytest.raises(InputError, match="remove_unused_columns=True"):
        SelectiveLossTrainer(model(), arguments(tmp_path, remove_unused_columns=True), train_dataset=examples())
    without = [{name: example[name] for name in ("input_ids", "labels")} for example in examples()]
    with pytest.raises(InputError, match="expected input_ids, labels and risk"):
        train(tmp_path, data=without)
    with pytest.raises(UnknownName, match="did you mean 'masked'"):
        train(tmp_path, objective="masket")
    with pytest.raises(UnknownName, match="did you mean 'per-kind'"):
        train(tmp_path, denominator="per kind")


def test_olmo_is_what_is_tested():
    assert isinstance(model(), OlmoForCausalLM)
    assert isinstance(model().config, OlmoConfig)
