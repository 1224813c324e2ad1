"""The launch configurations that ship are read by accelerate itself, into the plugins it would run with."""

import json
import os

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DeepSpeedPlugin, DistributedType, FullyShardedDataParallelPlugin
from accelerate.utils.launch import prepare_multi_gpu_env

from tests.conftest import REPOSITORY

CONFIGS = REPOSITORY / "recipes" / "accelerate"
EXPECTED = {
    "fsdp2": DistributedType.FSDP,
    "multi-gpu": DistributedType.MULTI_GPU,
    "single-gpu": DistributedType.NO,
    "deepspeed-zero2": DistributedType.DEEPSPEED,
    "deepspeed-zero3": DistributedType.DEEPSPEED,
}


def launched(name):
    """The arguments that `accelerate launch` makes of a file."""
    words = ["--config_file", str(CONFIGS / f"{name}.yaml"), "recipes/pretrain.py"]
    return _validate_launch_command(launch_command_parser().parse_args(words))[0]


def test_every_file_is_one_of_these():
    assert {path.stem for path in CONFIGS.glob("*.yaml")} == set(EXPECTED)
    assert {path.stem for path in CONFIGS.glob("*.json")} == {"deepspeed-zero2", "deepspeed-zero3"}


@pytest.mark.parametrize("name", EXPECTED)
def test_accelerate_reads_it(name):
    config = load_config_from_file(str(CONFIGS / f"{name}.yaml"))
    assert config.distributed_type == EXPECTED[name]
    assert config.mixed_precision == "no"  # the recipe's precision decides
    assert not config.use_cpu
    assert config.num_processes == (1 if name == "single-gpu" else 8)


def test_fsdp2_shards_layers_and_checkpoints(monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    arguments = launched("fsdp2")
    assert arguments.use_fsdp
    for key, value in prepare_multi_gpu_env(arguments).items():
        if key.startswith(("FSDP_", "ACCELERATE_")) and os.environ.get(key) != value:
            monkeypatch.setenv(key, value)
    assert os.environ["ACCELERATE_USE_FSDP"] == "true"
    plugin = FullyShardedDataParallelPlugin()  # reads the environment, as Accelerator does
    assert plugin.fsdp_version == 2
    assert plugin.reshard_after_forward is True
    assert "SHARDED" in str(plugin.state_dict_type)
    assert "transformer_auto_wrap_policy" in str(plugin.auto_wrap_policy)
    assert not plugin.cpu_ram_efficient_loading
    assert not plugin.activation_checkpointing  # the recipe's gradient_checkpointing decides


@pytest.mark.parametrize("stage", [2, 3])
def test_deepspeed_s_stage_and_what_the_trainer_fills_in(stage, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    arguments = launched(f"deepspeed-zero{stage}")
    assert arguments.use_deepspeed
    assert (REPOSITORY / arguments.deepspeed_config_file).is_file()
    written = json.loads((REPOSITORY / arguments.deepspeed_config_file).read_text())
    assert written["zero_optimization"]["stage"] == stage
    auto = {key for key, value in written.items() if value == "auto"}
    assert auto == {
        "gradient_accumulation_steps",
        "gradient_clipping",
        "train_batch_size",
        "train_micro_batch_size_per_gpu",
    }
    assert not {"optimizer", "scheduler"} & written.keys()  # AdamW and the schedule are the recipe's
    if stage == 3:
        assert written["zero_optimization"]["stage3_gather_16bit_weights_on_model_save"]  # or no whole model is saved
    plugin = DeepSpeedPlugin(hf_ds_config=str(REPOSITORY / arguments.deepspeed_config_file))
    assert plugin.zero_stage == stage
    assert plugin.is_auto("train_batch_size")


def test_the_files_say_how_they_are_used():
    for path in CONFIGS.glob("*.yaml"):
        assert f"accelerate launch --config_file recipes/accelerate/{path.name}" in path.read_text()
        assert isinstance(yaml.safe_load(path.read_text()), dict)
