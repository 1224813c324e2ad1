"""SFT, DPO and contrastive perplexity: the contract on three layouts, TRL's and PEFT's own results, files, interruptions, wrong input."""

from __future__ import annotations

import copy
import importlib.util
import json
import math
import signal
import subprocess
import sys

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model_state_dict
from trl import DPOConfig, DPOTrainer

from detox import DPO, SFT, Contrast, ContrastivePerplexity, LanguageModel, load
from detox.data.projections import preference_dataset
from detox.detoxifiers import ITI, check_detoxifier, make
from detox.detoxifiers.planted import FAMILIES
from detox.errors import BaseMismatch, DataError, DetoxError, InputError, NotExportable, UnknownName
from detox.models import Edit
from detox.models.edits import nothing
from detox.models.twins import twin
from tests.conftest import REPOSITORY

QUICK = {"lora_r": 4, "batch_size": 16, "epochs": 1.0}
METHODS = {
    "sft": SFT(learning_rate=1e-2, **QUICK),
    "dpo": DPO(learning_rate=1e-2, warmup_steps=0, **QUICK),
    "cp": ContrastivePerplexity(learning_rate=1e-2, lora_dropout=0.0, **{**QUICK, "batch_size": 8}),
    "sft-full": SFT(weights="full", learning_rate=1e-3, batch_size=16),
}


LAYOUTS = ("llama", "gpt2", "gpt_neox")  # one each of: plain, Conv1D, fused queries, keys and values


def marks(name, family):
    return [pytest.mark.slow if family in LAYOUTS else pytest.mark.evidence]


@pytest.mark.parametrize(
    ("name", "family"), [pytest.param(name, one, marks=marks(name, one)) for name in METHODS for one in FAMILIES]
)
def test_the_contract_is_kept(name, family):
    report = check_detoxifier(METHODS[name], family=family)
    expected = ["kept"] * 9
    if name == "sft-full":
        expected[6] = "excluded"  # hooks no module
    assert [point.outcome for point in report.points] == expected, str(report)


@pytest.fixture(scope="module")
def fitted(planted):
    """Each method, fitted once."""
    return {name: type(one)(**vars(one)).fit(planted.lm, planted.contrasts) for name, one in METHODS.items()}


def logits(lm, ids):
    with torch.no_grad():
        return lm.model(input_ids=ids).logits


