from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from detox.detoxifiers.planted import FAMILIES
from detox.errors import HookNeverFired, InputError, OutputError, UnsupportedModel
from detox.models import LanguageModel, reading
from detox.models.activations import read_heads
from detox.models.architectures import attention_outputs
from detox.models.head_shifts import head_shift
from detox.models.states import residual_states
from tests.models.test_likelihood import tiny

TEXTS = ["topic1 says kind1", "topic2", "topic3 topic4 says rude1 rude2 rude3", "topic5 says kind2"]


@pytest.mark.parametrize("family", FAMILIES)
def test_heads_are_read_at_the_last_token_whatever_the_batch(family):
    lm = tiny(family)
    whole = read_heads(lm, TEXTS)
    outputs = attention_outputs(lm.model)
    assert whole.shape == (4, 2, 4, outputs[0].head_dim)
    for index, text in enumerate(TEXTS):
        seen: dict[str, torch.Tensor] = {}
        handles = [
            o.module.register_forward_pre_hook(lambda m, a, n=o.name, seen=seen: seen.__setitem__(n, a[0]))
            for o in outputs
        ]
        ids = torch.tensor([lm.tokenizer(text)["input_ids"]])
        with torch.no_grad():
            lm.model(input_ids=ids, attention_mask=torch.ones_like(ids))
        for handle in handles:
            handle.remove()
        expected = torch.stack([seen[o.name][0, -1].unflatten(-1, (o.heads, o.head_dim)) for o in outputs])
        np.testing.assert_allclose(whole[index].numpy(), expected.numpy(), atol=2e-6)


def random_texts(count: int) -> list[str]:
    rng = np.random.default_rng(0)
    return [" ".join(f"kind{rng.integers(1, 5)}" for _ in range(rng.integers(1, 25))) for _ in range(count)]


def hooks_on(lm: LanguageModel) -> int:
    return sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in lm.model.modules())


def count_calls(lm: LanguageModel, read) -> dict[str, int]:
    """How often each module was called, by name."""
    calls = {name: 0 for name, _ in lm.model.named_modules()}

    def called(name: str) -> None:
        calls[name] += 1

    handles = [m.register_forward_pre_hook(lambda m, a, n=n: called(n)) for n, m in lm.model.named_modules()]
    try:
        read()
    finally:
        for handle in handles:
            handle.remove()
    return calls


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "llama", "mistral"])
def test_the_batch_changes_nothing(family, monkeypatch):
    lm, texts = tiny(family), random_texts(23)
    alone = read_heads(lm, texts, batch_size=1).numpy()
    np.testing.assert_allclose(read_heads(lm, texts).numpy(), alone, atol=1e-5)
    np.testing.assert_allclose(read_heads(lm, texts, batch_size=5).numpy(), alone, atol=1e-5)
    monkeypatch.setitem(reading._TOKENS_AT_ONCE, "cpu", 30)
    monkeypatch.setattr(reading, "_TEXTS_ENCODED", 7)
    np.testing.assert_allclose(read_heads(lm, texts).numpy(), alone, atol=1e-5)


@given(lengths=st.lists(st.integers(1, 60), min_size=1, max_size=40), size=st.none() | st.integers(1, 50))
def test_batches_hold_every_row_once_and_no_more_tokens_than_fit(lengths, size):
    model = tiny_on_cpu()
    parts = list(reading.batches(model, [[0] * length for length in lengths], size))
    assert sorted(i for part in parts for i in part) == list(range(len(lengths)))
    for part in parts:
        if size is None:
            assert len(part) == 1 or max(lengths[i] for i in part) * len(part) <= reading._TOKENS_AT_ONCE["cpu"]
        else:
            assert len(part) <= size


def tiny_on_cpu() -> torch.nn.Module:
    model = torch.nn.Linear(1, 1)
    model.device = torch.device("cpu")
    return model


def test_chosen_layers_are_read_and_nothing_after_them_runs():
    lm = tiny("llama")
    whole = read_heads(lm, TEXTS)
    assert torch.equal(read_heads(lm, TEXTS, layers=[1, 0]), whole[:, [1, 0]])
    assert torch.equal(read_heads(lm, TEXTS, layers=[0]), whole[:, :1])
    for layers, last, never in (
        ([0], "model.layers.0.self_attn", ["model.layers.0.self_attn.o_proj", "model.layers.0.mlp", "model.layers.1"]),
        (
            None,
            "model.layers.1.self_attn",
            ["model.layers.1.self_attn.o_proj", "model.layers.1.mlp", "model.norm", "lm_head"],
        ),
    ):
        calls = count_calls(lm, lambda layers=layers: read_heads(lm, TEXTS, layers=layers, use_baukit=False))
        assert calls[last] == 1
        # A projection's input is read before it runs; the counting hook is there before ours.
        assert [calls[name] for name in never] == [int(name.endswith("o_proj")) for name in never]
    for layers, message in (
        ([2], "no layer 2: the model has 2"),
        ([-1], "no layer -1"),
        ([], "at least one"),
        ([0, 0], "each once"),
    ):
        with pytest.raises(InputError, match=message):
            read_heads(lm, TEXTS, layers=layers)


