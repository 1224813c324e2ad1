import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from detox.errors import DataError, InputError, MissingData, UnknownName
from detox.losses import OBJECTIVES
from detox.pretraining import PretrainingRecipe, train_tokenizer
from detox.pretraining.architecture import checkpoint_folder, scratch_config

TINY = {"sequence_length": 16, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


@given(
    objective=st.sampled_from(OBJECTIVES),
    weight=st.floats(0, 10),
    steps=st.integers(1, 10**6),
    warmup=st.floats(0, 100),
    hidden=st.sampled_from([None, 64, 256]),
    family=st.sampled_from([None, "olmo", "olmo2"]),
)
def test_json_round_trip(objective, weight, steps, warmup, hidden, family):
    recipe = PretrainingRecipe(
        objective=objective, unlikelihood_weight=weight, steps=steps, warmup=warmup, hidden_size=hidden, family=family
    )
    assert PretrainingRecipe.from_json(recipe.to_json()) == recipe
    assert json.loads(recipe.to_json()) == recipe.to_dict()


def test_unknown_keys_name_the_nearest():
    with pytest.raises(UnknownName, match="did you mean 'learning_rate'"):
        PretrainingRecipe.from_dict({"learningrate": 1e-3})
    with pytest.raises(UnknownName, match="did you mean 'unlikelihood'"):
        PretrainingRecipe(objective="unlikelyhood")
    with pytest.raises(UnknownName, match="did you mean 'olmo'"):
        PretrainingRecipe(family="olmo3x")
    with pytest.raises(DataError, match="line 1 is not JSON"):
        PretrainingRecipe.from_json("{steps: 3}")
    with pytest.raises(DataError, match="expected a JSON object"):
        PretrainingRecipe.from_json("[1]")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 0}, "steps is 0; expected more than 0"),
        ({"steps": True}, "steps is True; expected int"),
        ({"learning_rate": "3e-3"}, r"learning_rate is '3e-3'; expected float \(in YAML a number is written 1.0e-3\)"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"warmup": -1}, "warmup is -1"),
        ({"seed": None}, "seed is None"),
        ({"sequence_length": 1}, "sequence_length is 1"),
        ({"batch_size": 10, "gradient_accumulation_steps": 4}, "pieces of a step must be equal"),
        ({"hidden_size": 100, "num_attention_heads": 8}, "an even width a head"),
        ({"num_attention_heads": 8, "num_key_value_heads": 3}, "multiple of key-value heads"),
        ({"sequence_length": 128, "max_position_embeddings": 64}, "has 64 positions"),
    ],
)
def test_values_out_of_range(values, message):
    with pytest.raises(InputError, match=message):
        PretrainingRecipe.from_dict(values)


def test_sizes_follow_one_another_when_replaced():
    recipe = PretrainingRecipe()
    wide = replace(recipe, hidden_size=256, sequence_length=128)
    assert recipe.sizes()["intermediate_size"] == 352
    assert wide.sizes()["intermediate_size"] == 704
    assert wide.sizes()["max_position_embeddings"] == 128
    assert wide.sizes()["num_key_value_heads"] == wide.sizes()["num_attention_heads"] == 8


@pytest.mark.parametrize(("warmup", "steps"), [(0, 0), (0.05, 10), (1, 1), (30, 30)])
def test_warmup_in_steps_or_as_part(warmup, steps):
    assert PretrainingRecipe(steps=200, warmup=warmup).warmup_steps == steps


def test_the_choice_of_attention_for_training_is_not_in_the_checkpoint(tmp_path):
    tokenizer = train_tokenizer(["ab"], 258)
    for precision in ("float32", "bf16"):
        PretrainingRecipe(**TINY, precision=precision).build_model(tokenizer).save_pretrained(tmp_path / precision)
    configs = [(tmp_path / precision / "config.json").read_text() for precision in ("float32", "bf16")]
    assert configs[0] == configs[1]


