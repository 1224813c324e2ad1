from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from detox.detoxifiers.planted import FAMILIES
from detox.errors import HookNeverFired, InputError, NotAnnounced, UnknownName, UnsupportedModel
from detox.models import LanguageModel, Sampling, token_logprobs
from detox.models.architectures import attention_outputs
from detox.models.head_shifts import head_shift
from tests.models.test_likelihood import tiny

TEXTS = ["topic1 says kind1", "topic2", "topic3 topic4 says rude1 rude2 rude3", "topic5 says kind2"]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_shift_is_the_projection_of_a_constant(family):
    """Shifting a head by d at the projection's input adds W_o d to its output, at every real position."""
    lm = tiny(family)
    output = attention_outputs(lm.model)[1]
    d = torch.from_numpy(np.random.default_rng(0).normal(size=output.head_dim)).float()
    flat = torch.zeros(output.heads, output.head_dim)
    flat[2] = d
    projected = output.module(flat.flatten()) - output.module(torch.zeros(output.heads * output.head_dim))
    seen: list[torch.Tensor] = []
    handle = output.module.register_forward_hook(lambda m, a, out: seen.append(out.detach()))
    ids = torch.tensor([lm.tokenizer(TEXTS[2])["input_ids"]])
    with torch.no_grad():
        lm.model(input_ids=ids, attention_mask=torch.ones_like(ids))
        with lm.edited(head_shift(lm, "shift", {(1, 2): d})):
            lm.model(input_ids=ids, attention_mask=torch.ones_like(ids))
    handle.remove()
    difference = seen[-1] - seen[0]
    np.testing.assert_allclose(difference.numpy(), projected.detach().expand_as(difference).numpy(), atol=2e-5)


def test_every_row_of_a_batch_is_steered_and_padding_is_not():
    lm = tiny("llama")
    output = attention_outputs(lm.model)[0]
    d = torch.ones(output.head_dim)
    inputs: list[torch.Tensor] = []

    with lm.edited(head_shift(lm, "shift", {(0, 0): d})) as safe:
        handle = output.module.register_forward_pre_hook(lambda m, a: inputs.append(a[0].detach()))  # after the shift
        safe.logprobs(TEXTS, [" kind1"] * len(TEXTS))
        steered = inputs.pop()
        handle.remove()
        receipt = safe.receipts()[0]
    handle = output.module.register_forward_pre_hook(lambda m, a: inputs.append(a[0].detach()))
    lm.logprobs(TEXTS, [" kind1"] * len(TEXTS))
    handle.remove()
    moved = (steered - inputs.pop())[..., : output.head_dim].mean(-1)
    lengths = sorted((len(lm.tokenizer(t)["input_ids"]) for t in TEXTS), reverse=True)
    for row, length in zip(moved, lengths, strict=True):
        np.testing.assert_allclose(row[:length].numpy(), 1.0, atol=1e-6)
        np.testing.assert_allclose(row[length:].numpy(), 0.0, atol=1e-6)
    assert receipt.tokens["prompt"] == sum(lengths)
    assert receipt.tokens["pad"] == 4 * lengths[0] - sum(lengths)
    assert receipt.relative_size is not None
    assert receipt.relative_size > 0


def test_the_receipt_counts_prompt_and_generated_tokens():
    lm = tiny("llama")
    with lm.edited(head_shift(lm, "shift", {(1, 0): torch.ones(12)})) as safe:
        completions = safe.generate(["topic1 says", "topic2"], Sampling(max_new_tokens=6, num_return_sequences=3))
        tokens = safe.receipts()[0].tokens
    fed = sum(len(c.token_ids) for row in completions for c in row)
    longest = max(len(c.token_ids) for row in completions for c in row)
    # The last token that is drawn is never fed; the last prompt token is fed once a sample.
    fed -= sum(len(c.token_ids) == longest for row in completions for c in row)
    assert tokens["generated"] == fed
    assert tokens["prompt"] == 1 + 6
    assert tokens["unannounced"] == 0


def test_wrong_heads_are_named():
    lm = tiny("llama")
    with pytest.raises(InputError, match="no head 9 in layer 0: the model has 2 layers of 4 heads"):
        head_shift(lm, "x", {(0, 9): torch.ones(12)})
    with pytest.raises(InputError, match=r"shape \(8,\); expected \(12,\)"):
        head_shift(lm, "x", {(0, 0): torch.ones(8)})
    with pytest.raises(InputError, match="NaN"):
        head_shift(lm, "x", {(0, 0): torch.full((12,), torch.nan)})


