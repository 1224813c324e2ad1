"""Mistral and Qwen2 as Llama: where it is exact, bit for bit; where it is not, an error that names the entry."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from detox.errors import NotExportable
from detox.models.rehoming import as_llama

SCALINGS = [
    {"rope_type": "default", "rope_theta": 500.0},
    {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0},
    {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0},
    {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 16},
    {
        "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16,
    },
]  # fmt: skip


def model_of(family, **changes):
    settings = {
        "vocab_size": 40, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 32, "pad_token_id": 0, "bos_token_id": None, "eos_token_id": 1,
        **({"sliding_window": None} if family == "mistral" else {}), **changes,
    }  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(2)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **settings)).eval()
        for parameter in model.parameters():
            parameter.data.normal_(0, 0.2)
    return model


def reloaded(model, folder):
    as_llama(model, {}).save_pretrained(folder)
    found, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values())
    assert found.config.model_type == "llama"
    return found


def outputs(model, length):
    ids = torch.randint(2, 40, (2, length), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return model(input_ids=ids).logits


@pytest.mark.parametrize("family", ["mistral", "qwen2"])
@pytest.mark.parametrize("rope", SCALINGS, ids=lambda rope: rope["rope_type"])
def test_rotary_embeddings_are_carried_over_beyond_the_context_too(family, rope, tmp_path):
    model = model_of(family, rope_parameters=dict(rope))
    other = reloaded(model, tmp_path)
    for length in (7, 32, 90):  # dynamic scaling depends on the length
        assert torch.equal(outputs(model, length), outputs(other, length))


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("mistral", {"head_dim": 12}),
        ("qwen2", {"head_dim": 12}),  # read, though Qwen2's configuration does not declare it
        ("mistral", {"hidden_act": "gelu", "rms_norm_eps": 1e-2}),
        ("qwen2", {"hidden_act": "gelu", "rms_norm_eps": 1e-2}),
        ("mistral", {"tie_word_embeddings": True}),
        ("qwen2", {"tie_word_embeddings": True}),
        ("qwen2", {"use_sliding_window": False, "sliding_window": 4, "max_window_layers": 0}),
        ("mistral", {"mlp_bias": True, "attention_bias": True}),  # Llama would obey what Mistral never reads
    ],
)
def test_other_entries_are_carried_over(family, changes, tmp_path):
    model = model_of(family, **changes)
    other = reloaded(model, tmp_path)
    assert torch.equal(outputs(model, 32), outputs(other, 32))
    assert (
        other.get_output_embeddings().weight is other.get_input_embeddings().weight
    ) == model.config.tie_word_embeddings


def test_qwen2_keeps_its_own_biases(tmp_path):
    model = model_of("qwen2")
    own, other = model.state_dict(), reloaded(model, tmp_path).state_dict()
    biases = [name for name in own if name.endswith("bias")]
    assert len(biases) == 6
    assert all(torch.equal(own[name], other[name]) and own[name].any() for name in biases)


@pytest.mark.parametrize(
    ("family", "changes", "named"),
    [
        ("mistral", {"sliding_window": 4}, "sliding_window is 4; expected None"),
        (
            "qwen2",
            {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
            "layer_types|sliding_window",
        ),
        ("qwen2", {"layer_types": ["full_attention", "sliding_attention"]}, "layer_types"),
        ("qwen3", {}, "Qwen3ForCausalLM"),  # another norm; it has a slot of its own
        ("stablelm", {}, "StableLmForCausalLM"),
    ],
)
def test_what_llama_does_not_compute_is_refused(family, changes, named):
    with pytest.raises(NotExportable, match=named):
        as_llama(model_of(family, **changes), {})


def test_the_window_that_is_refused_would_be_wrong():
    """The check is not idle: within the window both agree, beyond it they do not."""
    model = model_of("mistral", sliding_window=4)
    model_without = model_of("mistral")
    assert torch.equal(outputs(model, 4), outputs(model_without, 4))
    assert not torch.allclose(outputs(model, 9), outputs(model_without, 9), atol=1e-3)