def test_an_edit_of_a_later_layer_runs_and_an_earlier_one_is_read():
    lm = tiny("llama")
    plain = read_heads(lm, TEXTS)
    with lm.edited(head_shift(lm, "later", {(1, 0): torch.ones(12)})) as safe:
        assert torch.equal(read_heads(safe, TEXTS, layers=[0]), plain[:, :1])
        assert safe.receipts()[0].sites == {"model.layers.1.self_attn.o_proj": 1}
        np.testing.assert_allclose(read_heads(safe, TEXTS)[:, 1, 0].numpy(), plain[:, 1, 0].numpy() + 1, atol=1e-6)
    with lm.edited(head_shift(lm, "earlier", {(0, 0): torch.ones(12)})) as safe:
        calls = count_calls(lm, lambda: read_heads(safe, TEXTS, layers=[0]))
        np.testing.assert_allclose(
            read_heads(safe, TEXTS, layers=[0])[:, 0, 0].numpy(), plain[:, 0, 0].numpy() + 1, atol=1e-6
        )
    assert calls["model.layers.1"] == 0  # every site of the edit has run, so the model may stop


def test_an_edit_whose_site_never_runs_is_found_out():
    lm = tiny("llama")
    edit = head_shift(lm, "shift", {(1, 0): torch.ones(12)})
    with lm.edited(edit) as safe:
        edit.receipt.sites["model.layers.9.self_attn.o_proj"] = 0
        with pytest.raises(HookNeverFired, match=r"1 of 2 hooked modules never ran \(first: model.layers.9"):
            read_heads(safe, TEXTS)


def test_the_model_is_as_before_whether_reading_ends_or_fails(monkeypatch):
    lm = tiny("llama")
    lm.model.train()
    lm.model.model.layers[0].eval()
    flags = [m.training for m in lm.model.modules()]
    before, hooks = lm.fingerprint(), hooks_on(lm)
    read_heads(lm, TEXTS, layers=[0])
    monkeypatch.setattr(lm.model.model.layers[1].mlp, "forward", lambda x: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        residual_states(lm, TEXTS)
    assert (lm.fingerprint(rehash=True), hooks_on(lm), [m.training for m in lm.model.modules()]) == (
        before,
        hooks,
        flags,
    )


def test_a_file_holds_the_result_and_appears_whole_or_not_at_all(tmp_path):
    lm = tiny("llama")
    expected = read_heads(lm, TEXTS)
    place = tmp_path / "new" / "heads.npy"
    mapped = read_heads(lm, TEXTS, out=place)
    assert torch.equal(mapped, expected)
    mapped += 1  # a copy on write: the file stays
    np.testing.assert_array_equal(np.load(place), expected.numpy())
    overwritten = read_heads(lm, TEXTS, layers=[0], out=str(place), dtype=torch.float16)
    assert overwritten.dtype == torch.float16
    assert np.load(place).dtype == np.float16
    kept = np.load(place)
    with pytest.raises(InputError, match="text 1 has no tokens"):
        read_heads(lm, ["topic1", ""], out=place)
    assert [path.name for path in place.parent.iterdir()] == ["heads.npy"]
    np.testing.assert_array_equal(np.load(place), kept)


def test_an_array_of_ones_own_is_filled():
    lm = tiny("llama")
    expected = read_heads(lm, TEXTS)
    own = np.zeros((4, 2, 4, 12), dtype=np.float64)
    read = read_heads(lm, TEXTS, out=own)
    np.testing.assert_array_equal(own, expected.numpy())
    assert read.numpy() is own or np.shares_memory(read.numpy(), own)
    for wrong in (np.zeros((4, 2, 4, 8)), np.zeros((4, 2, 4, 12), dtype=int)):
        with pytest.raises(InputError, match=r"expected \(4, 2, 4, 12\) of float16, float32 or float64"):
            read_heads(lm, TEXTS, out=wrong)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_read_in_its_own_dtype(dtype, tmp_path):
    lm = tiny("llama")
    lm.model.to(dtype)
    own = read_heads(lm, TEXTS, dtype="own")
    assert own.dtype == dtype
    assert torch.equal(read_heads(lm, TEXTS), own.float())  # float32 holds the same values
    in_file = read_heads(lm, TEXTS, dtype="own", out=tmp_path / "heads.npy")
    assert in_file.dtype == (torch.float16 if dtype == torch.float16 else torch.float32)
    assert torch.equal(in_file.float(), own.float())
    np.testing.assert_allclose(own.float().numpy(), read_heads(tiny("llama"), TEXTS).numpy(), atol=0.05)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_what_is_not_finite_is_named(batch_size, tmp_path):
    lm = tiny("llama")
    word = lm.tokenizer("rude3")["input_ids"][-1]
    with torch.no_grad():
        lm.model.get_input_embeddings().weight[word, 0] = torch.inf
    with pytest.raises(
        InputError, match=r"layer 0 head 0 hold NaN or infinity \(in 1 of 4 texts; there first in text 2\)"
    ):
        read_heads(lm, TEXTS, batch_size=batch_size, out=tmp_path / "heads.npy")
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match=r"what enters the first layer hold NaN .* text 2"):
        residual_states(lm, TEXTS, batch_size=batch_size)
    lm = tiny("llama")
    values = lm.model.model.layers[1].self_attn.v_proj
    groups = values.weight.shape[0] // 12
    with torch.no_grad():
        values.weight[-12:] = torch.nan  # the last key-value head, which the last query heads share
    first = 4 - 4 // groups
    with pytest.raises(InputError, match=rf"layer 1 head {first} hold .*in 4 of 4 texts; there first in text 0"):
        read_heads(lm, TEXTS, batch_size=batch_size)


