"""The projection that is found is the one behind the heads, in every family; whoever is asked for it and has none says so."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from detox.detoxifiers.planted import FAMILIES, tiny_config, word_tokenizer
from detox.errors import UnsupportedModel
from detox.models import LanguageModel, architectures
from detox.models.activations import read_heads
from detox.models.architectures import ATTENTION_OUTPUT, attention_outputs, context_length, use_attention_output
from detox.models.edits import state_of
from detox.models.head_shifts import head_shift
from detox.models.twins import twin
from tests.models.test_likelihood import tiny

TEXTS = ["topic1 says kind1", "topic2", "topic3 topic4 says rude1 rude2 rude3"]
SIZES = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
    "vocab_size": 32, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": None, "eos_token_id": 1,
}  # fmt: skip


def built(family, **settings):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **{**SIZES, **settings})).eval()


@pytest.mark.parametrize("family", FAMILIES)
def test_each_layer_has_its_own_projection_of_heads_onto_the_residual_stream(family):
    model = tiny(family).model
    outputs = attention_outputs(model)
    assert [output.layer for output in outputs] == list(range(model.config.num_hidden_layers))
    runs: list[int] = []
    for output in outputs:
        weight = output.module.weight
        inputs, outs = weight.shape if isinstance(output.module, Conv1D) else weight.shape[::-1]
        assert output.heads == model.config.num_attention_heads == 4
        assert output.heads * output.head_dim == inputs
        assert outs == model.config.hidden_size == 32
        output.module.register_forward_pre_hook(lambda m, args, layer=output.layer: runs.append(layer))
    with torch.no_grad():
        model(input_ids=torch.tensor([[5, 6, 7]]))
    assert runs == [0, 1]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_slice_of_its_input_is_what_one_query_head_gives(family):
    """Attention mixes a head's values: head = A v. Solved for v, what is found at a token must not depend on tokens before it."""
    model = tiny(family, attention="eager").model
    output = attention_outputs(model)[0]
    seen: list[torch.Tensor] = []
    output.module.register_forward_pre_hook(lambda m, args: seen.append(args[0].double()))
    ids = torch.tensor(
        [[5, 6, 7, 8], [9, 6, 7, 8]]
    )  # in the first layer, 6, 7 and 8 know nothing of what is before them
    with torch.no_grad():
        passed = model(input_ids=ids, attention_mask=torch.ones_like(ids), output_attentions=True, use_cache=False)
    attention = passed.attentions[0].double()
    heads = seen[0].reshape(2, 4, output.heads, output.head_dim).transpose(1, 2)

    def dependence(attention):
        values = torch.linalg.solve(attention, heads)
        return float((values[0, :, 1:] - values[1, :, 1:]).abs().max())

    assert dependence(attention) < 1e-4
    assert dependence(attention.roll(1, 1)) > 1e-2  # with the heads in another order it would show


@pytest.mark.parametrize("family", FAMILIES)
def test_a_search_finds_what_the_table_says(family, monkeypatch):
    model = tiny(family).model
    known = [output.name for output in attention_outputs(model)]
    monkeypatch.setattr(architectures, "ATTENTION_OUTPUT", {})
    state_of(model).attention_output = None
    assert [output.name for output in attention_outputs(model)] == known


def test_widths_are_the_projections_own():
    assert attention_outputs(tiny("llama").model)[0].head_dim == 12 != 32 // 4
    latent = tiny("deepseek_v3").model
    assert latent.config.head_dim == 4  # of the rotated part alone
    assert attention_outputs(latent)[0].head_dim == 10


