"""Adapters and exchanged weights on a model: what PEFT computes, nothing left behind, places kept when they nest."""

from __future__ import annotations

import copy

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict

from detox.detoxifiers.conformance_state import equal, snapshot
from detox.errors import InputError
from detox.models import LanguageModel
from detox.models.adapters import adapter_edit, lora_config
from detox.models.head_shifts import head_shift
from detox.models.replaced_weights import weights_edit
from detox.models.twins import twin
from tests.models.test_likelihood import tiny


def trained(lm, targets, *, seed=0, **settings):
    """A random adapter made by PEFT itself, on a copy: its configuration, its tensors, and the PeftModel."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = get_peft_model(
            copy.deepcopy(lm.model),
            LoraConfig(r=4, lora_alpha=8, target_modules=targets, init_lora_weights=False, **settings),
        )
    model.eval()
    config = {"r": 4, "lora_alpha": 8, **settings}
    return config, {name: value.clone() for name, value in get_peft_model_state_dict(model).items()}, model


def logits(lm, ids):
    with torch.no_grad():
        return lm.model(input_ids=ids).logits


@pytest.fixture(params=["llama", "gpt2", "gpt_neox"])
def lm(request):
    from detox.detoxifiers.planted import plant

    return plant(request.param).lm


@pytest.fixture
def ids():
    return torch.randint(3, 20, (2, 7), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("settings", [{}, {"use_rslora": True}, {"use_dora": True}], ids=str)
def test_an_adapter_computes_what_peft_computes_and_leaves_nothing(lm, ids, settings):
    config, tensors, theirs = trained(lm, "all-linear", **settings)
    before = snapshot(lm)
    base = logits(lm, ids)
    with lm.edited(adapter_edit(lm, "a", config, tensors, strength=1.0)):
        with torch.no_grad():
            assert torch.equal(logits(lm, ids), theirs(input_ids=ids).logits)
        assert not torch.equal(logits(lm, ids), base)
    after = snapshot(lm)
    assert [name for name in before if not equal(before[name], after[name])] == []
    assert torch.equal(logits(lm, ids), base)


@pytest.mark.parametrize("family", ["opt", "qwen2_moe"])
def test_tokens_are_counted_though_some_layers_run_on_rows_of_them(family):
    lm = tiny(family)
    config, tensors, _ = trained(lm, ["fc1", "k_proj"] if family == "opt" else ["down_proj", "o_proj"])
    with lm.edited(adapter_edit(lm, "a", config, tensors, strength=1.0)) as tuned:
        tuned.logprobs(["topic1 says", "topic2"], [" kind1 kind2", " kind3"])
        tokens = tuned.receipts()[0].tokens
    assert (tokens["prompt"], tokens["generated"], tokens["pad"]) == (3, 1, 2)


def test_strength_is_the_factor_of_the_scale(planted, ids):
    lm = planted.lm
    config, tensors, _ = trained(lm, ["q_proj", "v_proj"])
    doubled = {name: value * 2 if ".lora_B." in name else value for name, value in tensors.items()}
    with lm.edited(adapter_edit(lm, "a", config, tensors, strength=2.0)):
        here = logits(lm, ids)
    with lm.edited(adapter_edit(lm, "a", config, doubled, strength=1.0)):
        assert torch.allclose(logits(lm, ids), here, atol=1e-6)


def test_adapters_nest_as_the_sum_of_their_changes_and_unwind(planted, ids):
    lm = planted.lm
    base, fingerprint = logits(lm, ids), lm.fingerprint()
    (one, first, _), (two, second, _) = trained(lm, ["q_proj", "v_proj"]), trained(lm, ["v_proj", "up_proj"], seed=1)
    merged = copy.deepcopy(lm.model)
    for config, tensors in ((one, first), (two, second)):
        for name in {key.partition(".lora_")[0] for key in tensors}:
            module = merged.get_submodule(name.removeprefix("base_model.model."))
            change = (
                tensors[f"{name}.lora_B.weight"] @ tensors[f"{name}.lora_A.weight"] * config["lora_alpha"] / config["r"]
            )
            module.weight.data += change
    with lm.edited(adapter_edit(lm, "a", one, first, strength=1.0)) as a:
        alone, known = logits(a, ids), a.fingerprint()
        with a.edited(adapter_edit(a, "b", two, second, strength=1.0)) as b:
            assert torch.allclose(logits(b, ids), logits(LanguageModel(merged, lm.tokenizer), ids), atol=1e-5)
            assert b.fingerprint().split(":")[0] == fingerprint.split(":")[0]
            with b.suspended():
                assert torch.equal(logits(lm, ids), base)
        assert torch.equal(logits(a, ids), alone)
        assert a.fingerprint() == known
    assert torch.equal(logits(lm, ids), base)
    assert lm.fingerprint() == fingerprint


@pytest.mark.parametrize("outer", ["shift", "adapter"])
def test_a_shift_of_heads_acts_on_all_of_its_layer_in_either_order(planted, ids, outer):
    lm = planted.lm
    config, tensors, _ = trained(lm, ["o_proj"])

    def shift(lm):
        return head_shift(lm, "shift", {(0, 1): torch.full((lm.model.config.head_dim,), 0.5)})

    def adapter(lm):
        return adapter_edit(lm, "adapter", config, tensors, strength=1.0)

    found = []
    for order in ((shift, adapter), (adapter, shift)):
        with lm.edited(order[0](lm)) as a, a.edited(order[1](a)) as b:
            found.append(logits(b, ids))
    assert torch.equal(*found)
    assert not torch.equal(found[0], logits(lm, ids))


def test_exchanged_weights_come_back_tied_ones_too(lm, ids):
    before, base = snapshot(lm), logits(lm, ids)
    names = dict(lm.model.named_parameters())
    other = {name: value.detach() + 0.01 for name, value in list(names.items())[:3]}
    reference = copy.deepcopy(lm.model)
    with torch.no_grad():
        for name, parameter in reference.named_parameters():
            if name in other:
                parameter.copy_(other[name])
    with lm.edited(weights_edit(lm, "w", other, strength=1.0)) as w:
        assert torch.equal(logits(w, ids), logits(LanguageModel(reference, lm.tokenizer), ids))
        assert w.fingerprint().split(":")[0] == before["weights"].split(":")[0]
    after = snapshot(lm)
    assert [name for name in before if not equal(before[name], after[name])] == []
    assert torch.equal(logits(lm, ids), base)


def test_what_is_done_to_a_twin_is_not_done_to_the_model(lm, ids):
    before, base = snapshot(lm), logits(lm, ids)
    other = twin(lm.model)
    assert all(a.data_ptr() == b.data_ptr() for a, b in zip(lm.model.parameters(), other.parameters(), strict=True))
    other.train().requires_grad_(False)
    other.config.use_cache = False
    other.forward = None
    with torch.random.fork_rng():
        get_peft_model(other, lora_config(other, {"target_modules": "all-linear"}))
    after = snapshot(lm)
    assert [name for name in before if not equal(before[name], after[name])] == []
    assert torch.equal(logits(lm, ids), base)


def test_a_twin_starts_from_what_the_handle_computes(planted, ids):
    lm = planted.lm
    config, tensors, _ = trained(lm, "all-linear")
    with lm.edited(adapter_edit(lm, "a", config, tensors, strength=0.7)):
        here, merged = logits(lm, ids), twin(lm.model)
    with torch.no_grad():
        assert torch.allclose(merged(input_ids=ids).logits, here, atol=1e-5)
    assert not isinstance(merged, PeftModel)
    assert not any("lora" in name for name, _ in merged.named_parameters())


def test_an_adapter_of_another_family_or_module_is_one_line(planted):
    lm = planted.lm
    config, tensors, _ = trained(lm, ["q_proj"])
    renamed = {name.replace("q_proj", "c_attn"): value for name, value in tensors.items()}
    with pytest.raises(InputError, match=r"c_attn, which LlamaForCausalLM does not have"):
        adapter_edit(lm, "a", config, renamed, strength=1.0)
    with pytest.raises(InputError, match=r"'k_porj' is not in LlamaForCausalLM; expected some of .*k_proj"):
        lora_config(lm.model, {"target_modules": ["k_porj"]})
    with pytest.raises(InputError, match="no_such_field"):
        lora_config(lm.model, {"no_such_field": 1})
    with pytest.raises(InputError, match="do not fit"):
        weights_edit(lm, "w", {"nothing": torch.zeros(1)}, strength=1.0)
