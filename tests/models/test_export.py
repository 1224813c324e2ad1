"""Hooked and exported are one model: every family, merged weights, several shifts, half precision; and nothing is dropped in silence."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from detox.detoxifiers.planted import FAMILIES
from detox.errors import NotExportable, OutputError
from detox.models import Edit, LanguageModel, folding
from detox.models import export as exporting
from detox.models.adapters import adapter_edit
from detox.models.architectures import attention_outputs
from detox.models.comparing import compare, prompt_rows, reload_strictly, silent_sites
from detox.models.edits import nothing
from detox.models.export import change_of, export_checkpoint
from detox.models.folding import bias_slots, folded_bias
from detox.models.head_shifts import head_shift
from detox.models.runtimes import row
from tests.models.test_likelihood import tiny

WITHOUT_A_SLOT = ("glm4", "gptj", "mixtral", "mpt", "phi3", "qwen2_moe", "stablelm")
IN_THE_SUITE = ("deepseek_v3", "falcon:new", "gemma2", "gpt2", "llama", "mistral", "opt", "qwen2", "qwen3_moe")
NO_WINDOW = {"mistral": {"sliding_window": None}}


def model_of(family: str, **changes) -> LanguageModel:
    return tiny(family, **{**NO_WINDOW.get(family, {}), **changes})


def shift_of(lm, heads=(0, 2), *, seed=0, size=1.0, **options) -> Edit:
    """Some heads of every layer, by vectors that change what the model says."""
    rng = np.random.default_rng(seed)
    return head_shift(
        lm,
        "shift",
        {
            (o.layer, head): torch.from_numpy(rng.normal(size=o.head_dim) * size).float()
            for o in attention_outputs(lm.model)
            for head in heads
        },
        **options,
    )


def export(lm, directory, **options):
    return export_checkpoint(lm, directory, card=lambda certificate: "card", **options)


FEW = ["topic1 says kind1", "topic2", "topic3 topic4 says rude1 rude2 kind3"]


def logits(lm, ids, mask):
    told = {} if lm.model.config.model_type in ("bloom", "mpt", "opt", "falcon") else {"position_ids": positions(mask)}
    with torch.no_grad(), lm.announced(ids, mask):
        return lm.model(input_ids=ids, attention_mask=mask, **told).logits[mask.bool()]


def positions(mask):
    return (mask.cumsum(-1) - 1).clamp(min=0)


def padded():
    ids = torch.randint(3, 30, (4, 19), generator=torch.Generator().manual_seed(7))
    mask = torch.ones_like(ids)
    for index, pads in enumerate((0, 3, 8, 17)):
        mask[index, :pads] = 0
    return ids, mask


@pytest.mark.parametrize(
    "family",
    [
        pytest.param(one, marks=pytest.mark.slow if one in IN_THE_SUITE else pytest.mark.evidence)
        for one in FAMILIES
        if one not in WITHOUT_A_SLOT
    ],
)
def test_hooked_is_exported_to_1e_5(family, tmp_path):
    lm = model_of(family)
    with lm.edited(shift_of(lm)) as safe:
        certificate = export(safe, tmp_path / "out")
        again = LanguageModel.from_pretrained(tmp_path / "out", device="cpu")
        here, there = logits(safe, *padded()), logits(again, *padded())
    assert float((here - there).abs().max()) <= 1e-5
    assert float((logits(lm, *padded()) - there).abs().max()) > 1e-2  # the base is another model
    assert certificate["max_logit_difference"] <= 1e-5
    assert certificate["prompts"] == 64
    assert certificate["greedy_agreement"] == 1.0
    assert certificate["semantics"] == "exact"
    assert certificate["effect"] > 100 * certificate["max_logit_difference"]
    assert certificate["family_to"] == {"mistral": "llama", "qwen2": "llama"}.get(family, family.partition(":")[0])


@pytest.mark.parametrize("family", WITHOUT_A_SLOT)
def test_without_a_slot_there_is_an_error_and_no_checkpoint(family, tmp_path):
    lm = model_of(family)
    lm.model.config.attention_bias = True  # taken in silence by every configuration, and read by none of these classes
    with (
        lm.edited(shift_of(lm)) as safe,
        pytest.raises(NotExportable, match=r"without a bias, whatever its configuration says.*keep the handle"),
    ):
        export(safe, tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("family", FAMILIES)
def test_the_table_says_what_opens_the_bias(family):
    lm = model_of(family)
    sites = [output.name for output in attention_outputs(lm.model)]
    slots, known = bias_slots(lm.model, sites), row(family.partition(":")[0])
    if slots is None:
        assert known["slot"] == "none"
        assert known["transformers"] == ("re-homed" if family in ("mistral", "qwen2") else "none")
        return
    assert known["transformers"] == "keeps"
    opened = slots.flag
    if opened is None:  # there already: by a flag that is on, or always
        shut = {name for name, value in lm.model.config.to_dict().items() if value is True and "bias" in name}
        opened = known["slot"] if known["slot"] in shut else "always"
    assert opened == known["slot"]
    assert bias_slots(lm.model, sites[:1]) is not None


def test_what_is_folded_is_w_d_in_float64(tmp_path):
    for family, transposed in (("opt", False), ("gpt2", True)):
        lm = model_of(family)
        edit = shift_of(lm)
        for site, shift in edit.input_shifts.items():
            module = lm.model.get_submodule(site)
            weight = module.weight.detach().double().numpy()
            expected = (shift.double().numpy() @ weight if transposed else weight @ shift.double().numpy()).astype(
                np.float64
            ) + module.bias.detach().double().numpy()
            np.testing.assert_array_equal(folded_bias(module, shift).numpy(), expected.astype(np.float32))
            assert np.abs(expected).max() > 0


def test_a_quantized_weight_is_named():
    class Linear8bit(torch.nn.Linear):
        pass

    module = Linear8bit(4, 3)
    module.weight = torch.nn.Parameter(torch.ones(3, 4, dtype=torch.int8), requires_grad=False)
    with pytest.raises(NotExportable, match=r"Linear8bit is no plain linear module \(quantized\?\)"):
        folded_bias(module, torch.ones(4))


def test_biases_that_are_opened_beside_are_zero_and_tied_weights_stay_tied(tmp_path):
    lm = model_of("llama", tie_word_embeddings=True)
    assert lm.model.get_output_embeddings().weight is lm.model.get_input_embeddings().weight
    with lm.edited(shift_of(lm, heads=(1,))) as safe:
        export(safe, tmp_path / "out", prompts=FEW)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert model.config.attention_bias is True
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    for name, parameter in model.named_parameters():
        if name.endswith(("q_proj.bias", "k_proj.bias", "v_proj.bias")):
            assert not parameter.any(), name
        elif name.endswith("o_proj.bias"):
            assert parameter.any(), name
    assert "lm_head.weight" not in load_file(tmp_path / "out" / "model.safetensors")


def test_the_model_in_memory_is_untouched(tmp_path):
    for family in ("gpt2", "qwen2"):
        lm = model_of(family)
        before = {name: tensor.clone() for name, tensor in lm.model.state_dict().items()}
        config, random = lm.model.config.to_dict(), torch.get_rng_state()
        edit = shift_of(lm)
        with lm.edited(edit) as safe:
            export(safe, tmp_path / family, prompts=FEW)
            with pytest.raises(OutputError):
                export(safe, tmp_path)
        assert torch.equal(torch.get_rng_state(), random)
        assert lm.model.config.to_dict() == config
        after = lm.model.state_dict()
        assert after.keys() == before.keys()
        assert all(torch.equal(after[name], before[name]) for name in before)
        assert not any(module._forward_pre_hooks for module in lm.model.modules())


def test_the_published_mistake_is_caught(tmp_path, monkeypatch):
    """Bias = displacement, with the projection's weight left out: honest_llama since August 2024."""
    lm = model_of("gpt2")
    monkeypatch.setattr(folding, "folded_bias", lambda module, shift: (module.bias.detach() + shift.float()).clone())
    with lm.edited(shift_of(lm)) as safe, pytest.raises(NotExportable, match="more than rounding explains"):
        export(safe, tmp_path / "out", prompts=FEW)
    assert not list(tmp_path.iterdir())