@pytest.mark.parametrize(
    ("family", "settings", "expected"),
    [
        ("gpt_bigcode", {}, "transformer.h.3.attn.c_proj"),
        ("codegen", {"rotary_dim": 4}, "transformer.h.3.attn.out_proj"),
        ("biogpt", {}, "biogpt.layers.3.self_attn.out_proj"),
        ("cohere2", {"sliding_window": 4}, "model.layers.3.self_attn.o_proj"),
        ("gpt_oss", {"num_local_experts": 4, "num_experts_per_tok": 2}, "model.layers.3.self_attn.o_proj"),
        ("bert", {"is_decoder": True}, "bert.encoder.layer.3.attention.output.dense"),
        # With attention to an encoder, too, which a language model never runs.
        ("bart", {"d_model": 32, "decoder_layers": 4, "decoder_attention_heads": 4}, "model.decoder.layers.3.self_attn.out_proj"),
        ("falcon_h1", {"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 4}, "model.layers.3.self_attn.o_proj"),
    ],
)  # fmt: skip
def test_a_family_that_nobody_has_written_down_is_searched(family, settings, expected):
    assert family not in ATTENTION_OUTPUT
    model = built(family, **settings)
    before = torch.get_rng_state()
    assert attention_outputs(model)[3].name == expected
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_a_multimodal_model_is_its_language_model():
    text = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 12,
            "num_key_value_heads": 2, "vocab_size": 40, "max_position_embeddings": 48}  # fmt: skip
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 8,
              "patch_size": 4}  # fmt: skip
    config = AutoConfig.for_model(
        "gemma3", text_config=text, vision_config=vision, mm_tokens_per_image=4, image_token_index=39
    )
    model = AutoModelForCausalLM.from_config(config).eval()
    outputs = attention_outputs(model)
    assert [output.name for output in outputs] == [
        f"model.language_model.layers.{layer}.self_attn.o_proj" for layer in range(2)
    ]
    assert (outputs[0].heads, outputs[0].head_dim) == (4, 12)
    assert context_length(model) == 48


def test_no_attention_or_not_in_every_layer_is_said():
    mamba = built("mamba", state_size=4)
    with pytest.raises(
        UnsupportedModel, match=r"'mamba': it seems to have no attention.*attention_output=.*known: bloom"
    ):
        attention_outputs(mamba)
    jamba = built("jamba", attn_layer_period=4, attn_layer_offset=2, mamba_d_state=4, num_experts=2)
    with pytest.raises(UnsupportedModel, match=r"3 of 4 layers have no attention \(counted from 0: 0, 1, 3\)"):
        attention_outputs(jamba)
    mixed = built(
        "minimax", num_local_experts=2, num_experts_per_tok=1, layer_types=["full_attention", "linear_attention"] * 2
    )
    with pytest.raises(UnsupportedModel, match=r"self_attn\.o_proj \(32 to 32, layers 0, 2\)"):
        attention_outputs(mixed)


def test_what_fits_twice_is_listed():
    """RWKV calls its time mixing attention and reads the token before: four maps look alike, and none has heads."""
    model = built("rwkv", attention_hidden_size=32)
    with pytest.raises(
        UnsupportedModel, match=r"4 modules fit; .*attention\.key \(32 to 32.*attention\.output \(32 to 32"
    ):
        attention_outputs(model)


def test_the_search_hears_of_no_edit_and_no_edit_of_it():
    lm = tiny("llama")
    known = attention_outputs(lm.model)
    with lm.edited(head_shift(lm, "shift", {(0, 1): torch.ones(12)})) as safe:
        state_of(lm.model).attention_output = None
        assert architectures._searched(lm.model) == ATTENTION_OUTPUT["llama"]
        assert safe.receipts()[0].sites == {known[0].name: 0}
        values = safe.logprobs(TEXTS, [" kind1"] * 3)
    assert not torch.equal(torch.stack(values), torch.stack(lm.logprobs(TEXTS, [" kind1"] * 3)))


def renamed(lm):
    """The model as a family that the table does not have, with one more map that fits as well."""
    for layer in lm.model.model.layers:
        layer.self_attn.add_module("second", nn.Linear(48, 32))
        first = layer.self_attn.o_proj
        first.register_forward_hook(lambda m, args, out, twin=layer.self_attn.second: (twin(args[0]), out)[1])
    lm.model.config.model_type = "invented"
    return lm


