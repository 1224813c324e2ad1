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
from detox.losses import OBJECTIVES
from detox.pretraining import SelectiveLossTrainer

VOCAB, LENGTH, STEPS = 40, 12, 3


def model(family="olmo"):
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    if family == "gpt2":
        sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, vocab_size=VOCAB, bos_token_id=0, eos_token_id=0, pad_token_id=None, **sizes)
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


def train(folder, batch=8, accumulate=1, family="olmo", data=None, **options):
    trainer = SelectiveLossTrainer(
        model(family),
        arguments(folder, batch, accumulate),
        train_dataset=examples() if data is None else data,
        **options,
    )
    trainer.train()
    return trainer


def weights(trainer):
    return torch.cat([parameter.detach().reshape(-1) for parameter in trainer.model.parameters()])


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_accumulation_changes_nothing(tmp_path, objective):
    once = train(tmp_path, 8, 1, objective=objective, unlikelihood_weight=0.5)
    eight_times = train(tmp_path, 1, 8, objective=objective, unlikelihood_weight=0.5)
    torch.testing.assert_close(weights(once), weights(eight_times), rtol=0, atol=1e-6)
    assert (weights(once) - torch.cat([p.detach().reshape(-1) for p in model().parameters()])).abs().max() > 1e-2
    for a, b in zip(once.state.log_history[:STEPS], eight_times.state.log_history[:STEPS], strict=True):
        assert a["loss"] == pytest.approx(b["loss"], abs=1e-5)
        assert a["likelihood"] == pytest.approx(b["likelihood"], abs=1e-5)
        assert a["likelihood_tokens"] == b["likelihood_tokens"]
        assert a["unlikelihood_tokens"] == b["unlikelihood_tokens"]


def test_a_family_that_knows_no_loss_arguments_accumulates_too(tmp_path):
    once, eight_times = (train(tmp_path, b, a, family="gpt2", objective="masked") for b, a in ((8, 1), (1, 8)))
    torch.testing.assert_close(weights(once), weights(eight_times), rtol=0, atol=1e-6)


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
def test_what_is_logged_is_what_was_computed(tmp_path, objective):
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
        model(), arguments(tmp_path, max_steps=1), train_dataset=data, objective=objective, unlikelihood_weight=2.0
    )
    trainer.train()
    logged = trainer.state.log_history[0]
    assert logged["likelihood_tokens"] == likely.sum()
    assert logged["unlikelihood_tokens"] == unlikely.sum()
    assert logged["likelihood"] == pytest.approx(float(likelihood / likely.sum()), rel=1e-5)
    # The paper's shared denominator: every token that carries a loss, whichever it is.
    assert logged["loss"] == pytest.approx(
        float((likelihood + 2 * unlikelihood) / (likely.sum() + unlikely.sum())), rel=1e-5
    )
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


def test_bf16_autocast_trains_with_the_loss_in_float32(tmp_path):
    losses = {}
    for bf16 in (False, True):
        trainer = SelectiveLossTrainer(
            model(), arguments(tmp_path, bf16=bf16), train_dataset=examples(), objective="unlikelihood"
        )
        trainer.train()
        assert {p.dtype for p in trainer.model.parameters()} == {torch.float32}
        losses[bf16] = [entry["loss"] for entry in trainer.state.log_history[:STEPS]]
    np.testing.assert_allclose(losses[True], losses[False], rtol=2e-2)
    assert losses[True] != losses[False]


def test_what_is_wrong_is_said(tmp_path):
    with pytest.raises(InputError, match="remove_unused_columns=True"):
        SelectiveLossTrainer(model(), arguments(tmp_path, remove_unused_columns=True), train_dataset=examples())
    without = [{name: example[name] for name in ("input_ids", "labels")} for example in examples()]
    with pytest.raises(InputError, match="expected input_ids, labels and risk"):
        train(tmp_path, data=without)
    with pytest.raises(UnknownName, match="did you mean 'masked'"):
        train(tmp_path, objective="masket")


def test_olmo_is_what_is_tested():
    assert isinstance(model(), OlmoForCausalLM)
    assert isinstance(model().config, OlmoConfig)