def test_a_result_that_is_too_narrow_is_found_out():
    lm = tiny("llama")
    with torch.no_grad():
        lm.model.model.layers[0].self_attn.v_proj.weight.mul_(1e6)
    assert read_heads(lm, TEXTS).isfinite().all()
    with pytest.raises(InputError, match="the model's own float32 or the result's float16 overflowed"):
        read_heads(lm, TEXTS, dtype=torch.float16)


def test_wrong_options_are_one_clear_line(tmp_path):
    lm = tiny("llama")
    (tmp_path / "file").write_text("")
    for options, error, message in (
        ({"dtype": "int8"}, InputError, "cannot be read as 'int8'"),
        ({"dtype": "full"}, InputError, 'expected "own" or one such as float32'),
        ({"out": tmp_path / "heads.bin"}, InputError, "expected a path that ends in .npy"),
        ({"out": tmp_path / "file" / "heads.npy"}, OutputError, "cannot write .*heads.npy"),
        ({"batch_size": 0}, InputError, "batch_size is 0"),
    ):
        with pytest.raises(error, match=message):
            read_heads(lm, TEXTS, **options)


def test_layers_that_share_a_projection_are_refused():
    lm = tiny("llama")
    lm.model.model.layers[1].self_attn.o_proj = lm.model.model.layers[0].self_attn.o_proj
    with pytest.raises(UnsupportedModel, match=r"is the same module as model\.layers\.0.self_attn.o_proj"):
        read_heads(lm, TEXTS)


def test_a_surrogate_is_named_by_the_number_of_its_text(monkeypatch):
    monkeypatch.setattr(reading, "_TEXTS_ENCODED", 2)
    with pytest.raises(InputError, match="text 4 holds a lone surrogate"):
        read_heads(tiny("llama"), [*TEXTS, "\ud800"])


def test_baukit_reads_the_same():
    pytest.importorskip("baukit")
    lm = tiny("llama")
    assert torch.equal(read_heads(lm, TEXTS, use_baukit=True), read_heads(lm, TEXTS, use_baukit=False))


def test_baukit_stops_where_our_own_hooks_do():
    pytest.importorskip("baukit")
    lm = tiny("llama")
    for layers in ([0], [1, 0]):
        ran = count_calls(lm, lambda layers=layers: read_heads(lm, TEXTS, layers=layers, use_baukit=True))
        assert ran["model.layers.1.self_attn"] == (1 in layers)
        assert ran["model.norm"] == 0
        assert torch.equal(
            read_heads(lm, TEXTS, layers=layers, use_baukit=True),
            read_heads(lm, TEXTS, layers=layers, use_baukit=False),
        )
    with lm.edited(head_shift(lm, "shift", {(1, 0): torch.ones(12)})) as safe:
        read_heads(safe, TEXTS, layers=[0], use_baukit=True)
        assert safe.receipts()[0].sites == {"model.layers.1.self_attn.o_proj": 1}
    assert hooks_on(lm) == 0


def test_asking_for_an_absent_baukit_says_so(monkeypatch):
    import detox.models.activations as activations

    monkeypatch.setattr(activations, "TraceDict", None)
    with pytest.raises(InputError, match="baukit is not installed"):
        read_heads(tiny("llama"), TEXTS, use_baukit=True)
    assert read_heads(tiny("llama"), TEXTS).shape[0] == 4


def test_a_model_without_attention_is_refused():
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model("mamba", vocab_size=32, hidden_size=16, num_hidden_layers=1, state_size=4)
    lm = LanguageModel(AutoModelForCausalLM.from_config(config), tiny("llama").tokenizer)
    with pytest.raises(UnsupportedModel, match=r"'mamba'.*no attention.*known: .*gpt2"):
        read_heads(lm, TEXTS)


def test_head_width_is_the_projections_own():
    for family in FAMILIES:
        lm = tiny(family)
        for output in attention_outputs(lm.model):
            width = (
                output.module.in_features if hasattr(output.module, "in_features") else output.module.weight.shape[0]
            )
            assert output.heads * output.head_dim == width
    assert attention_outputs(tiny("llama").model)[0].head_dim == 12 != 32 // 4


def test_no_texts_are_refused():
    with pytest.raises(InputError, match="no texts"):
        read_heads(tiny("llama"), [])