POSITIONS = ("all", "generation", "last")
CONTINUATIONS = [(4, 9, 11, 6), (8, 5), (13, 10, 7), (21, 22, 9, 5, 6)]


def shift_of(lm, positions, size=3.0, **options):
    """Heads of both layers, by vectors that change what the model says."""
    rng = np.random.default_rng(3)
    outputs = attention_outputs(lm.model)
    vectors = {
        (o.layer, head): torch.from_numpy(rng.normal(size=o.head_dim) * size).float()
        for o in outputs
        for head in (0, 2)
    }
    return head_shift(lm, "shift", vectors, positions=positions, **options), vectors


def by_hand(lm, ids, prompt, positions, vectors):
    """Logits (length, vocab) of one text without padding or cache, shifted by a mask written down from the definition."""
    columns = torch.arange(len(ids))
    where = {"all": columns >= 0, "generation": columns >= prompt - 1, "last": columns == prompt - 1}[positions]
    handles = []
    for output in attention_outputs(lm.model):
        flat = torch.zeros(output.heads, output.head_dim)
        for (layer, head), vector in vectors.items():
            if layer == output.layer:
                flat[head] = vector
        added = where[None, :, None] * flat.flatten()
        handles.append(output.module.register_forward_pre_hook(lambda m, a, added=added: (a[0] + added, *a[1:])))
    try:
        with torch.no_grad():
            return lm.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float()
    finally:
        for handle in handles:
            handle.remove()


def prompts_of(lm):
    return [lm.tokenizer(text)["input_ids"] for text in TEXTS]


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox"])
def test_log_probabilities_are_those_of_the_definition(family, positions):
    lm = tiny(family)
    edit, vectors = shift_of(lm, positions)
    prompts = prompts_of(lm)
    # Alone, padded together; and several continuations of one context, which share its keys and values.
    contexts = [*prompts, prompts[2], prompts[2]]
    continuations = [*CONTINUATIONS, CONTINUATIONS[0], CONTINUATIONS[1]]
    with lm.edited(edit) as safe:
        found = safe.logprobs(contexts, continuations)
    for prompt, continuation, values in zip(contexts, continuations, found, strict=True):
        logits = by_hand(lm, [*prompt, *continuation[:-1]], len(prompt), positions, vectors)
        expected = logits.log_softmax(-1)[len(prompt) - 1 :].gather(1, torch.tensor(continuation)[:, None])[:, 0]
        np.testing.assert_allclose(values.numpy(), expected.numpy(), atol=2e-5)
        bare = lm.logprobs([prompt], [continuation])[0]
        assert abs(bare[0] - values[0]) > 1e-3  # the first token is steered, too


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox"])
def test_generation_is_that_of_the_definition(family, positions):
    lm = tiny(family)
    edit, vectors = shift_of(lm, positions)
    prompts = prompts_of(lm)
    with lm.edited(edit) as safe:
        found = safe.generate(prompts, Sampling(max_new_tokens=6, top_p=1e-6, num_return_sequences=2))
        receipt = safe.receipts()[0]
    for prompt, completions in zip(prompts, found, strict=True):
        ids = list(prompt)
        for _ in range(6):
            ids.append(int(by_hand(lm, ids, len(prompt), positions, vectors)[-1].argmax()))
            if ids[-1] == lm.tokenizer.eos_token_id:
                break
        assert {completion.token_ids for completion in completions} == {tuple(ids[len(prompt) :])}
    assert receipt.touched["pad"] == receipt.touched["unannounced"] == 0
    assert receipt.touched["generated"] == (0 if positions == "last" else receipt.tokens["generated"])
    assert receipt.touched["prompt"] == (receipt.tokens["prompt"] if positions == "all" else 2 * len(prompts))