@pytest.mark.parametrize("family", ["olmo", "olmo2"])
def test_a_model_from_scratch_is_the_recipe_s(family):
    tokenizer = train_tokenizer(["ab"], 258)
    recipe = PretrainingRecipe(**TINY, family=family, num_key_value_heads=1, tie_word_embeddings=True, seed=3)
    state = torch.random.get_rng_state()
    model = recipe.build_model(tokenizer)
    assert torch.equal(torch.random.get_rng_state(), state)
    config = model.config
    assert config.model_type == family
    assert (config.hidden_size, config.num_hidden_layers, config.num_key_value_heads) == (16, 1, 1)
    assert (config.vocab_size, config.eos_token_id, config.pad_token_id) == (258, 0, 1)
    assert config.max_position_embeddings == 16
    assert next(model.parameters()).dtype == torch.float32
    again, other = recipe.build_model(tokenizer), replace(recipe, seed=4).build_model(tokenizer)
    same, different = (
        all(torch.equal(a, b) for a, b in zip(model.parameters(), m.parameters(), strict=True)) for m in (again, other)
    )
    assert same
    assert not different


def test_continuing_takes_weights_and_sizes_from_the_checkpoint(tmp_path):
    tokenizer = train_tokenizer(["ab"], 258)
    scratch = PretrainingRecipe(**TINY)
    model = scratch.build_model(tokenizer)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    for recipe in (
        replace(scratch, continue_from=str(tmp_path)),
        PretrainingRecipe(sequence_length=8, continue_from=str(tmp_path)),
    ):
        continued = recipe.build_model(tokenizer)
        for a, b in zip(model.parameters(), continued.parameters(), strict=True):
            assert torch.equal(a, b)
    with pytest.raises(InputError, match=r"hidden_size is 16 in .* and 32 in the recipe"):
        replace(scratch, hidden_size=32, continue_from=str(tmp_path)).build_model(tokenizer)
    with pytest.raises(InputError, match="has 16 positions"):
        PretrainingRecipe(sequence_length=17, continue_from=str(tmp_path)).build_model(tokenizer)
    with pytest.raises(InputError, match="are not those of"):
        replace(scratch, continue_from=str(tmp_path)).build_model(train_tokenizer(["ab ab ab"], 259))
    with pytest.raises(InputError, match=r"has no config\.json"):
        PretrainingRecipe(continue_from=str(tmp_path / "nowhere")).build_model(tokenizer)


def test_what_was_recorded_before_newer_fields_is_the_same_recipe():
    """Identities of committed bases are hashes of these values: a newer field at its default must not be among them."""
    assert list(PretrainingRecipe().to_dict()) == [
        "objective", "unlikelihood_weight", "steps", "batch_size", "gradient_accumulation_steps", "sequence_length",
        "learning_rate", "schedule", "warmup", "weight_decay", "adam_beta1", "adam_beta2", "max_grad_norm", "seed",
        "precision", "family", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
        "intermediate_size", "tie_word_embeddings", "max_position_embeddings", "continue_from",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "values",
    [
        {"denominator": "per-kind"},
        {"architecture": "olmo-1b"},
        {"continue_from": "org/model", "revision": "step737000"},
        {"gradient_checkpointing": True},
        {"schedule_start": 5, "schedule_steps": 900},
    ],
)
def test_newer_fields_are_recorded_where_they_are_used(values):
    recipe = PretrainingRecipe(**values)
    assert values.items() <= recipe.to_dict().items()
    assert PretrainingRecipe.from_json(recipe.to_json()) == recipe


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"denominator": "perkind"}, "did you mean 'per-kind'"),
        ({"architecture": "olmo-1b", "continue_from": "x"}, "are both given"),
        ({"revision": "main"}, "there is no continue_from or architecture it is of"),
        ({"schedule_steps": 300}, "expected at least schedule_start \\+ steps, 350"),
        ({"schedule_start": 100, "schedule_steps": 400}, "schedule_start \\+ steps, 450"),
        ({"schedule_start": -1}, "schedule_start is -1; expected at least 0"),
        ({"gradient_checkpointing": 1}, "gradient_checkpointing is 1; expected bool"),
    ],
)
def test_newer_fields_that_cannot_be(values, message):
    with pytest.raises(InputError, match=message):
        PretrainingRecipe(**values)