def test_a_bias_that_would_be_dropped_is_caught(tmp_path):
    lm = model_of("llama")
    with lm.edited(shift_of(lm)) as safe:
        export(safe, tmp_path / "out", prompts=FEW)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    (tmp_path / "out" / "config.json").write_text(json.dumps({**config, "attention_bias": False}))
    with pytest.raises(NotExportable, match=r"8 unexpected keys \(first: model.layers.0.self_attn.k_proj.bias\)"):
        reload_strictly(tmp_path / "out", dtype=None)
    (tmp_path / "out" / "config.json").write_text(json.dumps(config))
    tensors = load_file(tmp_path / "out" / "model.safetensors")
    gone = tensors.pop("model.layers.1.self_attn.o_proj.bias")
    save_file(tensors, tmp_path / "out" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(NotExportable, match=r"1 missing keys \(first: model.layers.1.self_attn.o_proj.bias\)"):
        reload_strictly(tmp_path / "out", dtype=None)
    tensors["model.layers.1.self_attn.o_proj.bias"] = torch.zeros_like(gone)
    save_file(tensors, tmp_path / "out" / "model.safetensors", metadata={"format": "pt"})
    again = reload_strictly(tmp_path / "out", dtype=None)
    sites = [output.name for output in attention_outputs(again.model)]
    assert silent_sites(again.model, sites) == sites[1:]


def lora_of(lm, *, seed=0) -> Edit:
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for output in attention_outputs(lm.model):
        out, width = folding.weight_of(output.module).shape
        for part, shape in (("A", (4, width)), ("B", (out, 4))):
            key = f"base_model.model.{output.name}.lora_{part}.weight"
            tensors[key] = torch.randn(shape, generator=generator) * 0.3
    names = sorted({output.name.rpartition(".")[2] for output in attention_outputs(lm.model)})
    fan = lm.model.config.model_type == "gpt2"
    config = {"r": 4, "lora_alpha": 8, "target_modules": names, "fan_in_fan_out": fan, "task_type": "CAUSAL_LM"}
    return adapter_edit(lm, "lora", config, tensors, strength=1.0)


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen2"])
@pytest.mark.parametrize("order", ["lora inside", "lora outside"])
def test_adapters_and_several_shifts_go_in_together(family, order, tmp_path):
    """The shift is multiplied by the merged projection, whichever edit was put on first."""
    lm = model_of(family)
    edits = [lora_of(lm), shift_of(lm), shift_of(lm, heads=(2, 3), seed=5)]
    first, second, third = edits if order == "lora inside" else [edits[1], edits[0], edits[2]]
    with lm.edited(first) as a, a.edited(second) as b, b.edited(third) as safe:
        change = change_of(safe)
        for site, total in change.shifts.items():
            parts = [edit.input_shifts[site].double() for edit in edits if edit.input_shifts]
            assert torch.equal(total, parts[0] + parts[1])
        certificate = export(safe, tmp_path / "out", prompts=FEW)
        again = LanguageModel.from_pretrained(tmp_path / "out", device="cpu")
        assert float((logits(safe, *padded()) - logits(again, *padded())).abs().max()) <= 1e-5
    assert len(certificate["merged"]) == 1
    assert len(certificate["folded"]) == 2
    assert not any("lora" in name for name, _ in again.model.named_parameters())


@pytest.mark.parametrize(("dtype", "family"), [("bfloat16", "mistral"), ("float16", "gpt2"), ("float64", "llama")])
def test_other_precisions_keep_their_bound(dtype, family, tmp_path):
    lm = model_of(family)
    lm.model.to(getattr(torch, dtype))
    lm.model.config.dtype = getattr(torch, dtype)
    with lm.edited(shift_of(lm)) as safe:
        certificate = export(safe, tmp_path / "out")
    assert certificate["dtype"] == dtype
    written = load_file(tmp_path / "out" / "model.safetensors").values()
    assert {tensor.dtype for tensor in written} == {getattr(torch, dtype)}
    assert certificate["max_logit_difference"] <= certificate["bound"] < 1
    assert certificate["mean_logit_difference"] < certificate["effect"] / 5


def test_an_edit_that_drowns_in_rounding_is_warned_of(tmp_path):
    lm = model_of("llama")
    lm.model.to(torch.bfloat16)
    lm.model.config.dtype = torch.bfloat16
    with lm.edited(shift_of(lm, size=1e-4)) as safe:
        (warning,) = export(safe, tmp_path / "out", prompts=FEW)["warnings"]
    assert "little of it is left" in warning


@pytest.mark.parametrize("positions", ["generation", "last"])
def test_a_shift_at_some_positions_is_exported_only_where_asked(positions, tmp_path):
    lm = model_of("llama")
    with lm.edited(shift_of(lm, positions=positions)) as safe:
        with pytest.raises(
            NotExportable, match=f"positions='{positions}', and a bias acts at every position; .*approximate=True"
        ):
            export(safe, tmp_path / "out")
        assert not list(tmp_path.iterdir())
        certificate = export(safe, tmp_path / "out", approximate=True, prompts=FEW)
    assert certificate["semantics"] == "approximate"
    assert positions in certificate["approximate_because"][0]
    assert (
        certificate["max_logit_difference"] > certificate["bound"]
    )  # it is not the same function, and says how far it is off
    proof = certificate["against_the_shift_at_every_position"]
    assert proof["max_logit_difference"] <= 1e-5
    with lm.edited(shift_of(lm)) as everywhere:
        again = LanguageModel.from_pretrained(tmp_path / "out", device="cpu")
        assert float((logits(everywhere, *padded()) - logits(again, *padded())).abs().max()) <= 1e-5


def test_a_gate_has_no_place_in_a_bias(tmp_path):
    lm = model_of("llama")

    class Odd:
        digest = "odd"

        def __call__(self, prompts):
            return torch.tensor([len(prompt) % 2 == 1 for prompt in prompts])

    with lm.edited(shift_of(lm, gate=Odd())) as safe, pytest.raises(NotExportable, match="its gate lets through"):
        export(safe, tmp_path / "out")


def test_what_is_neither_weights_nor_a_shift_is_refused(tmp_path):
    lm = model_of("llama")
    with (
        lm.edited(Edit("other", "something", nothing)) as safe,
        pytest.raises(NotExportable, match=r"other#\d+ is no change of weights and no constant shift"),
    ):
        export(safe, tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_comparison_sees_padding_positions_and_nan():
    lm = model_of("llama")
    rows = prompt_rows(lm, None)
    assert len(rows) == 64
    assert len({len(row) for row in rows}) > 20
    assert prompt_rows(lm, None) == rows
    assert prompt_rows(lm, ["topic1 says", "topic2"]) == [
        lm.tokenizer("topic1 says")["input_ids"],
        lm.tokenizer("topic2")["input_ids"],
    ]
    same = compare(lm, lm, rows)
    assert same.max_logit_difference == 0
    assert same.greedy_agreement == 1
    assert same.effect == 0
    other = model_of("llama")
    with torch.no_grad():
        other.model.model.layers[1].mlp.down_proj.weight[0, 0] += 0.5
    assert not compare(lm, other, rows).within
    with torch.no_grad():
        other.model.model.layers[1].mlp.down_proj.weight[0, 0] = float("nan")
    broken = compare(lm, other, rows)
    assert (broken.max_logit_difference, broken.greedy_agreement, broken.within) == (float("inf"), 0.0, False)


def test_an_export_without_edits_is_the_base_bit_for_bit(tmp_path):
    lm = model_of("olmo2")
    certificate = export(lm, tmp_path / "out")
    assert certificate["bit_equal"]
    assert certificate["biases"] == []
    assert certificate["warnings"] == []
    assert exporting.CERTIFICATE in {path.name for path in (tmp_path / "out").iterdir()}
    assert LanguageModel.from_pretrained(tmp_path / "out").fingerprint() == lm.fingerprint()