@pytest.fixture(scope="module")
def ids():
    return torch.randint(3, 20, (3, 9), generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("name", ["sft", "dpo", "cp"])
def test_what_is_saved_is_an_adapter_that_plain_peft_loads(name, fitted, planted, ids, tmp_path):
    method = fitted[name]
    method.save_pretrained(tmp_path / "adapter")
    assert {"adapter_config.json", "adapter_model.safetensors", "detoxifier.json", "README.md"} == {
        path.name for path in (tmp_path / "adapter").iterdir()
    }
    with method.applied(planted.lm) as safe:
        here = logits(safe, ids)
    theirs = PeftModel.from_pretrained(twin(planted.lm.model), tmp_path / "adapter").eval()
    with torch.no_grad():
        assert torch.equal(theirs(input_ids=ids).logits, here)
    with load(tmp_path / "adapter").applied(planted.lm) as safe:
        assert torch.equal(logits(safe, ids), here)
    card = (tmp_path / "adapter" / "README.md").read_text()
    assert "more toxic" in card
    assert method.fitted_on_["contrasts"]["sha256"] in card


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_export_is_a_plain_checkpoint_with_a_certificate(name, strength, fitted, planted, ids, tmp_path):
    certificate = fitted[name].export(planted.lm, tmp_path / "out", strength=strength)
    assert certificate.max_logit_difference < 1e-4
    assert json.loads((tmp_path / "out" / "certificate.json").read_text())["prompts"] == certificate.prompts
    again = LanguageModel.from_pretrained(tmp_path / "out")
    assert not any("lora" in key for key, _ in again.model.named_parameters())
    with fitted[name].applied(planted.lm, strength=strength) as safe:
        assert torch.allclose(logits(safe, ids), logits(again, ids), atol=1e-4)
    assert not torch.allclose(logits(planted.lm, ids), logits(again, ids), atol=1e-3)


def test_a_shift_beneath_goes_in_as_a_bias_and_what_is_neither_is_refused(fitted, planted, ids, tmp_path):
    iti = ITI(num_heads=2, strength=1.0).fit(planted.lm, planted.contrasts)
    forced = copy.copy(fitted["sft"])
    forced.allow_base_mismatch = True
    with iti.applied(planted.lm) as shifted:
        certificate = forced.export(shifted, tmp_path / "out")
        with forced.applied(shifted) as both:
            here = logits(both, ids)
    assert certificate.max_logit_difference <= certificate.bound
    again = LanguageModel.from_pretrained(tmp_path / "out")
    assert torch.allclose(here, logits(again, ids), atol=1e-5)
    assert again.model.config.attention_bias
    with (
        planted.lm.edited(Edit("other", "something", nothing)) as other,
        pytest.raises(NotExportable, match="no change of weights and no constant shift"),
    ):
        forced.export(other, tmp_path / "no")
    assert not (tmp_path / "no").exists()


@pytest.mark.slow
def test_dpo_is_what_a_plain_script_of_trl_makes(planted, tmp_path):
    mine = DPO(learning_rate=5e-3, warmup_steps=2, **QUICK).fit(planted.lm, planted.contrasts)
    arguments = DPOConfig(
        output_dir=str(tmp_path), beta=0.1, optim="rmsprop", learning_rate=5e-3, lr_scheduler_type="constant_with_warmup",
        warmup_steps=2, weight_decay=0.05, num_train_epochs=1, per_device_train_batch_size=16, max_length=64, seed=0, bf16=False,
        gradient_checkpointing=False, use_cpu=True, report_to="none", save_strategy="no", dataloader_pin_memory=False,
    )  # fmt: skip
    with torch.random.fork_rng():
        trainer = DPOTrainer(
            twin(planted.lm.model), args=arguments, train_dataset=preference_dataset(planted.contrasts),
            processing_class=planted.lm.tokenizer.__class__.from_pretrained(_saved(planted.lm.tokenizer, tmp_path / "tokenizer")),
            peft_config=LoraConfig(r=4, lora_alpha=16, lora_dropout=0.05, target_modules="all-linear", task_type="CAUSAL_LM"),
        )  # fmt: skip
        trainer.train()
    theirs = get_peft_model_state_dict(trainer.model)
    assert mine.tensors_.keys() == theirs.keys()
    for name, value in mine.tensors_.items():
        assert torch.equal(value, theirs[name]), name


@pytest.mark.slow
def test_dpo_asks_its_reference_once_where_rows_come_again(planted, monkeypatch):
    asked = []
    likelihoods = DPOTrainer.compute_ref_log_probs
    monkeypatch.setattr(
        DPOTrainer, "compute_ref_log_probs", lambda self, *args: asked.append(1) or likelihoods(self, *args)
    )
    fits = {}
    for name, settings in {
        "once": {"epochs": 3},
        "again": {"epochs": 3, "trainer_args": {"precompute_ref_log_probs": False}},
        "one epoch": {"epochs": 1},
    }.items():
        asked.clear()
        chosen = {**QUICK, "learning_rate": 5e-3, "warmup_steps": 2, **settings}
        fits[name] = DPO(**chosen).fit(planted.lm, planted.contrasts[:32]), len(asked)
    (once, times), (again, _) = fits["once"], fits["again"]
    assert times > 0
    assert fits["again"][1] == fits["one epoch"][1] == 0
    assert once.record_["steps"] == again.record_["steps"] == 3 * fits["one epoch"][0].record_["steps"]
    for (
        name,
        value,
    ) in once.tensors_.items():  # the same but for the last digits, which differ with what is padded together
        torch.testing.assert_close(value, again.tensors_[name], rtol=1e-3, atol=1e-4)


def _saved(tokenizer, folder):
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["ipo", "hinge", "kto", "simpo"])
def test_other_losses_of_trl_are_reached(loss, planted):
    method = DPO(loss=loss, learning_rate=1e-2, warmup_steps=0, **QUICK).fit(planted.lm, planted.contrasts[:16])
    assert method.record_["steps"] > 0
    assert any(value.abs().sum() > 0 for name, value in method.tensors_.items() if ".lora_B." in name)


