from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from detox.detoxifiers.planted import FAMILIES, word_tokenizer
from detox.errors import InputError
from detox.models import LanguageModel, Sampling, generate
from detox.models.edits import state_of
from tests.models.test_likelihood import tiny

PROMPTS = [
    "topic1 says",
    "topic2",
    "topic3 topic4 topic5 says kind1",
    "topic1 says",
    "topic7 topic8 says rude2 rude3 kind4",
]

LAYOUTS = ("bloom", "gemma3_text", "gpt2", "gpt_neox", "llama", "mistral", "olmo2", "opt")


# Every family one way; the other ways on layouts that differ most.
@pytest.mark.parametrize(
    ("family", "settings"),
    [
        *((family, {"top_p": 0.9}) for family in FAMILIES),
        *((family, {"top_k": 5}) for family in LAYOUTS),
        *((family, {"temperature": 0.7}) for family in LAYOUTS),
    ],
)
def test_the_batch_does_not_matter(family, settings):
    lm = tiny(family)
    sampling = Sampling(max_new_tokens=8, num_return_sequences=3, seed=5, **settings)
    whole = generate(lm, PROMPTS, sampling)
    assert [len(completions) for completions in whole] == [3] * len(PROMPTS)
    for batch_size in (1, 2, 32):
        assert generate(lm, PROMPTS, replace(sampling, batch_size=batch_size)) == whole
    # The same prompt twice in the list is another draw; the order of the list is nothing.
    assert whole[0] != whole[3]
    assert generate(lm, [PROMPTS[4], PROMPTS[1]], sampling) == [whole[4], whole[1]]


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_is_what_plain_forward_passes_give(family):
    lm = tiny(family)
    for prompt, completions in zip(
        PROMPTS, generate(lm, PROMPTS, Sampling(max_new_tokens=6, temperature=0)), strict=True
    ):
        ids = lm.tokenizer(prompt)["input_ids"]
        expected: list[int] = []
        with torch.no_grad():
            while len(expected) < 6 and (not expected or expected[-1] != lm.tokenizer.eos_token_id):
                row = torch.tensor([[*ids, *expected]])
                expected.append(
                    int(
                        lm.model(input_ids=row, attention_mask=torch.ones_like(row), use_cache=False)
                        .logits[0, -1]
                        .argmax()
                    )
                )
        assert list(completions[0].token_ids) == expected


@pytest.mark.parametrize("family", ["falcon:alibi", "gpt2", "mistral", "opt"])
def test_the_batch_does_not_matter_in_eager_attention(family):
    lm = tiny(family, attention="eager")
    sampling = Sampling(max_new_tokens=8, num_return_sequences=2, seed=5)
    assert generate(lm, PROMPTS, sampling) == generate(lm, PROMPTS, replace(sampling, batch_size=1))


@pytest.mark.parametrize("family", ["mpt", "bloom", "mistral"])
def test_shared_prefill_and_its_fallback_agree(family):
    """MPT and BLOOM cannot reuse a prefix; a sliding window can. All must write what they write one prompt at a time."""
    from transformers import AutoConfig, AutoModelForCausalLM

    tokenizer = word_tokenizer()
    common = {"vocab_size": len(tokenizer), "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
    config = {
        "mpt": lambda: AutoConfig.for_model("mpt", d_model=32, n_heads=4, n_layers=2, max_seq_len=64, **common),
        "bloom": lambda: AutoConfig.for_model("bloom", hidden_size=32, n_head=4, n_layer=2, **common),
        "mistral": lambda: AutoConfig.for_model(
            "mistral", hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
            sliding_window=4, max_position_embeddings=64, **common,
        ),
    }[family]()  # fmt: skip
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.2)
    lm = LanguageModel(model, tokenizer)
    sampling = Sampling(max_new_tokens=8, num_return_sequences=4, seed=2)
    whole = generate(lm, PROMPTS, sampling)
    assert state_of(model).reuses_cache is (family == "mistral")
    assert generate(lm, PROMPTS, replace(sampling, batch_size=1)) == whole


def test_text_is_cut_by_token_and_says_why_it_ended():
    lm = tiny("llama")
    head = lm.model.get_output_embeddings()
    with torch.no_grad():
        head.weight[lm.tokenizer.eos_token_id] += 0.5
    completions = [
        c for row in generate(lm, PROMPTS, Sampling(max_new_tokens=12, num_return_sequences=20)) for c in row
    ]
    reasons = {c.finish_reason for c in completions}
    assert reasons == {"eos", "length"}
    for c in completions:
        ended = c.token_ids[-1] == lm.tokenizer.eos_token_id
        assert (c.finish_reason == "eos") == ended
        assert lm.tokenizer.eos_token_id not in c.token_ids[:-1]
        assert len(c.token_ids) <= 12
        assert len(c.token_ids) == 12 or ended
        assert c.text.split() == [
            w for w in lm.tokenizer.convert_ids_to_tokens(list(c.token_ids)) if w not in ("<eos>", "<pad>", "<unk>")
        ]


def test_a_prompt_that_comes_again_in_the_continuation_stays():
    """Cut by string, `text.replace(prompt, "")` would lose it."""
    lm = tiny("llama")
    out = lm.model.get_output_embeddings()
    word = lm.tokenizer.convert_tokens_to_ids("topic2")
    with torch.no_grad():
        out.weight.zero_()
        lm.model.model.norm.weight.fill_(1.0)
        out.weight[word] = lm.model.model.embed_tokens.weight[word]
    text = generate(lm, ["topic2"], Sampling(max_new_tokens=3, temperature=0))[0][0].text
    assert len(text.split()) == 3