@pytest.mark.parametrize("positions", ["generation", "last"])
def test_a_long_text_is_steered_in_every_window(positions):
    """A window that begins after the prompt holds nothing but generated tokens."""
    lm = tiny("llama")
    limit = lm.model.config.max_position_embeddings
    rng = np.random.default_rng(0)
    prompt, continuation = [5, 6, 7], tuple(rng.integers(4, 30, size=limit + 20).tolist())
    edit, vectors = shift_of(lm, positions)
    with lm.edited(edit) as safe:
        found = safe.logprobs([prompt], [continuation])[0]
    whole = [*prompt, *continuation]
    begin = len(whole) - 1 - limit
    first = -1 if positions == "last" else 1  # of the last window: nothing at all, or every token
    logits = by_hand(lm, whole[begin:-1], first, positions, vectors)
    last = logits.log_softmax(-1)[-20:].gather(1, torch.tensor(whole[-20:])[:, None])[:, 0]
    np.testing.assert_allclose(found[-20:].numpy(), last.numpy(), atol=2e-5)


class Choosy:
    """A gate that opens for prompts of an even number of tokens."""

    digest = "even"

    def __init__(self, lm):
        self.lm, self.asked = lm, []

    def __call__(self, prompts):
        self.lm.require_current()  # no edit is installed while it is asked
        self.asked += prompts
        return torch.tensor([len(prompt) % 2 == 0 for prompt in prompts])


@pytest.mark.parametrize("positions", ["all", "generation"])
def test_a_gate_decides_prompt_by_prompt(positions):
    lm = tiny("llama")
    gate = Choosy(lm)
    edit, _ = shift_of(lm, positions, gate=gate)
    free, _ = shift_of(lm, positions)
    prompts = prompts_of(lm)
    sampling = Sampling(max_new_tokens=5, num_return_sequences=3, temperature=1.0)
    bare = lm.generate(prompts, sampling), lm.logprobs([*prompts, prompts[2]], [*CONTINUATIONS, (4, 5)])
    with lm.edited(free) as safe:
        steered = safe.generate(prompts, sampling), safe.logprobs([*prompts, prompts[2]], [*CONTINUATIONS, (4, 5)])
    with lm.edited(edit) as safe:
        found = safe.generate(prompts, sampling), safe.logprobs([*prompts, prompts[2]], [*CONTINUATIONS, (4, 5)])
        receipt = safe.receipts()[0]
    even = [len(prompt) % 2 == 0 for prompt in prompts]
    assert any(even)
    assert not all(even)
    for index, opened in enumerate(even):
        assert found[0][index] == (steered if opened else bare)[0][index]
        torch.testing.assert_close(found[1][index], (steered if opened else bare)[1][index], atol=2e-5, rtol=0)
        assert not torch.allclose(steered[1][index], bare[1][index], atol=1e-3)
    assert receipt.gate == {"open": 2 * sum(even), "shut": 2 * (len(even) - sum(even))}
    assert len(gate.asked) == 2 * len(prompts)  # once a prompt and ruler
    assert edit.digest != free.digest


def test_a_raw_call_must_say_where_the_prompt_ends():
    lm = tiny("llama")
    ids = torch.tensor([prompts_of(lm)[0]])
    for positions in ("generation", "last"):
        with lm.edited(shift_of(lm, positions)[0]) as safe, pytest.raises(NotAnnounced, match="where the prompt ends"):
            safe.model(input_ids=ids)
    with lm.edited(shift_of(lm, "all", gate=Choosy(lm))[0]) as safe, pytest.raises(NotAnnounced, match="gated"):
        safe.model(input_ids=ids)
    with lm.edited(shift_of(lm, "all")[0]) as safe:
        safe.model(input_ids=ids)
        assert safe.receipts()[0].touched["unannounced"] == ids.numel()


