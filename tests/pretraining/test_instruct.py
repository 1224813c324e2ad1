import json
import random
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from detox.data.contrasts import Contrast
from detox.errors import InputError, MissingData, OutputError, UnknownName
from detox.models import LanguageModel, Sampling, generate, token_logprobs
from detox.pretraining import train_tokenizer
from detox.pretraining.dialogues import DIALOGUE_TEMPLATE, InstructionRecipe, dialogue_template, dialogue_tokens
from detox.pretraining.instruct import instruct
from detox.pretraining.workdir import weights_digest

DIALOGUES = [
    Contrast(id="0", prompt="you are a fool", safe=(" let us be kind",), toxic=(" so are you",)),
    Contrast(id="1", prompt="go away now", safe=(" let us talk of it", " we can be calm"), toxic=()),
    Contrast(id="2", prompt="what a mess", safe=(), toxic=(" a fool made it",)),
]
RECIPE = InstructionRecipe(epochs=40, batch_size=3, learning_rate=5e-3, warmup_share=0.0)
TURNS = [[{"role": "user", "content": "you are a fool"}]]


@cache
def tokenizer():
    texts = [text for one in DIALOGUES for text in (one.prompt, *one.safe)] + ["User: Assistant:"]
    return train_tokenizer(texts * 3, 300)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base") / "model"
    config = AutoConfig.for_model(
        "llama", vocab_size=len(tokenizer()), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=48, bos_token_id=tokenizer().bos_token_id,
        eos_token_id=tokenizer().eos_token_id, pad_token_id=tokenizer().pad_token_id,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def tune(base, folder, dialogues=DIALOGUES, recipe=RECIPE, **options):
    return instruct(base, dialogues, folder, **{"recipe": recipe, "progress": False} | options)


def card(folder):
    return json.loads((folder / "instruction.json").read_text())


@pytest.fixture(scope="module")
def tuned(base, tmp_path_factory):
    return tune(base, tmp_path_factory.mktemp("tuned") / "model")


def reply_nll(folder, template=DIALOGUE_TEMPLATE):
    lm = LanguageModel.from_pretrained(folder, device="cpu")
    lm.tokenizer.chat_template = template
    return -float(token_logprobs(lm, TURNS, [" let us be kind"])[0].mean())


def test_replies_become_likelier_and_the_model_says_them_and_stops(base, tuned):
    assert reply_nll(tuned) < reply_nll(base) - 2
    lm = LanguageModel.from_pretrained(tuned, device="cpu")
    [[answer]] = generate(lm, TURNS, Sampling(max_new_tokens=20, temperature=0))
    assert (answer.text.strip(), answer.finish_reason) == ("let us be kind", "eos")


def test_the_result_is_a_plain_checkpoint_with_a_template_and_a_card(base, tuned):
    model, saved = AutoModelForCausalLM.from_pretrained(tuned), AutoTokenizer.from_pretrained(tuned)
    original = AutoTokenizer.from_pretrained(base)
    assert saved.chat_template == DIALOGUE_TEMPLATE
    assert saved.special_tokens_map == original.special_tokens_map
    assert (
        model.config.to_dict().keys()
        == AutoModelForCausalLM.from_pretrained(base, dtype="float32").config.to_dict().keys()
    )
    assert model.config.use_cache
    assert sorted(path.name for path in tuned.parent.iterdir()) == ["model"]
    found = card(tuned)
    assert found["dialogues"]["prompts"] == 2
    assert found["dialogues"]["replies"] == 3
    assert found["steps"] == 40
    assert found["curve"][-1]["loss"] < found["curve"][0]["loss"]
    assert found["hashes"]["weights"] == weights_digest(tuned)
    assert not any(path.suffix in {".bin", ".pt", ".pth"} for path in tuned.iterdir())


def test_only_reply_tokens_carry_loss(base, tmp_path):
    # One step over all replies at once: its loss is the mean over their tokens and the end tokens, written out by hand.
    folder = tune(base, tmp_path / "one", recipe=replace(RECIPE, epochs=1))
    model, bpe = AutoModelForCausalLM.from_pretrained(base).double(), tokenizer()
    nlls = []
    for one in DIALOGUES:
        for text in one.safe:
            start = bpe(f"User: {one.prompt}\nAssistant:")["input_ids"]
            ids = [*start, *bpe(text)["input_ids"], bpe.eos_token_id]
            with torch.no_grad():
                logits = model(torch.tensor([ids])).logits[0].numpy()
            shifted = logits - logits.max(-1, keepdims=True)
            logprobs = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
            nlls += [-logprobs[place - 1, ids[place]] for place in range(len(start), len(ids))]
    assert card(folder)["curve"][0]["loss"] == pytest.approx(np.mean(nlls), abs=1e-4)
    assert card(folder)["dialogues"]["reply tokens"] == len(nlls)


def test_what_is_trained_on_is_what_generation_reads(base):
    lm = LanguageModel.from_pretrained(base, device="cpu")
    lm.tokenizer.chat_template = dialogue_template(RECIPE, lm.tokenizer)
    rows, _ = dialogue_tokens(lm, DIALOGUES[:1], RECIPE)
    rendered = lm.tokenizer.apply_chat_template(TURNS[0], tokenize=False, add_generation_prompt=True)
    assert rendered == "User: you are a fool\nAssistant:"
    assert rows[0].prompt == lm.tokenizer(rendered)["input_ids"]
    assert lm.tokenizer.decode(rows[0].reply) == " let us be kind<|endoftext|>"
    plain, _ = dialogue_tokens(lm, DIALOGUES[:1], replace(RECIPE, template="plain"))
    assert lm.tokenizer.decode(plain[0].prompt) == "you are a fool"
    assert lm.tokenizer.decode(plain[0].reply) == " let us be kind<|endoftext|>"
    three = [*TURNS[0], {"role": "assistant", "content": "let us"}, {"role": "user", "content": "no"}]
    assert (
        lm.tokenizer.apply_chat_template(three, tokenize=False, add_generation_prompt=True)
        == "User: you are a fool\nAssistant: let us<|endoftext|>\nUser: no\nAssistant:"
    )


def test_a_chat_template_of_the_tokenizers_own_is_kept_and_a_start_token_is_written_where_it_is_the_habit(base):
    lm = LanguageModel.from_pretrained(base, device="cpu")
    assert dialogue_template(RECIPE, lm.tokenizer) == DIALOGUE_TEMPLATE
    assert dialogue_template(replace(RECIPE, template="plain"), lm.tokenizer) is None
    lm.tokenizer.chat_template = (
        "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}|{% endfor %}"
        "{% if add_generation_prompt %}<assistant>think{% endif %}"
    )
    assert dialogue_template(RECIPE, lm.tokenizer) == lm.tokenizer.chat_template
    rows, _ = dialogue_tokens(lm, DIALOGUES[:1], RECIPE)  # "think" is not written before a reply that is there
    assert lm.tokenizer.decode(rows[0].prompt) == "<user>you are a fool|<assistant>"
    assert lm.tokenizer.decode(rows[0].reply) == "let us be kind|"
    assert dialogue_template(replace(RECIPE, template="dialogue"), lm.tokenizer) == DIALOGUE_TEMPLATE
    from tokenizers.processors import TemplateProcessing

    habit = AutoTokenizer.from_pretrained(base)
    end = habit.eos_token
    habit.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{end} $A", special_tokens=[(end, habit.eos_token_id)]
    )
    assert dialogue_template(RECIPE, habit).startswith("{{ bos_token }}")