def test_a_search_in_doubt_is_settled_by_whoever_knows():
    lm, plain = renamed(tiny("llama")), tiny("llama")
    with pytest.raises(
        UnsupportedModel,
        match=r"'invented': 2 modules fit; .*self_attn\.o_proj.*self_attn\.second.*use_attention_output",
    ):
        read_heads(lm, TEXTS)
    use_attention_output(lm.model, "model.layers.{}.self_attn.o_proj")
    assert attention_outputs(twin(lm.model))[0].name == "model.layers.0.self_attn.o_proj"  # a copy is told, too
    assert torch.equal(read_heads(lm, TEXTS), read_heads(plain, TEXTS))
    edit = head_shift(lm, "shift", {(1, 0): torch.ones(12)})
    assert edit.sites == ("model.layers.1.self_attn.o_proj",)
    with lm.edited(edit) as safe, plain.edited(head_shift(plain, "shift", {(1, 0): torch.ones(12)})) as expected:
        ask = (TEXTS, [" kind1"] * 3)
        assert torch.equal(torch.stack(safe.logprobs(*ask)), torch.stack(expected.logprobs(*ask)))


def test_the_projection_is_named_while_loading(tmp_path):
    lm = tiny("gpt_neo")
    lm.model.save_pretrained(tmp_path)
    lm.tokenizer.save_pretrained(tmp_path)
    # Not the right one, which shows that what was said is what is used.
    said = LanguageModel.from_pretrained(tmp_path, attention_output="transformer.h.{}.attn.attention.q_proj")
    assert attention_outputs(said.model)[1].name == "transformer.h.1.attn.attention.q_proj"
    with pytest.raises(UnsupportedModel, match="missing in 2 of 2 layers"):
        LanguageModel.from_pretrained(tmp_path, attention_output="model.layers.{}.attention.o_proj")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("model.layers.0.self_attn.o_proj", r"does not say where the layer's number stands; expected one \{\}"),
        ("model.layers.{}.attn.wo", r"'qwen3' has no model\.layers\.0\.attn\.wo \(it is missing in 2 of 2 layers\)"),
        ("model.layers.{}.self_attn.q_norm", r"is a Qwen3RMSNorm, which does not say how wide its input is"),
        ("model.layers.{}.self_attn.k_proj", r"maps 32 inputs to 24 outputs; expected a multiple of 4 attention heads, to 32"),
    ],
)  # fmt: skip
def test_a_wrong_name_is_refused_at_once(path, message):
    model = tiny("qwen3").model
    with pytest.raises(UnsupportedModel, match=message):
        use_attention_output(model, path)
    assert attention_outputs(model)[0].name == "model.layers.0.self_attn.o_proj"


def test_layers_that_are_not_what_the_configuration_says_are_found():
    model = tiny("llama").model
    model.model.layers = model.model.layers[:1]
    with pytest.raises(UnsupportedModel, match=r"has no model\.layers\.1\.self_attn\.o_proj \(it is missing in 1 of 2"):
        attention_outputs(model)
    model = tiny("llama").model
    model.config.num_attention_heads = 5
    with pytest.raises(
        UnsupportedModel, match="maps 48 inputs to 32 outputs; expected a multiple of 5 attention heads"
    ):
        attention_outputs(model)
    object.__setattr__(
        model.config, "num_attention_heads", [4, 2]
    )  # as models with their own code have it, a number a layer
    with pytest.raises(UnsupportedModel, match=r"\[4, 2\] heads.*expected one number each"):
        attention_outputs(model)


def test_layers_that_share_their_attention_are_refused():
    model = tiny("llama").model
    model.model.layers[1].self_attn.o_proj = model.model.layers[0].self_attn.o_proj
    with pytest.raises(UnsupportedModel, match=r"layers\.1\.self_attn\.o_proj is the same module as model\.layers\.0"):
        attention_outputs(model)
    apart = tiny("llama").model  # one matrix in two modules: a shift of one layer leaves the other alone
    apart.model.layers[1].self_attn.o_proj.weight = apart.model.layers[0].self_attn.o_proj.weight
    assert len(attention_outputs(apart)) == 2