def padded(prompts, side):
    longest = max(map(len, prompts))
    ids, mask = torch.zeros(2, len(prompts), longest, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        where = slice(longest - len(prompt), None) if side == "left" else slice(0, len(prompt))
        ids[row, where], mask[row, where] = torch.tensor(prompt), 1
    return ids, mask


@pytest.mark.parametrize("positions", POSITIONS)
def test_an_announced_call_is_the_ruler_on_either_side_of_padding(positions):
    lm = tiny("llama")
    prompts = prompts_of(lm)
    with lm.edited(shift_of(lm, positions)[0]) as safe, torch.no_grad():
        expected = torch.cat(safe.logprobs(prompts, [(5,)] * len(prompts)))
        for side in ("left", "right"):
            ids, mask = padded(prompts, side)
            with safe.announced(ids, mask):
                logits = safe.model(
                    input_ids=ids, attention_mask=mask, position_ids=(mask.cumsum(-1) - 1).clamp(min=0), use_cache=False
                ).logits
            last = [ids.shape[1] - 1 if side == "left" else len(prompt) - 1 for prompt in prompts]
            found = logits[torch.arange(len(prompts)), last].log_softmax(-1)[:, 5]
            torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("options", [{}, {"use_cache": False}, {"cache_implementation": "static"}], ids=str)
def test_announced_generation_steers_beams_and_rows_as_single_prompts(positions, options):
    lm = tiny("llama")
    prompts = prompts_of(lm)
    ids, mask = padded(prompts, "left")
    greedy = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 0}
    beams = {**greedy, "num_beams": 3, "num_return_sequences": 2}
    with lm.edited(shift_of(lm, positions)[0]) as safe:
        with safe.announced(ids, mask):
            together = safe.model.generate(input_ids=ids, attention_mask=mask, **beams, **options)[:, ids.shape[1] :]
        for row, prompt in enumerate(prompts):
            one = torch.tensor([prompt])
            with safe.announced(one):
                alone = safe.model.generate(
                    input_ids=one, attention_mask=torch.ones_like(one), use_cache=False, **beams
                )[:, len(prompt) :]
            width = min(alone.shape[1], together.shape[1])
            assert torch.equal(together[2 * row : 2 * row + 2, :width], alone[:, :width])
        with safe.announced(ids, mask):
            rows = safe.model.generate(input_ids=ids, attention_mask=mask, **greedy, **options)[:, ids.shape[1] :]
        ruler = [c[0].token_ids for c in safe.generate(prompts, Sampling(max_new_tokens=5, temperature=0))]
        assert [tuple(row[: len(own)]) for row, own in zip(rows.tolist(), ruler, strict=True)] == ruler


def test_what_was_announced_must_be_what_is_called():
    lm = tiny("llama")
    ids = torch.tensor([[4, 5, 6], [7, 8, 9]])
    with lm.edited(shift_of(lm, "generation")[0]) as safe:
        with (
            pytest.raises(InputError, match="announced were 2 prompts, and the model was called with 3 rows"),
            safe.announced(ids),
        ):
            safe.model(input_ids=torch.ones(3, 3, dtype=torch.long))
        with pytest.raises(InputError, match="all padding"), safe.announced(ids, torch.tensor([[1, 1, 1], [0, 0, 0]])):
            pass
        with pytest.raises(InputError, match=r"attention_mask \(1, 3\)"), safe.announced(ids, torch.ones(1, 3)):
            pass


def test_touching_nothing_is_an_error():
    """Three tokens of prompt were announced and two of them came: `last` had nothing to act on."""
    lm = tiny("llama")
    edit, _ = shift_of(lm, "last")
    ids = torch.tensor([[4, 5, 6]])
    with (
        lm.edited(edit) as safe,
        pytest.raises(HookNeverFired, match="touched no token at 'last' positions"),
        safe.announced(ids),
    ):
        safe.model(input_ids=ids[:, :2])


@pytest.mark.slow
def test_a_compiled_model_is_refused_and_a_shift_survives_compilation():
    lm = tiny("llama")
    ids = torch.tensor([prompts_of(lm)[2]])
    edit, vectors = shift_of(lm, "all")
    expected = by_hand(lm, ids[0].tolist(), ids.shape[1], "all", vectors)
    with lm.edited(edit) as safe, torch.no_grad():
        compiled = torch.compile(safe.model, backend="eager")
        for _ in range(2):
            torch.testing.assert_close(compiled(input_ids=ids).logits[0], expected, atol=2e-5, rtol=0)
        assert safe.receipts()[0].touched["unannounced"] == 2 * ids.numel()
    torch._dynamo.reset()
    with pytest.raises(UnsupportedModel, match="was compiled"):
        shift_of(LanguageModel(torch.compile(lm.model, backend="eager"), lm.tokenizer), "all")
    lm.model.compile(backend="eager")
    with pytest.raises(UnsupportedModel, match="was compiled"):
        shift_of(lm, "all")