def test_a_finished_folder_is_not_tuned_again_and_another_run_is_refused(base, tuned):
    before = (tuned / "model.safetensors").stat().st_mtime_ns
    seen = []
    assert tune(base, tuned, progress=lambda *step: seen.append(step)) == tuned
    assert tune(base, tuned, recipe=replace(RECIPE, gradient_accumulation_steps=3)) == tuned
    assert not seen
    assert (tuned / "model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(InputError, match=r"another instruction tuning \(seed 0 and not 1\)"):
        tune(base, tuned, recipe=replace(RECIPE, seed=1))
    with pytest.raises(InputError, match="other dialogues"):
        tune(base, tuned, DIALOGUES[:1])
    with pytest.raises(InputError, match="other base"):
        tune(tuned, tuned, recipe=replace(RECIPE, template="dialogue"))


def test_the_same_call_makes_the_same_model_and_leaves_random_state_and_base_alone(base, tuned, tmp_path):
    weights = weights_digest(base)
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    again = tune(base, tmp_path / "again", recipe=replace(RECIPE, gradient_accumulation_steps=3))
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])
    assert weights_digest(base) == weights
    a, b = (AutoModelForCausalLM.from_pretrained(folder).state_dict() for folder in (tuned, again))
    for name in a:
        torch.testing.assert_close(
            a[name], b[name], rtol=1e-3, atol=1e-3
        )  # parts of a batch are summed in another order


def test_ctrl_c_leaves_nothing_and_says_so(base, tmp_path):
    def stop(step, steps):
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="stopped at step 3 of 40; nothing was written"):
        tune(base, tmp_path / "model", progress=stop)
    assert not list(tmp_path.iterdir())


def test_dialogues_beyond_the_context_are_left_out_and_counted(base, tmp_path):
    long = Contrast(id="long", prompt="a mess " * 40, safe=(" kind",), toxic=())
    folder = tune(base, tmp_path / "model", [*DIALOGUES, long], replace(RECIPE, epochs=1))
    assert card(folder)["dialogues"]["left out as too long"] == 1
    assert card(folder)["dialogues"]["replies"] == 3
    with pytest.raises(InputError, match="none of 1 dialogues fits the model's context of 48 tokens"):
        tune(base, tmp_path / "other", [long])


def test_wrong_input_is_one_clear_line(base, tmp_path):
    with pytest.raises(InputError, match="none of 1 dialogues has a reply to learn"):
        tune(base, tmp_path / "model", DIALOGUES[2:])
    with pytest.raises(MissingData, match="no model folder"):
        tune(tmp_path / "nowhere", tmp_path / "model")
    with pytest.raises(UnknownName, match="did you mean 'auto'"):
        tune(base, tmp_path / "model", resume="aut")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(OutputError, match=r"thesis\.txt"):
        tune(base, tmp_path / "mine")
    for values, message in (
        ({"epochs": 0}, "epochs is 0"),
        ({"batch_size": 3, "gradient_accumulation_steps": 2}, "no multiple"),
        ({"warmup_share": 1.0}, "warmup_share is 1.0"),
        ({"schedule": "cosin"}, "did you mean 'cosine'"),
        ({"template": "none"}, "template of an instruction recipe 'none'"),
        ({"epoch": 1}, "did you mean 'epochs'"),
    ):
        with pytest.raises(InputError, match=message):
            InstructionRecipe.from_dict(values)
    assert InstructionRecipe.from_dict(RECIPE.to_dict()) == RECIPE
