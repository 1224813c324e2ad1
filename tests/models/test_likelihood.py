from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from detox.detoxifiers.planted import FAMILIES, tiny_config, word_tokenizer
from detox.errors import InputError
from detox.models import LanguageModel, Sampling, generate, greedy_logprobs, token_logprobs
from detox.models.likelihood import encode_pairs, windows
from tests.models.reference import logprobs_one_by_one


def tiny(family: str, *, attention: str | None = None, **changes) -> LanguageModel:
    from transformers import AutoModelForCausalLM

    tokenizer = word_tokenizer()
    config = tiny_config(family, len(tokenizer))
    for key, value in changes.items():
        setattr(config, key, value)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()
        for parameter in model.parameters():  # random weights of a size that makes padding mistakes show
            parameter.data.normal_(0, 0.2)
    return LanguageModel(model, tokenizer)


def requests(rng: np.random.Generator, count: int, *, shared: bool) -> tuple[list[list[int]], list[list[int]]]:
    contexts = [rng.integers(3, 30, size=rng.integers(1, 12)).tolist() for _ in range(count)]
    if shared:
        contexts = [contexts[i // 3] for i in range(count)]
    return contexts, [rng.integers(3, 30, size=rng.integers(0, 9)).tolist() for _ in range(count)]


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_equals_one_plain_forward_pass_a_text(family, shared):
    lm = tiny(family)
    contexts, continuations = requests(np.random.default_rng(0), 24, shared=shared)
    got = token_logprobs(lm, contexts, continuations)
    for context, continuation, values in zip(contexts, continuations, got, strict=True):
        assert values.shape == (len(continuation),)
        np.testing.assert_allclose(values.numpy(), logprobs_one_by_one(lm.model, context, continuation), atol=2e-5)


@pytest.mark.parametrize("family", ["deepseek_v3", "falcon:alibi", "gemma3_text", "gpt2", "llama", "mistral", "opt"])
def test_eager_attention_is_scored_as_it_computes(family):
    """Rows that are all padding are NaN in some attention; and Falcon's ALiBi, by itself, is another in eager attention."""
    lm = tiny(family, attention="eager")
    contexts, continuations = requests(np.random.default_rng(0), 12, shared=True)
    for context, continuation, values in zip(
        contexts, continuations, token_logprobs(lm, contexts, continuations), strict=True
    ):
        np.testing.assert_allclose(values.numpy(), logprobs_one_by_one(lm.model, context, continuation), atol=2e-5)
    default = token_logprobs(tiny(family), contexts, continuations)
    same = torch.allclose(torch.cat(token_logprobs(lm, contexts, continuations)), torch.cat(default), atol=2e-5)
    assert same == (family != "falcon:alibi")


def test_families_that_change_logits_after_the_head_are_right():
    from transformers import AutoConfig, AutoModelForCausalLM

    for family, changes in (
        ("gemma2", {"final_logit_softcapping": 2.0}),
        ("cohere", {"logit_scale": 0.3}),
        ("granite", {"logits_scaling": 3.0}),
    ):
        config = AutoConfig.for_model(
            family, vocab_size=40, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, head_dim=8, max_position_embeddings=64, pad_token_id=0, eos_token_id=1, bos_token_id=2, **changes,
        )  # fmt: skip
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config).eval()
        for parameter in model.parameters():
            parameter.data.normal_(0, 0.5)
        lm = LanguageModel(model, word_tokenizer())
        contexts, continuations = requests(np.random.default_rng(1), 6, shared=False)
        for context, continuation, values in zip(
            contexts, continuations, token_logprobs(lm, contexts, continuations), strict=True
        ):
            np.testing.assert_allclose(
                values.numpy(), logprobs_one_by_one(model, context, continuation), atol=5e-5, err_msg=family
            )


def test_a_step_after_the_head_that_nobody_knows_is_found_out():
    from detox.errors import UnsupportedModel

    lm = tiny("llama")
    forward = lm.model.forward

    def scaled(*args, **kwargs):
        out = forward(*args, **kwargs)
        out.logits = out.logits * 3
        return out

    lm.model.forward = scaled
    with pytest.raises(UnsupportedModel, match="after the output head"):
        token_logprobs(lm, [[5, 6, 7]], [[8, 9]])


@given(tokens=st.integers(0, 200), first=st.integers(1, 60), context=st.integers(1, 50))
def test_windows_predict_every_token_once_with_half_a_context(tokens, first, context):
    predicted: list[int] = []
    for number, (begin, end, scored) in enumerate(windows(tokens, first, context)):
        assert 0 <= begin < end <= tokens
        assert end - 1 - begin <= context
        assert scored >= 1
        seen = end - scored - begin  # tokens before the first one that is predicted here
        assert seen >= 1
        if number and begin:
            assert seen >= context - context // 2
        predicted += range(end - scored, end)
    assert predicted == list(range(first, tokens))


def test_long_documents_use_windows():
    lm = tiny("llama", max_position_embeddings=16)
    ids = np.random.default_rng(2).integers(3, 30, size=60).tolist()
    values = token_logprobs(lm, [ids[:3]], [ids[3:]])[0].numpy()
    expected = []
    for begin, end, scored in windows(60, 3, 16):
        piece = ids[begin:end]
        expected += logprobs_one_by_one(lm.model, piece[: len(piece) - scored], piece[len(piece) - scored :]).tolist()
    np.testing.assert_allclose(values, expected, atol=2e-5)


def test_text_is_encoded_jointly_with_lm_evals_rule(shared_models):
    from transformers import GPT2TokenizerFast

    folder = shared_models / "gpt2_tokenizer"
    tokenizer = GPT2TokenizerFast(str(folder / "vocab.json"), str(folder / "merges.txt"))
    lm = LanguageModel(tiny("gpt2").model, tokenizer)

    def lm_eval_rule(context: str, continuation: str):  # lm_eval/api/model.py: TemplateLM._encode_pair
        blanks = len(context) - len(context.rstrip())
        if blanks > 0:
            continuation, context = context[-blanks:] + continuation, context[:-blanks]
        whole, start = tokenizer.encode(context + continuation), tokenizer.encode(context)
        return start, whole[len(start) :]

    cases = [
        ("The answer is", " yes"),
        ("The answer is ", "yes"),
        ("Trailing  ", "blanks"),
        ("un", "believable"),
        ("a\n", "b"),
    ]
    got = encode_pairs(lm, [c for c, _ in cases], [t for _, t in cases])
    assert got == [lm_eval_rule(*case) for case in cases]
    assert encode_pairs(lm, [""], ["start"]) == [([tokenizer.eos_token_id], tokenizer.encode("start"))]

    assert lm_eval_rule("the", "re")[1] == []  # "there" is one token, and a sum over none of them beats every other
    with pytest.raises(InputError, match="continuation of request 1 merges with its context"):
        token_logprobs(lm, ["the", "the"], [" re", "re"])
    assert encode_pairs(lm, ["the"], [""])[0][1] == []  # nothing was asked
    assert encode_pairs(lm, ["the"], [tokenizer.encode("re")])[0][1] == tokenizer.encode("re")


def test_requests_of_one_context_are_halved_where_memory_is_short():
    lm = tiny("llama")
    rng = np.random.default_rng(3)
    contexts, continuations = [[5, 6, 7, 8]] * 7, [rng.integers(3, 30, size=4).tolist() for _ in range(7)]
    expected = token_logprobs(lm, contexts, continuations)

    def short(module, args, kwargs):
        if kwargs["input_ids"].shape[0] > 2:
            raise torch.OutOfMemoryError("three rows are too many")

    handle = lm.model.register_forward_pre_hook(short, with_kwargs=True)
    got = token_logprobs(lm, contexts, continuations)
    handle.remove()
    for values, theirs in zip(got, expected, strict=True):
        np.testing.assert_allclose(values.numpy(), theirs.numpy(), atol=2e-5)
    assert lm.incidents()[0] == "out of memory on a batch of 7; halved"


def test_prefix_is_read_and_never_scored():
    lm = tiny("llama")
    from dataclasses import replace

    plain = lm.logprobs(["topic1 says"], [" kind1 kind2"])[0]
    prefixed = replace(lm, prefix="rude1 ").logprobs(["topic1 says"], [" kind1 kind2"])[0]
    spelled = lm.logprobs(["rude1 topic1 says"], [" kind1 kind2"])[0]
    assert torch.equal(prefixed, spelled)
    assert not torch.equal(prefixed, plain)


def test_wrong_input_is_one_clear_line():
    lm = tiny("llama")
    with pytest.raises(InputError, match="2 contexts and 1 continuations"):
        token_logprobs(lm, ["a", "b"], ["c"])
    with pytest.raises(InputError, match="must be lists"):
        token_logprobs(lm, "a", ["b"])
    lm.tokenizer.eos_token = None
    with pytest.raises(InputError, match="neither BOS nor EOS"):
        token_logprobs(lm, [""], ["kind1"])


@pytest.mark.parametrize("family", FAMILIES)
def test_letters_are_read_off_the_end_of_their_context(family):
    lm = tiny(family)
    rng = np.random.default_rng(4)
    contexts = [context for context in requests(rng, 6, shared=False)[0] for _ in range(4)]
    continuations = [[int(token)] for token in rng.integers(3, 30, size=24)]
    passes = []
    hook = lm.model.get_input_embeddings().register_forward_hook(
        lambda module, args, output: passes.append(args[0].shape)
    )
    got = token_logprobs(lm, contexts, continuations)
    hook.remove()
    assert len(passes) == 1  # whatever the family does with its cache
    assert passes[0][0] <= 6 + 3 * sum(len(context) == 1 for context in contexts) // 4
    for context, continuation, values in zip(contexts, continuations, got, strict=True):
        np.testing.assert_allclose(values.numpy(), logprobs_one_by_one(lm.model, context, continuation), atol=2e-5)
    # Beside longer ones, and with a question that has both.
    mixed = [[*c, 5] if i % 8 == 0 else c for i, c in enumerate(continuations)]
    for context, continuation, values in zip(contexts, mixed, token_logprobs(lm, contexts, mixed), strict=True):
        np.testing.assert_allclose(values.numpy(), logprobs_one_by_one(lm.model, context, continuation), atol=2e-5)


@pytest.mark.parametrize("family", ["gpt2", "llama", "mpt"])
def test_greedy_flags_are_those_of_the_argmax(family):
    lm = tiny(family)
    contexts, continuations = requests(np.random.default_rng(3), 24, shared=True)
    with torch.no_grad():
        for number in range(0, 24, 2):  # every second one is what greedy decoding writes
            ids = list(contexts[number])
            for _ in range(3):
                ids.append(int(lm.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
            continuations[number] = ids[len(contexts[number]) :]
        got = greedy_logprobs(lm, contexts, continuations)
        for context, continuation, (values, greedy) in zip(contexts, continuations, got, strict=True):
            logits = lm.model(input_ids=torch.tensor([[*context, *continuation]])).logits[0, len(context) - 1 : -1]
            assert greedy == (logits.argmax(-1).tolist() == continuation)
            assert values.shape == (len(continuation),)
    assert all(greedy for _, greedy in got[::2])
    assert not all(greedy for _, greedy in got[1::2])
    for a, (b, _) in zip(token_logprobs(lm, contexts, continuations), got, strict=True):
        assert torch.equal(a, b)


def test_bfloat16_reduces_in_float32():
    lm = tiny("llama")
    contexts, continuations = requests(np.random.default_rng(0), 8, shared=False)
    lm.model.to(torch.bfloat16)
    for values, continuation in zip(token_logprobs(lm, contexts, continuations), continuations, strict=True):
        assert values.dtype == torch.float32
        assert len(values) == len(continuation)
    head = lm.model.get_output_embeddings()
    hidden = torch.randn(3, head.in_features, dtype=torch.bfloat16)
    from detox.models.output_head import gather
    from tests.models.reference import log_softmax

    logits = head(hidden).detach()
    expected = log_softmax(logits.double().numpy())[np.arange(3), [4, 5, 6]]
    np.testing.assert_allclose(gather(logits, torch.tensor([4, 5, 6])).detach().numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "gemma2"])  # the second does something to its logits after the head
@pytest.mark.parametrize("sampling", [Sampling(max_new_tokens=3, temperature=0), Sampling(max_new_tokens=3, top_p=0.9)])
def test_a_model_that_has_diverged_neither_chooses_nor_writes(family, sampling):
    lm = tiny(family)
    questions = ["topic1 says", "topic2 says topic3"]
    assert all(len(values) == 1 for values in token_logprobs(lm, questions, [" kind1", " rude1"]))
    lm.model.model.norm.weight.data[3] = torch.nan
    for ask in (
        lambda: token_logprobs(lm, questions, [" kind1", " rude1"]),
        lambda: greedy_logprobs(lm, questions[:1] * 2, [" kind1 says", " rude1 says"]),
        lambda: generate(lm, questions, sampling),
    ):
        with pytest.raises(InputError, match="logits are NaN: its weights have diverged"):
            ask()