def test_unknown_positions_are_named():
    with pytest.raises(UnknownName, match="'genration'; did you mean 'generation'"):
        shift_of(tiny("llama"), "genration")


def test_several_calls_may_be_announced_at_once():
    """Each call without a cache begins anew: its prompt is the prompt, however often it comes."""
    lm = tiny("llama")
    prompts = prompts_of(lm)
    ids, mask = padded(prompts, "left")
    options = {"max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
    with lm.edited(shift_of(lm, "generation")[0]) as safe, torch.no_grad(), safe.announced(ids, mask):
        first = safe.model.generate(input_ids=ids, attention_mask=mask, **options)
        once = dict(safe.receipts()[0].touched)
        second = safe.model.generate(input_ids=ids, attention_mask=mask, **options)
        assert torch.equal(first, second)
        assert safe.receipts()[0].touched == {kind: 2 * count for kind, count in once.items()}
        assert once["prompt"] == len(prompts)
        logits = [safe.model(input_ids=ids, attention_mask=mask).logits for _ in range(2)]
        assert torch.equal(*logits)


@pytest.mark.parametrize("opened", [True, False])
def test_readers_ask_the_gate_too(opened):
    from detox.models.states import last_states
    from detox.models.token_states import read_tokens

    class Fixed:
        digest = "fixed"

        def __call__(self, prompts):
            return torch.full((len(prompts),), opened)

    lm = tiny("llama")
    bare = last_states(lm, TEXTS), read_tokens(lm, TEXTS[2]).residual
    with lm.edited(shift_of(lm, "all")[0]) as steered:
        other = last_states(steered, TEXTS), read_tokens(steered, TEXTS[2]).residual
    with lm.edited(shift_of(lm, "all", gate=Fixed())[0]) as gated:
        found = last_states(gated, TEXTS), read_tokens(gated, TEXTS[2]).residual
    for one, expected in zip(found, other if opened else bare, strict=True):
        torch.testing.assert_close(one, expected)
    assert not torch.allclose(bare[0], other[0], atol=1e-3)


def test_a_text_without_a_prompt_is_its_own_to_a_gate():
    lm = tiny("llama")
    gate = Choosy(lm)
    edit, _ = shift_of(lm, "all", gate=gate)
    texts = ["topic1 says", "topic1 says kind1", "topic2"]  # with what begins a text: 3, 4 and 2 tokens
    bare = lm.logprobs([""] * 3, texts)
    with lm.edited(edit) as safe:
        found = safe.logprobs([""] * 3, texts)
    assert [torch.equal(a, b) for a, b in zip(found, bare, strict=True)] == [True, False, False]


def test_a_gate_can_be_told_what_it_is_asked_about():
    lm = tiny("llama")
    gate = Choosy(lm)
    contexts, continuations = [[5], [5]], [[6, 7], [6, 7]]
    bare = lm.logprobs(contexts, continuations)
    with lm.edited(shift_of(lm, "all", gate=gate)[0]) as safe:
        shut = token_logprobs(safe, contexts, continuations)
        told = token_logprobs(safe, contexts, continuations, gated_on=[[5, 6], [5, 6, 7]])
        with pytest.raises(InputError, match="as many of each"):
            token_logprobs(safe, contexts, continuations, gated_on=[[5, 6]])
    assert [torch.equal(a, b) for a, b in zip(shut, bare, strict=True)] == [True, True]
    assert [torch.equal(a, b) for a, b in zip(told, bare, strict=True)] == [False, True]


def test_a_prefix_does_not_make_texts_share_their_gate():
    lm = replace(tiny("llama"), prefix="topic1 says ")
    gate = Choosy(lm)
    texts = ["kind1", "kind1 kind2", "rude1", "rude1 rude2", "topic2 says kind1"]
    bare = lm.logprobs([""] * 5, texts)
    with lm.edited(shift_of(lm, "all", gate=gate)[0]) as safe:
        together = safe.logprobs([""] * 5, texts)
        alone = [safe.logprobs([""], [text])[0] for text in texts]
    for one, whole, plain, text in zip(alone, together, bare, texts, strict=True):
        torch.testing.assert_close(one, whole, atol=2e-5, rtol=0)
        assert torch.allclose(whole, plain, atol=1e-5) == (
            len(lm.tokenizer("topic1 says " + text)["input_ids"]) % 2 == 1
        )