def test_memory_shortage_halves_the_batch_and_is_recorded():
    lm = tiny("llama")
    sampling = Sampling(max_new_tokens=5, num_return_sequences=2, seed=1)
    expected = generate(lm, PROMPTS, sampling)

    def short_of_memory(module, args, kwargs):
        ids = kwargs.get("input_ids", args[0] if args else None)
        if ids.shape[0] > 3:
            raise torch.OutOfMemoryError("no memory for more than 3 rows")

    handle = lm.model.register_forward_pre_hook(short_of_memory, with_kwargs=True)
    assert generate(lm, PROMPTS, sampling) == expected
    values = lm.logprobs(PROMPTS, [" kind1 kind2"] * len(PROMPTS))
    handle.remove()
    assert any("halved" in incident for incident in lm.incidents())
    for got, again in zip(values, lm.logprobs(PROMPTS, [" kind1 kind2"] * len(PROMPTS)), strict=True):
        assert torch.allclose(got, again, atol=1e-5)


def test_a_checkpoints_own_generation_defaults_stay_out():
    lm = tiny("llama")
    expected = generate(lm, PROMPTS, Sampling(max_new_tokens=6, temperature=0))
    lm.model.generation_config.repetition_penalty = 5.0
    lm.model.generation_config.no_repeat_ngram_size = 1
    kept = lm.model.generation_config
    assert generate(lm, PROMPTS, Sampling(max_new_tokens=6, temperature=0)) == expected
    assert lm.model.generation_config is kept


def test_dropout_is_off_and_the_training_flags_come_back():
    lm = tiny("gpt2")
    expected = generate(lm, PROMPTS, Sampling(max_new_tokens=6, temperature=0))
    lm.model.train()
    assert generate(lm, PROMPTS, Sampling(max_new_tokens=6, temperature=0)) == expected
    assert lm.model.training
    assert all(module.training for module in lm.model.modules())


def test_wrong_prompts_are_one_clear_line():
    lm = tiny("llama")
    with pytest.raises(InputError, match="no prompts"):
        generate(lm, [])
    with pytest.raises(InputError, match=r"prompt 1 is an empty string.*<eos>"):
        generate(lm, ["topic1", ""])
    with pytest.raises(InputError, match=r"prompt 0 has 60 tokens and asks for 20 more.*holds 64"):
        generate(lm, [" ".join(["topic1"] * 60)])
    with pytest.raises(InputError, match=r"write \[prompt\]"):
        generate(lm, "topic1")
    with pytest.raises(InputError, match="no chat template"):
        generate(lm, [[{"role": "user", "content": "topic1"}]])
    with pytest.raises(InputError, match="lone surrogate"):
        generate(lm, ["topic1 \ud800"])


def test_token_ids_are_taken_as_they_are():
    lm = tiny("llama")
    ids = lm.tokenizer(PROMPTS[2])["input_ids"]
    greedy = Sampling(max_new_tokens=4, temperature=0)
    assert generate(lm, [ids], greedy)[0][0].token_ids == generate(lm, [PROMPTS[2]], greedy)[0][0].token_ids


def test_bfloat16_uses_the_same_noise_and_mostly_agrees():
    lm = tiny("llama")
    sampling = Sampling(max_new_tokens=6, num_return_sequences=8, seed=4)
    exact = generate(lm, PROMPTS, sampling)
    lm.model.to(torch.bfloat16)
    rough = generate(lm, PROMPTS, sampling)
    same = np.mean(
        [a.token_ids[0] == b.token_ids[0] for x, y in zip(exact, rough, strict=True) for a, b in zip(x, y, strict=True)]
    )
    assert same > 0.8


@pytest.mark.parametrize("family", ["gpt2", "llama", "mpt"])
def test_a_stop_string_ends_a_text_and_nothing_else(family):
    lm = tiny(family)
    sampling = Sampling(max_new_tokens=12, num_return_sequences=4, seed=3)
    whole = generate(lm, PROMPTS, sampling)
    stop = ["rude", "topic1"]
    seen = set()
    for batch_size in (1, 3, 32):
        for plain, cut in zip(
            whole, generate(lm, PROMPTS, replace(sampling, batch_size=batch_size), stop=stop), strict=True
        ):
            for long, short in zip(plain, cut, strict=True):
                ends = [long.text.find(string) for string in stop if string in long.text]
                assert short.text == (long.text[: min(ends)] if ends else long.text)
                assert short.finish_reason == ("stop" if ends else long.finish_reason)
                assert short.token_ids == long.token_ids[: len(short.token_ids)]
                seen.add(short.finish_reason)
                if ends:  # the ids end with the string, one token of these words
                    assert any(string in lm.tokenizer.decode(short.token_ids[-1:]) for string in stop)
    assert "stop" in seen
    assert len(seen) > 1
    with pytest.raises(InputError, match="none empty"):
        generate(lm, PROMPTS, sampling, stop=[""])


def test_a_stop_string_over_several_tokens_is_seen():
    lm = tiny("llama")
    [[plain]] = generate(lm, [PROMPTS[0]], Sampling(max_new_tokens=12, seed=1))
    middle = plain.text[len(plain.text) // 3 : 2 * len(plain.text) // 3]
    assert len(lm.tokenizer(middle)["input_ids"]) > 1
    [[cut]] = generate(lm, [PROMPTS[0]], Sampling(max_new_tokens=12, seed=1), stop=[middle])
    assert cut.text == plain.text[: plain.text.index(middle)]
    assert len(cut.token_ids) < len(plain.token_ids)
