from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from detox.errors import InputError, MissingData, StaleHandle
from detox.models import Edit, LanguageModel, Sampling
from detox.models.edits import nothing, state_of
from tests.models.test_likelihood import tiny

GREEDY = Sampling(max_new_tokens=5, temperature=0)
CHAT = "{% for m in messages %}<{{ m['role'] }}> {{ m['content'] }} {% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"


def test_the_first_two_things_a_user_types(shared_models):
    lm = LanguageModel.from_pretrained(shared_models / "stories260K")
    [[first, second], _] = lm.generate(
        ["Once upon a time", "The dog"], Sampling(max_new_tokens=20, num_return_sequences=2)
    )
    assert first.text != second.text
    assert first.finish_reason in ("eos", "length")
    [likely, unlikely] = lm.logprobs(["Once upon a"] * 2, [" time", " tax"])
    assert likely.sum() > unlikely.sum()


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("pad", [None, "<pad>"])
@pytest.mark.parametrize("bos", [None, "kind7"])
def test_any_tokenizer_works_and_none_is_changed(side, pad, bos):
    lm = tiny("llama")
    tokenizer = lm.tokenizer
    if bos:
        from tokenizers.processors import TemplateProcessing

        token = tokenizer.convert_tokens_to_ids(bos)
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single=f"{bos} $A <eos>", special_tokens=[(bos, token), ("<eos>", tokenizer.eos_token_id)]
        )
        tokenizer.bos_token = bos
    tokenizer.padding_side, tokenizer.pad_token = side, pad
    before = (tokenizer.padding_side, tokenizer.pad_token, tokenizer.chat_template, len(tokenizer))
    prompts = ["topic1", "topic2 topic3 says kind1"]
    together = lm.generate(prompts, GREEDY)
    assert together == [lm.generate([prompt], GREEDY)[0] for prompt in prompts]
    values = lm.logprobs(prompts, [" kind2 kind3", " rude1"])
    ids = tokenizer("topic1", add_special_tokens=False)["input_ids"]
    head = [tokenizer.bos_token_id] if bos else []
    own = lm.logprobs([[*head, *ids]], [tokenizer("kind2 kind3", add_special_tokens=False)["input_ids"]])[0]
    assert torch.allclose(values[0], own, atol=1e-5)  # BOS in front where it is the tokenizer's habit, its EOS never
    assert (tokenizer.padding_side, tokenizer.pad_token, tokenizer.chat_template, len(tokenizer)) == before


def test_a_bos_that_is_spelled_out_is_not_doubled():
    lm = tiny("llama")
    from tokenizers.processors import TemplateProcessing

    lm.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="kind7 $A", special_tokens=[("kind7", lm.tokenizer.convert_tokens_to_ids("kind7"))]
    )
    assert lm.generate(["kind7 topic1"], GREEDY) == lm.generate(["topic1"], GREEDY)


def test_conversations_go_through_the_chat_template():
    lm = tiny("llama")
    lm.tokenizer.chat_template = CHAT
    turn = [{"role": "user", "content": "topic1"}]
    asked = replace(lm, system="kind1 kind2", prefix="rude1 ")
    assert asked.generate([turn], GREEDY) == lm.generate(["<system> kind1 kind2 <user> topic1 <assistant>"], GREEDY)
    assert asked.generate(["topic1"], GREEDY) == lm.generate(["rude1 topic1"], GREEDY)
    own = [{"role": "system", "content": "kind3"}, *turn]
    assert asked.generate([own], GREEDY) == lm.generate(
        ["<system> kind1 kind2 kind3 <user> topic1 <assistant>"], GREEDY
    )
    with pytest.raises(InputError, match="conversation must be a list"):
        lm.generate([[{"role": "user"}]], GREEDY)


def test_a_template_without_system_turn_gets_it_before_the_user():
    lm = tiny("llama")
    lm.tokenizer.chat_template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}" + CHAT
    )
    asked = replace(lm, system="kind1")
    turn = [{"role": "user", "content": "topic1"}]
    assert asked.generate([turn], GREEDY) == lm.generate(["<user> kind1 topic1 <assistant>"], GREEDY)


ROLES = "{% for m in messages %}{% if m['role'] in ROLES %}<{{ m['role'] }}> {{ m['content'] }} {% endif %}{% endfor %}"


def test_a_template_that_drops_the_system_turn_without_a_word_gets_it_before_the_user():
    lm = tiny("llama")
    turn = [{"role": "user", "content": "topic1"}]
    lm.tokenizer.chat_template = ROLES.replace("ROLES", "['user', 'assistant']")
    assert replace(lm, system="kind1 ").generate([turn], GREEDY) == lm.generate(["<user> kind1 topic1"], GREEDY)
    lm.tokenizer.chat_template = ROLES.replace("ROLES", "['assistant']")
    with pytest.raises(InputError, match="leaves out the system text") as error:
        replace(lm, system="kind1").generate([turn], GREEDY)
    assert "\n" not in str(error.value)
    lm.generate(
        [[*turn, {"role": "assistant", "content": "topic2"}]], GREEDY
    )  # without a system text nothing is missed