@pytest.mark.slow
def test_datasets_of_trl_are_taken_as_they_are(planted):
    rows = preference_dataset(planted.contrasts)
    a, b = (
        DPO(learning_rate=1e-2, warmup_steps=0, **QUICK).fit(planted.lm, data) for data in (rows, planted.contrasts)
    )
    assert all(torch.equal(a.tensors_[name], b.tensors_[name]) for name in a.tensors_)
    text = Dataset.from_dict({"text": ["topic1 says kind1 kind2", "topic2 says kind3"] * 4})
    assert SFT(**QUICK).fit(planted.lm, text).record_["examples"] == 8
    talk = Dataset.from_dict({"prompt": ["topic1 says"] * 8, "completion": [" kind1 kind2"] * 8})
    assert SFT(**QUICK).fit(planted.lm, talk).record_["cut"] == 0


@pytest.mark.slow
def test_a_fit_goes_on_where_it_was_interrupted(planted, tmp_path, monkeypatch):
    from transformers import TrainerCallback

    from detox.detoxifiers import weight_fits

    settings = {"learning_rate": 1e-2, "warmup_steps": 0, "lora_r": 4, "batch_size": 16, "epochs": 2.0}
    whole = DPO(**settings).fit(planted.lm, planted.contrasts)

    class Stop(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 5:
                raise KeyboardInterrupt

    watch = weight_fits.watch
    monkeypatch.setattr(
        weight_fits, "watch", lambda trainer, name: (watch(trainer, name), trainer.add_callback(Stop()))
    )
    with pytest.raises(KeyboardInterrupt, match=r"stopped at step 5 of .*goes on from"):
        DPO(**settings).fit(planted.lm, planted.contrasts, work_dir=tmp_path / "work")
    monkeypatch.setattr(weight_fits, "watch", watch)
    assert list((tmp_path / "work").glob("checkpoint-*"))
    with pytest.raises(InputError, match=r"another run.*learning_rate"):
        DPO(**{**settings, "learning_rate": 0.5}).fit(planted.lm, planted.contrasts, work_dir=tmp_path / "work")
    resumed = DPO(**settings).fit(planted.lm, planted.contrasts, work_dir=tmp_path / "work")
    assert resumed.record_["steps"] == whole.record_["steps"]
    for name, value in whole.tensors_.items():
        assert torch.allclose(resumed.tensors_[name], value, atol=1e-6), name


_KILLED = """
import os, signal, sys
sys.path.insert(0, {repository!r})
import torch
torch.set_num_threads(1)
from transformers import TrainerCallback
from detox.detoxifiers import make, weight_fits
from detox.detoxifiers.planted import plant

class Kill(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 5:
            os.kill(os.getpid(), signal.SIGKILL)

watch = weight_fits.watch
weight_fits.watch = lambda trainer, name: (watch(trainer, name), trainer.add_callback(Kill()))
planted = plant("llama")
make(sys.argv[1], {settings!r}).fit(planted.lm, planted.contrasts, work_dir=sys.argv[2])
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sft", "contrastive_perplexity"])
def test_a_fit_that_was_killed_goes_on(name, planted, tmp_path):
    settings = {"learning_rate": 1e-2, "lora_r": 4, "lora_dropout": 0.0, "batch_size": 4, "epochs": 1.0}
    whole = make(name, settings).fit(planted.lm, planted.contrasts)
    child = tmp_path / "child.py"
    child.write_text(_KILLED.format(repository=str(REPOSITORY), settings=settings))
    done = subprocess.run([sys.executable, str(child), name, str(tmp_path / "work")], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL
    resumed = make(name, settings).fit(planted.lm, planted.contrasts, work_dir=tmp_path / "work")
    assert resumed.record_["steps"] == whole.record_["steps"]
    for key, value in whole.tensors_.items():
        assert torch.allclose(resumed.tensors_[key], value, atol=1e-6), key


def test_methods_compose_and_say_on_what_they_were_fitted(fitted, planted):
    lm, dpo = planted.lm, fitted["dpo"]
    with dpo.applied(lm) as safe:
        refitted = ITI(num_heads=2, strength=1.0).fit(safe, planted.contrasts)
        with refitted.applied(safe) as both:
            assert len(both.edits) == 2
    on_base = ITI(num_heads=2, strength=1.0).fit(lm, planted.contrasts)
    with dpo.applied(lm) as safe:
        with pytest.raises(BaseMismatch, match="active edits"), on_base.applied(safe):
            pass
        on_base.allow_base_mismatch = True
        with on_base.applied(safe) as both:
            assert len(both.edits) == 2
    # A second training starts from the first one's model, and both together are it.
    with dpo.applied(lm) as safe:
        second = SFT(learning_rate=1e-2, **QUICK).fit(safe, planted.contrasts)
        first = safe.fingerprint()
        assert second.fitted_on_["base"] == first
        with second.applied(safe) as both:
            assert both.fingerprint() != first


@pytest.mark.slow
def test_texts_that_are_cut_are_counted(planted):
    long = Contrast(id="long", prompt="topic1 says", safe=(" kind1" * 80,), toxic=(" mean1" * 80,))
    for name in ("sft", "dpo", "cp"):
        settings = {key: value for key, value in vars(METHODS[name]).items() if not key.endswith("_")}
        assert type(METHODS[name])(**settings).fit(planted.lm, [*planted.contrasts[:8], long]).record_["cut"] >= 1


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: SFT(weights="qlora"), UnknownName, "lora"),
        (lambda: SFT(lora_r=0), InputError, "lora_r is 0; expected a number above 0"),
        (lambda: DPO(beta=0), InputError, "beta is 0"),
        (lambda: ContrastivePerplexity(form="hinge"), UnknownName, "signed"),
        (lambda: ContrastivePerplexity(num_safe=0), InputError, "num_safe is 0; expected at least 1"),
        (lambda: ContrastivePerplexity(weights="full"), InputError, "use 'ce'"),
    ],
)
def test_settings_that_make_no_sense_are_one_line(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_wrong_data_is_one_line(planted):
    lm, safe_only = planted.lm, [Contrast(id="a", prompt="topic1", safe=(" kind1",), toxic=())]
    with pytest.raises(InputError, match="none of 1 contrasts has a safe and a toxic"):
        DPO(**QUICK).fit(lm, safe_only)
    with pytest.raises(InputError, match="none of 1 contrasts has a safe and a toxic"):
        ContrastivePerplexity(**QUICK).fit(lm, safe_only)
    with pytest.raises(InputError, match="no column 'rejected'; expected chosen, rejected, saw prompt, chosen"):
        DPO(**QUICK).fit(lm, Dataset.from_dict({"prompt": ["a"], "chosen": ["b"]}))
    with pytest.raises(DataError, match="row 1: an empty continuation"):
        DPO(**QUICK).fit(lm, Dataset.from_dict({"prompt": ["a", "a"], "chosen": ["b", ""], "rejected": ["c", "c"]}))
    with pytest.raises(DataError, match="row 0: chosen and rejected are the same"):
        DPO(**QUICK).fit(lm, Dataset.from_dict({"prompt": ["a"], "chosen": ["b"], "rejected": ["b"]}))
    with pytest.raises(InputError, match="'k_porj' is not in LlamaForCausalLM"):
        SFT(target_modules="q_proj,k_porj").fit(lm, planted.contrasts)
    with pytest.raises(InputError, match=r"trainer_args: .*no_such"):
        SFT(trainer_args={"no_such": 1}).fit(lm, planted.contrasts)


@pytest.mark.parametrize("name", ["sft", "dpo", "cp"])
def test_a_loss_that_is_no_number_ends_the_fit_and_names_rows(name, planted):
    broken = LanguageModel(twin(planted.lm.model, own_weights=True), planted.lm.tokenizer)
    with torch.no_grad():
        broken.model.get_input_embeddings().weight.fill_(float("nan"))
    settings = {key: value for key, value in vars(METHODS[name]).items() if not key.endswith("_")}
    with pytest.raises(DetoxError, match=r"the loss is nan at step 1, at rows \d+"):
        type(METHODS[name])(**settings).fit(broken, planted.contrasts)


def test_a_quantization_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(UnknownName, match="nf4"):
        LanguageModel.from_pretrained(tmp_path, quantization="fp4")
    if importlib.util.find_spec("bitsandbytes") is None:
        with pytest.raises(InputError, match=r"needs bitsandbytes.*detox-lm\[qlora\]"):
            LanguageModel.from_pretrained(tmp_path, quantization="nf4")


def test_an_adapter_trains_on_quantized_weights(planted, tmp_path):
    pytest.importorskip("bitsandbytes")
    planted.lm.model.save_pretrained(tmp_path)
    planted.lm.tokenizer.save_pretrained(tmp_path)
    lm = LanguageModel.from_pretrained(tmp_path, quantization="nf4", device="cpu")
    before = lm.fingerprint(rehash=True)
    method = SFT(learning_rate=1e-2, **QUICK).fit(lm, planted.contrasts)
    assert lm.fingerprint(rehash=True) == before
    assert any(value.abs().sum() > 0 for name, value in method.tensors_.items() if ".lora_B." in name)
    with pytest.raises(NotExportable, match="quantized"):
        method.export(lm, tmp_path / "out")


def test_what_would_change_the_base_s_own_weights_is_refused(planted):
    for settings in (
        {"bias": "all"}, {"modules_to_save": ["lm_head"]}, {"trainable_token_indices": [3]}, {"init_lora_weights": "pissa"},
    ):  # fmt: skip
        with pytest.raises(InputError, match="would change weights of the base model"):
            SFT(lora_args=settings, **QUICK).fit(planted.lm, planted.contrasts)
    for key in ("max_length", "output_dir"):
        with pytest.raises(InputError, match=f"trainer_args has {key!r}"):
            SFT(trainer_args={key: 6})


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["sigmoid", "kto"])
def test_the_reference_of_all_weights_is_the_handle_itself(loss, fitted, planted):
    with fitted["sft-full"].applied(planted.lm) as safe:
        method = DPO(loss=loss, weights="full", learning_rate=1e-6, warmup_steps=0, batch_size=16, epochs=1.0)
        method.fit(safe, planted.contrasts)
    start = method.record_["curve"][0]["loss"]
    assert start == pytest.approx(math.log(2) if loss == "sigmoid" else 0.5, abs=1e-3)  # model and reference are one
    assert method.tensors_


def test_weights_and_adapters_that_do_not_stack_are_refused(fitted, planted):
    with fitted["dpo"].applied(planted.lm) as safe:
        with pytest.raises(InputError, match="cannot be trained under an adapter"):
            SFT(weights="full").fit(safe, planted.contrasts)
        dora = SFT(lora_args={"use_dora": True}, **QUICK).fit(safe, planted.contrasts[:16])
        with pytest.raises(InputError, match="DoRA adapter"), dora.applied(safe):
            pass
        whole = fitted["sft-full"]
        whole.allow_base_mismatch = True
        with pytest.raises(InputError, match="under an adapter"), whole.applied(safe):
            pass


def test_a_saved_fit_without_its_tensors_is_damaged(fitted, tmp_path):
    for name, file in (("sft", "adapter_model.safetensors"), ("sft-full", "weights.safetensors")):
        fitted[name].save_pretrained(tmp_path / name)
        (tmp_path / name / file).unlink()
        with pytest.raises(DataError, match=f"{file} is missing"):
            load(tmp_path / name)


def test_a_fit_counts_nothing_for_the_handle_it_was_fitted_on(planted):
    iti = ITI(num_heads=2, strength=1.0).fit(planted.lm, planted.contrasts)
    with iti.applied(planted.lm) as shifted:
        before = [dict(one.tokens) for one in shifted.receipts()]
        SFT(**QUICK).fit(shifted, planted.contrasts[:16])
        assert [dict(one.tokens) for one in shifted.receipts()] == before


def test_an_adapter_on_half_precision_is_plain_peft_s(planted, ids, tmp_path):
    lm = LanguageModel(twin(planted.lm.model, own_weights=True).to(torch.bfloat16).eval(), planted.lm.tokenizer)
    method = SFT(learning_rate=1e-2, **QUICK).fit(lm, planted.contrasts)
    method.save_pretrained(tmp_path / "adapter")
    theirs = PeftModel.from_pretrained(twin(lm.model), tmp_path / "adapter").eval()
    with method.applied(lm) as safe, torch.no_grad():
        assert torch.equal(theirs(input_ids=ids).logits, logits(safe, ids))


@pytest.mark.slow
def test_held_out_losses_are_kept_and_settings_that_clash_are_one_line(planted):
    for name in ("sft", "dpo", "cp"):
        settings = {key: value for key, value in vars(METHODS[name]).items() if not key.endswith("_")}
        made = type(METHODS[name])(**{**settings, "trainer_args": {"eval_strategy": "epoch"}})
        made.fit(planted.lm, planted.contrasts[:32], eval_contrasts=planted.contrasts[32:])
        assert made.record_["held_out"][-1]["eval_loss"] > 0
        with pytest.raises(InputError, match=r"eval_strategy|eval_dataset|evaluation"):
            made.fit(planted.lm, planted.contrasts)
    with pytest.raises(InputError, match=r"got a IterableDataset; expected contrasts or a datasets.Dataset"):
        SFT(**QUICK).fit(planted.lm, Dataset.from_dict({"text": ["topic1"]}).to_iterable_dataset())
    with pytest.raises(InputError, match="got a Dataset; expected contrasts"):
        ContrastivePerplexity(**QUICK).fit(planted.lm, preference_dataset(planted.contrasts))
    with pytest.raises(InputError, match="the trainer refuses"):
        DPO(loss="nope", **QUICK).fit(planted.lm, planted.contrasts)


@pytest.mark.slow
def test_a_prompt_that_leaves_no_room_is_left_out_and_counted(planted):
    long = Contrast(id="long", prompt="topic1 " * 70 + "says", safe=(" kind1",), toxic=(" mean1",))
    for name in ("sft", "dpo", "cp"):
        settings = {key: value for key, value in vars(METHODS[name]).items() if not key.endswith("_")}
        found = type(METHODS[name])(**settings).fit(planted.lm, [*planted.contrasts[:8], long]).record_
        assert found["left_out"] == 1, name


def test_another_run_keeps_out_of_a_work_directory(planted, tmp_path):
    from detox.training.checkpoints import held

    with held(tmp_path / "work"), pytest.raises(InputError, match="another run is at work"):
        SFT(**QUICK).fit(planted.lm, planted.contrasts, work_dir=tmp_path / "work")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").write_text("{")
    with pytest.raises(InputError, match="is damaged"):
        SFT(**QUICK).fit(planted.lm, planted.contrasts, work_dir=tmp_path / "broken")