def test_an_architecture_by_folder_file_or_name(tmp_path):
    tokenizer = train_tokenizer(["ab"], 258)
    scratch = PretrainingRecipe(**TINY, seed=2)
    scratch.build_model(tokenizer).config.save_pretrained(tmp_path)
    for place in (tmp_path, tmp_path / "config.json"):
        recipe = PretrainingRecipe(architecture=str(place), sequence_length=16, seed=2)
        for a, b in zip(
            recipe.build_model(tokenizer).parameters(), scratch.build_model(tokenizer).parameters(), strict=True
        ):
            assert torch.equal(a, b)
    with pytest.raises(InputError, match=r"hidden_size is 16 in the architecture .* and 32 in the recipe"):
        PretrainingRecipe(architecture=str(tmp_path), sequence_length=16, hidden_size=32).build_model(tokenizer)
    with pytest.raises(InputError, match="sequence_length is 4096 and the model has 2048 positions"):
        scratch_config(PretrainingRecipe(architecture="olmo-1b", sequence_length=4096))
    with pytest.raises(MissingData, match=r"architecture '.*nowhere' cannot be read"):
        PretrainingRecipe(architecture=str(tmp_path / "nowhere")).build_model(tokenizer)


@pytest.mark.parametrize(
    ("tokens", "rows"), [(50280, 50304), (50304, 50304), (50177, 50304), (50176, 50176), (4096, 4096)]
)
def test_rows_that_make_a_published_vocabulary_round_are_kept(tokens, rows):
    class Tokens:
        bos_token_id, eos_token_id, pad_token_id = None, 0, 1

        def __len__(self):
            return tokens

    config = scratch_config(PretrainingRecipe(architecture="olmo-1b"), Tokens())
    assert config.vocab_size == rows
    assert (config.num_hidden_layers, config.num_attention_heads, config.hidden_size) == (16, 16, 2048)
    assert (config.eos_token_id, config.tie_word_embeddings) == (0, True)


def test_a_branch_of_the_hub_by_the_start_of_its_name(monkeypatch, tmp_path):
    """What is looked up and what is fetched, with the hub's client in the test's hands."""
    names = ["main", "step737000-tokens3090B", "step73700-tokens309B", "step1000-tokens4B", "step1000-tokens5B"]
    refs = SimpleNamespace(branches=[SimpleNamespace(name=name) for name in names], tags=[])
    fetched = []

    def snapshot_download(name, *, revision, allow_patterns):
        assert not any(pattern.endswith((".bin", ".py")) for pattern in allow_patterns)  # neither pickles nor code
        fetched.append((name, revision))
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.list_repo_refs", lambda name: refs)
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    for asked, branch in (
        ("step737000", names[1]),
        (names[1], names[1]),
        ("main", "main"),
        ("abc123", "abc123"),
        (None, None),
    ):
        assert checkpoint_folder("allenai/OLMo-1B-hf", asked) == tmp_path
        assert fetched.pop() == ("allenai/OLMo-1B-hf", branch)
    with pytest.raises(InputError, match="'step1000' of org/model names 2 branches"):
        checkpoint_folder("org/model", "step1000")
    with pytest.raises(InputError, match="is a folder; only the hub's have one"):
        checkpoint_folder(str(tmp_path), "main")


def test_a_hub_that_cannot_be_reached_is_one_line(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        MissingData, match="org/no-such-model at main is no folder and cannot be had from the hub"
    ) as raised:
        checkpoint_folder("org/no-such-model", "main")
    assert "\n" not in str(raised.value)
