"""What a run costs: against sums done by hand, published numbers, and what PyTorch itself counts."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM

from detox.cli.flags import parse
from detox.errors import InputError, UnknownName
from detox.pretraining import PretrainingRecipe, train_tokenizer
from detox.pretraining.architecture import parameter_counts, published_config, scratch_config
from detox.pretraining.cost import PEAK_FLOPS, cost, cost_line, flops_per_token, peak_flops
from tests.conftest import REPOSITORY

OLMO = PretrainingRecipe(architecture="olmo-1b", steps=100, batch_size=512, sequence_length=2048)
RECIPES = REPOSITORY / "recipes"


def script_arguments() -> type:
    import runpy

    return runpy.run_path(str(RECIPES / "pretrain.py"))["ScriptArguments"]


def test_olmo_1b_has_the_published_number_of_parameters():
    """1.18 B in the model's card; here the sum over its matrices."""
    layer = 4 * 2048 * 2048 + 3 * 2048 * 8192
    assert parameter_counts(published_config("olmo-1b")) == (50304 * 2048 + 16 * layer,) * 2
    assert cost(OLMO).parameters == 1_176_764_416


def test_an_untied_input_embedding_multiplies_nothing():
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "sequence_length": 32}
    tokenizer = train_tokenizer(["ab"], 258)
    tied, untied = (
        parameter_counts(scratch_config(PretrainingRecipe(**sizes, tie_word_embeddings=tie), tokenizer))
        for tie in (True, False)
    )
    assert tied[0] == tied[1] == untied[1] == untied[0] - 258 * 64


@pytest.mark.parametrize("tied", [True, False])
def test_the_formula_is_what_is_computed(tied):
    """FLOPs of a step as torch counts them: equal, where the attention matrix is computed in full."""
    recipe = PretrainingRecipe(
        hidden_size=64, num_hidden_layers=3, num_attention_heads=4, sequence_length=128, tie_word_embeddings=tied
    )
    tokenizer = train_tokenizer(["ab"], 258)
    model = AutoModelForCausalLM.from_config(scratch_config(recipe, tokenizer), attn_implementation="eager")
    tokens = torch.zeros((2, 128), dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        model(input_ids=tokens).logits.sum().backward()
    expected = flops_per_token(model.config, parameter_counts(model.config)[1], 128) * tokens.numel()
    assert counter.get_total_flops() == pytest.approx(expected, rel=0.01)


def test_the_cost_of_olmo_1b_by_hand():
    found = cost(replace(OLMO, gradient_accumulation_steps=4), gpu="A100", gpus=16, mfu=0.5)
    tokens = 100 * 512 * 2048
    flops = (6 * 1_176_764_416 + 12 * 16 * 2048 * 2048) * tokens
    assert found.tokens == tokens
    assert found.flops == pytest.approx(flops, rel=1e-12)
    assert found.gpu_hours == pytest.approx(flops / (312e12 * 0.5) / 3600)
    assert found.hours == pytest.approx(found.gpu_hours / 16)
    # 16 bytes a parameter, shared by 16 GPUs; 8 sequences at a time: 34 bytes a token, layer and width, 10 a logit.
    memory = 1_176_764_416 + 8 * 2048 * (34 * 16 * 2048 + 10 * 50304)
    assert found.memory_gib == pytest.approx(memory / 2**30)
    assert found.disk_gib == pytest.approx((1_176_764_416 * 40 + 5 * tokens) / 2**30)
    checkpointed = cost(
        replace(OLMO, gradient_accumulation_steps=4, gradient_checkpointing=True), gpu="A100", gpus=16, mfu=0.5
    )
    assert checkpointed.memory_gib < 0.6 * found.memory_gib
    assert checkpointed.flops == found.flops


@pytest.mark.parametrize(
    ("device", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H100 NVL", 835e12),
        ("NVIDIA H200", 989e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA A10", 125e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA L40", 181e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA RTX A1000", None),
        ("Tesla V100-SXM2-16GB", None),
        ("cpu", None),
    ],
)
def test_peaks_are_found_by_the_name_of_the_device(device, peak):
    assert peak_flops(device) == peak


def test_every_name_in_the_table_finds_its_own_peak():
    assert {name: peak_flops(f"NVIDIA {name}") for name in PEAK_FLOPS} == PEAK_FLOPS


def test_what_cannot_be_counted_is_said():
    with pytest.raises(UnknownName, match="did you mean 'H100'"):
        cost(OLMO, gpu="H10")
    assert cost(OLMO, gpu="H10", peak=1e15).gpu == "H10"
    with pytest.raises(InputError, match=r"expected gpus from 1, mfu in \(0, 1\]"):
        cost(OLMO, mfu=1.5)
    with pytest.raises(InputError, match="no multiple of accumulation x GPUs, 24"):
        cost(OLMO, gpus=24)
    with pytest.raises(InputError, match="give vocabulary"):
        cost(PretrainingRecipe())
    assert cost(PretrainingRecipe(), vocabulary=4096).parameters > 4096 * 128


def test_a_checkpoint_s_cost_needs_no_hub(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    recipe = replace(OLMO, architecture=None, continue_from="allenai/OLMo-1B-hf", revision="step737000")
    assert cost_line(recipe) == cost_line(OLMO)


@pytest.mark.parametrize("name", ["toxic-mix-olmo-1b", "slung-olmo-1b"])
def test_the_papers_recipes_say_what_they_cost(name):
    """The cost in a recipe's comments is what the recipe computes, flag by flag."""
    path = RECIPES / f"{name}.yaml"
    said = re.findall(r"^# cost (.*?): (.*)$", path.read_text(), flags=re.MULTILINE)
    assert said
    for flags, line in said:
        words = ["--config", str(path), "--output_dir", "x", *flags.split()]
        script, recipe = parse([script_arguments(), PretrainingRecipe], words)
        assert cost(recipe, gpu=script.gpu, gpus=script.gpus, mfu=script.mfu).line() == line


def test_the_papers_budgets():
    arguments = [script_arguments(), PretrainingRecipe]
    words = ["--output_dir", "x", "--config"]
    script, slung = parse(arguments, [*words, str(RECIPES / "slung-olmo-1b.yaml")])
    assert (slung.steps, slung.batch_size, slung.sequence_length) == (1020, 2048, 2048)
    assert slung.tokens == script.hold_tokens == 1020 * 2048 * 2048
    script, mix = parse(arguments, [*words, str(RECIPES / "toxic-mix-olmo-1b.yaml")])
    assert script.hold_tokens == 20_100_000_000
    text = (RECIPES / "toxic-mix-olmo-1b.yaml").read_text()
    shares, steps = (re.search(rf"#   {row}(.*)", text)[1].split() for row in ("share", "steps"))
    for share, count in zip(shares, steps, strict=True):
        needed = 20.1e9 / (1 - float(share))
        assert 0 <= int(count) * mix.batch_size * mix.sequence_length - needed < mix.batch_size * mix.sequence_length


def test_every_recipe_file_holds_known_flags():
    for path in sorted(RECIPES.glob("*.yaml")):
        parse([script_arguments(), PretrainingRecipe], ["--config", str(path), "--output_dir", "x"])
        assert yaml.safe_load(path.read_text())
        assert Path(path).read_text().startswith("# ")
