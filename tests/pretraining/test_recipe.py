import json
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from detox.errors import DataError, InputError, UnknownName
from detox.losses import OBJECTIVES
from detox.pretraining import PretrainingRecipe, train_tokenizer

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