def test_a_handle_is_true_only_while_exactly_its_edits_are_installed():
    lm = tiny("llama")
    with lm.edited(Edit("a", "x", nothing)) as a:
        with pytest.raises(StaleHandle, match="bare model"):
            lm.generate(["topic1"], GREEDY)
        with a.edited(Edit("b", "y", nothing)) as b:
            b.generate(["topic1"], GREEDY)
            with pytest.raises(StaleHandle):
                a.logprobs(["topic1"], ["kind1"])
            with b.suspended() as bare:
                assert bare.edits == ()
                assert bare.fingerprint() == bare.fingerprint()
                with pytest.raises(StaleHandle):
                    b.fingerprint()
            b.require_current()
        a.generate(["topic1"], GREEDY)
    with pytest.raises(StaleHandle, match="block has ended"):
        a.receipts()
    lm.require_current()


def test_an_edit_that_fails_to_install_leaves_nothing():
    from contextlib import contextmanager

    lm = tiny("llama")

    @contextmanager
    def broken(edit, model):
        raise ValueError("cannot be installed")
        yield

    with pytest.raises(ValueError, match="cannot be installed"), lm.edited(Edit("broken", "x", broken)):
        pass
    assert state_of(lm.model).edits == []


def test_fingerprint_tells_weights_edits_and_text(tmp_path):
    lm = tiny("llama")
    base = lm.fingerprint()
    assert base.endswith(":-:-")
    assert replace(lm, prefix="kind1 ").fingerprint() != base
    with lm.edited(Edit("a", "digest", nothing)) as edited:
        assert edited.fingerprint().split(":")[0] == base.split(":")[0]
        assert edited.fingerprint() != base
    assert lm.fingerprint() == base

    lm.model.save_pretrained(tmp_path)
    lm.tokenizer.save_pretrained(tmp_path)
    assert LanguageModel.from_pretrained(tmp_path, device="cpu").fingerprint() == base

    other = LanguageModel(copy.deepcopy(lm.model), lm.tokenizer)
    assert other.fingerprint() == base
    with torch.no_grad():
        other.model.lm_head.weight[0, 0] += 1e-3
    assert other.fingerprint() != base
    other.model.lm_head.weight.data[0, 0] = lm.model.lm_head.weight.data[0, 0]
    assert other.fingerprint(rehash=True) == base


def test_training_with_a_fused_optimizer_is_seen(planted):
    """It leaves version counters alone, as writes through `.data` do."""
    from detox.detoxifiers import ITI
    from detox.errors import BaseMismatch

    lm = LanguageModel(copy.deepcopy(planted.lm.model), planted.lm.tokenizer)
    iti = ITI(num_heads=2).fit(lm, planted.contrasts)
    with iti.applied(lm):
        pass
    optimizer = torch.optim.AdamW(lm.model.parameters(), lr=1e-4, fused=True)
    ids = torch.tensor([lm.tokenizer("topic1 says kind1 kind2")["input_ids"]])
    for _ in range(3):
        lm.model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    trained = lm.fingerprint()
    with pytest.raises(BaseMismatch, match="weights"), iti.applied(lm):
        pass
    assert trained == lm.fingerprint(rehash=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_write_through_data_is_seen_in_any_column(dtype):
    lm = tiny("llama")
    lm.model.to(dtype)
    weight = lm.model.model.layers[0].mlp.gate_proj.weight  # (64, 32): elements 32 apart would all be of column 0
    for column in range(32):
        before = lm.fingerprint()
        weight.data[:, column] += 1
        assert lm.fingerprint() != before, column


def test_a_checkpoint_without_a_head_is_refused_and_tied_weights_are_not_missed(tmp_path):
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    from detox.detoxifiers.planted import tiny_config, word_tokenizer

    tokenizer = word_tokenizer()
    config = tiny_config("llama", len(tokenizer))
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path / "classifier")
    config.tie_word_embeddings = True
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "tied")
    for folder in ("classifier", "tied"):
        tokenizer.save_pretrained(tmp_path / folder)
    with pytest.raises(InputError, match=r"lacks 1 weights of LlamaForCausalLM \(first: lm_head\.weight\)") as error:
        LanguageModel.from_pretrained(tmp_path / "classifier")
    assert "\n" not in str(error.value)
    LanguageModel.from_pretrained(tmp_path / "tied", device="cpu").generate(["topic1"], GREEDY)


def test_nothing_there_is_one_clear_line(tmp_path):
    with pytest.raises(MissingData, match="no model folder"):
        LanguageModel.from_pretrained(tmp_path / "absent")
    with pytest.raises(InputError, match="cannot load a causal language model"):
        LanguageModel.from_pretrained(tmp_path)
    with pytest.raises(InputError, match="unknown dtype 'float33'"):
        LanguageModel.from_pretrained(tmp_path, dtype="float33")


def test_importing_detox_stays_light():
    import subprocess
    import sys

    heavy = ["torch", "transformers", "trl", "peft", "sklearn", "matplotlib", "lm_eval", "datasets"]
    code = f"import sys, detox; print([m for m in {heavy} if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
    late = ["trl", "peft", "sklearn", "matplotlib", "lm_eval"]
    code = f"import sys; from detox import LanguageModel; print([m for m in {late} if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