def test_an_adapter_does_not_hide_the_projection():
    from peft import LoraConfig, inject_adapter_in_model

    for family in ("llama", "gpt2"):
        model = tiny(family).model
        bare = attention_outputs(model)
        target = bare[0].name.rpartition(".")[2]
        model = inject_adapter_in_model(
            LoraConfig(target_modules=[target], r=2, fan_in_fan_out=family == "gpt2"), model
        )
        around = attention_outputs(model)
        assert [(o.name, o.heads, o.head_dim) for o in around] == [(o.name, o.heads, o.head_dim) for o in bare]
        assert around[0].module is not bare[0].module
        assert architectures._searched(model) == ATTENTION_OUTPUT[family]


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_quantised_layers_say_their_widths(family, tmp_path):
    if find_spec("bitsandbytes") is None:
        pytest.skip("bitsandbytes is not installed")
    lm = tiny(family)
    lm.model.save_pretrained(tmp_path)
    lm.tokenizer.save_pretrained(tmp_path)
    quantised = LanguageModel.from_pretrained(tmp_path, device="cpu", quantization="int8")
    outputs = attention_outputs(quantised.model)
    assert type(outputs[0].module).__name__ == "Linear8bitLt"
    assert [(o.heads, o.head_dim) for o in outputs] == [(o.heads, o.head_dim) for o in attention_outputs(lm.model)]
    np.testing.assert_allclose(read_heads(quantised, TEXTS).numpy(), read_heads(lm, TEXTS).numpy(), atol=0.05)


class Packed(nn.Module):
    """A linear map whose weight tells nothing of its widths, as quantisers pack them."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.register_buffer("qweight", torch.zeros(linear.weight.numel() // 2, 1, dtype=torch.uint8))


def test_a_packed_layer_that_says_no_width_is_refused():
    model = tiny("llama").model
    for layer in model.model.layers:
        layer.self_attn.o_proj = Packed(layer.self_attn.o_proj)
    with pytest.raises(
        UnsupportedModel, match=r"o_proj is a Packed, which does not say how wide .* quantised in an unknown"
    ):
        attention_outputs(model)


def test_without_weights_the_shapes_must_do(monkeypatch):
    monkeypatch.setattr(architectures, "ATTENTION_OUTPUT", {})
    with torch.device("meta"):
        wide = AutoModelForCausalLM.from_config(tiny_config("llama", 32))
        square = AutoModelForCausalLM.from_config(tiny_config("gpt_neo", 32))
    assert attention_outputs(wide)[0].name == "model.layers.0.self_attn.o_proj"
    with pytest.raises(UnsupportedModel, match="4 modules fit"):
        attention_outputs(square)


def test_a_model_that_lies_partly_on_disk_is_read_and_shifted(tmp_path):
    from accelerate import dispatch_model

    lm, whole = tiny("llama"), tiny("llama")
    parts = dict.fromkeys(["model.embed_tokens", "model.rotary_emb", "model.layers.1", "model.norm", "lm_head"], "cpu")
    dispatch_model(lm.model, {**parts, "model.layers.0": "disk"}, main_device="cpu", offload_dir=str(tmp_path))
    assert attention_outputs(lm.model)[0].module.weight.is_meta
    assert torch.equal(read_heads(lm, TEXTS), read_heads(whole, TEXTS))
    shifts = {(0, 1): torch.ones(12), (1, 2): torch.ones(12)}
    with lm.edited(head_shift(lm, "shift", shifts)) as safe, whole.edited(head_shift(whole, "shift", shifts)) as same:
        ask = (TEXTS, [" kind1 kind2"] * 3)
        for got, expected in zip(safe.logprobs(*ask), same.logprobs(*ask), strict=True):
            assert torch.equal(got, expected)


def test_tiny_models_are_as_odd_as_their_family_allows():
    grouped = [f for f in FAMILIES if getattr(tiny_config(f, 32), "num_key_value_heads", 4) == 2]
    wide = [f for f in FAMILIES if attention_outputs(tiny(f).model)[0].head_dim not in (8,)]
    assert len(grouped) >= 21
    assert len(wide) >= 20
    assert word_tokenizer().vocab_size == 32
