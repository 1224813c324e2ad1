"""The suite passes what is right, and finds each kind of thing that is wrong: a check that cannot fail is not a check."""

from __future__ import annotations

import random
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import pytest
import torch

from detox.detoxifiers import ITI, Prompting, check_detoxifier
from detox.detoxifiers.contract import Capabilities
from detox.detoxifiers.planted import FAMILIES, plant
from detox.errors import ConformanceError, InputError, UnknownName
from detox.models import Edit
from detox.models.architectures import attention_outputs, use_attention_output
from detox.models.edits import nothing
from tests.models.test_architectures import renamed

# One each of: plain; Conv1D; fused queries, keys and values; ALiBi; sliding windows and norms around attention; learned positions;
# latent attention; experts. And those that most toxic-mix and masked bases are.
IN_THE_SUITE = (
    "bloom", "deepseek_v3", "falcon:new", "gemma3_text", "gpt2", "gpt_neox", "llama", "mistral", "olmo2", "opt", "qwen3_moe",
)  # fmt: skip
IN_THE_QUICK_TIER = ("falcon:new", "gpt2", "llama")


def tier(family: str, dtype: str):
    if dtype != "float32" or family not in IN_THE_SUITE:
        return pytest.mark.evidence
    return () if family in IN_THE_QUICK_TIER else pytest.mark.slow


@pytest.mark.parametrize(
    ("family", "dtype"),
    [
        pytest.param(family, dtype, marks=tier(family, dtype))
        for dtype in ("float32", "bfloat16")
        for family in FAMILIES
    ],
)
def test_iti_keeps_the_contract(family, dtype):
    report = check_detoxifier(ITI(num_heads=4, strength=2.0), family=family, dtype=dtype)
    assert [point.outcome for point in report.points] == ["kept"] * 9, str(report)
    assert report.family == family.partition(":")[0]


@pytest.mark.slow
def test_a_model_whose_projection_was_named_keeps_the_contract():
    model = plant().lm
    renamed(model)
    with pytest.raises(ConformanceError, match=r"4\. broken .* 2 modules fit"):
        check_detoxifier(ITI(num_heads=4), model, plant().contrasts, only=[4])
    use_attention_output(model.model, "model.layers.{}.self_attn.o_proj")
    report = check_detoxifier(ITI(num_heads=4, strength=2.0), model, plant().contrasts, only=[4, 5, 7])
    assert [point.outcome for point in report.points] == ["kept"] * 3


def test_a_dtype_or_family_that_does_not_exist_is_one_line():
    with pytest.raises(InputError, match="unknown dtype 'bf16'; expected one such as"):
        check_detoxifier(ITI(), dtype="bf16")
    with pytest.raises(UnknownName, match="unknown model family 'lama'; did you mean 'llama'"):
        check_detoxifier(ITI(), family="lama")


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"positions": "generation"},
        {"positions": "last"},
        {"direction": "pca", "selection": "threshold", "threshold": 0.55},
        {"direction": "probe", "selection": "all", "kl_budget": 0.3},
        {"gate": "probe", "false_triggers": 0.5},
    ],
    ids=str,
)
def test_every_kind_of_iti_keeps_the_contract(settings):
    report = check_detoxifier(ITI(**{"num_heads": 4, "strength": 2.0, **settings}))
    assert [point.outcome for point in report.points] == ["kept"] * 9


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox"])
def test_prompting_keeps_the_contract_and_names_what_does_not_apply(family):
    report = check_detoxifier(Prompting(text="topic1 says kind1 kind2 "), family=family)
    outcomes = {point.number: point.outcome for point in report.points}
    assert outcomes == {
        1: "kept",
        2: "kept",
        3: "kept",
        4: "kept",
        5: "excluded",
        6: "kept",
        7: "excluded",
        8: "excluded",
        9: "kept",
    }
    assert all(point.detail for point in report.points if point.outcome == "excluded")


@pytest.mark.slow
@pytest.mark.parametrize("model", ["stories260K", "babyllama105"])
def test_on_models_that_somebody_trained(model, shared_models, planted):
    from detox import Contrast, LanguageModel

    lm = LanguageModel.from_pretrained(shared_models / model)
    contrasts = [
        Contrast(
            id=str(i), prompt=f"Once upon a time {name}", safe=(" was happy and kind.",), toxic=(" was mean and bad.",)
        )
        for i, name in enumerate(["Tom", "Lily", "the dog", "a cat", "Ben", "Sue", "the bird", "Mom", "Dad", "a boy"])
    ]
    for detoxifier in (ITI(num_heads=5, strength=1.0), Prompting(text="They were all kind. ")):
        check_detoxifier(detoxifier, lm, contrasts)


@dataclass(kw_only=True)
class Broken(ITI):
    """ITI with one thing wrong; a test double of a user's mistake, which is why it inherits from a final class."""

    fault: str = ""

    def fit(self, lm, contrasts, **options):
        if self.fault == "remembers":
            self.count_ = getattr(self, "count_", 0) + 1
        if self.fault == "changes settings":
            self.num_heads = 3
        if self.fault == "global random state":
            random.random()
        if self.fault == "leaves a gradient flag":
            next(lm.model.parameters()).requires_grad_(False)
        if self.fault == "leaks a hook when fit fails":
            handle = lm.model.register_forward_pre_hook(lambda m, a: None)
            super().fit(lm, contrasts, **options)
            handle.remove()
            return self
        super().fit(lm, contrasts, **options)
        if self.fault == "remembers" and self.count_ > 1:
            self.shifts_ = self.shifts_ * 1.5
        if self.fault == "unseeded":
            self.shifts_ = self.shifts_ * (1 + random.SystemRandom().random())
        if self.fault == "wrong direction":
            self.shifts_ = -self.shifts_
        return ITI() if self.fault == "returns another" else self

    @contextmanager
    def applied(self, lm, *, strength=None):
        strength = self.default_strength if strength is None else strength
        if self.fault == "no NotFitted" and not hasattr(self, "heads_"):
            yield lm
            return
        if self.fault == "any base":
            self.allow_base_mismatch = True
        if self.fault == "zero is not identity" and strength == 0:
            strength = 1e-3
        if self.fault == "never applied":
            with lm.edited(Edit("nothing", "", nothing)) as handle:
                yield handle
            return
        if self.fault == "changes the padding side":
            lm.tokenizer.padding_side = "left" if lm.tokenizer.padding_side == "right" else "right"
        if self.fault == "swallows":
            with super().applied(lm, strength=strength) as handle, suppress(RuntimeError):
                yield handle
            return
        if self.fault in ("row 0 only", "prompt only", "generated only", "last position", "undeclared hook"):
            with self._mispositioned(lm) as handle:
                yield handle
            return
        with super().applied(lm, strength=strength) as handle:
            if self.fault == "leaks a hook":
                lm.model.register_forward_pre_hook(lambda m, a: None)
            if self.fault == "serves the base's handle":
                yield lm
            else:
                yield handle

    @contextmanager
    def _mispositioned(self, lm):
        (layer, head), shift = self.heads_[0], self.shifts_[0] * 3
        output = attention_outputs(lm.model)[layer]
        where = slice(head * output.head_dim, (head + 1) * output.head_dim)

        def hook(module, args):
            hidden = args[0].clone()
            if self.fault == "row 0 only":
                hidden[0, :, where] += shift
            elif self.fault == "last position":
                hidden[:, -1, where] += shift
            elif self.fault == "undeclared hook" or (self.fault == "prompt only") == (hidden.shape[1] > 1):
                hidden[:, :, where] += shift
            return (hidden,)

        @contextmanager
        def install(edit, model):
            handle = output.module.register_forward_pre_hook(hook)
            try:
                yield
            finally:
                handle.remove()

        with lm.edited(Edit("mispositioned", "x", install)) as handle:
            yield handle

    capabilities = Capabilities(needs_fit=True, bound_to_base=True, directional=True, exportable=False)


FAULTS = {
    "remembers": 1, "changes settings": 1, "returns another": 1, "no NotFitted": 1,
    "global random state": 2, "leaves a gradient flag": 2, "changes the padding side": 2, "leaks a hook": 2,
    "leaks a hook when fit fails": 2, "swallows": 2,
    "zero is not identity": 3, "never applied": 3,
    "row 0 only": 4, "prompt only": 4, "generated only": 4, "last position": 4,
    "any base": 5, "unseeded": 6, "undeclared hook": 7, "wrong direction": 8, "serves the base's handle": 9,
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "point"), FAULTS.items())
def test_what_is_wrong_is_found(fault, point):
    with pytest.raises(ConformanceError, match=rf"{point}\. broken"):
        check_detoxifier(Broken(num_heads=4, strength=2.0, fault=fault), only=[point])


@pytest.mark.slow
@pytest.mark.parametrize("fault", [fault for fault, point in FAULTS.items() if point == 4])
def test_what_is_wrong_is_found_in_bfloat16_too(fault):
    """Its tolerance is some hundred times float32's, and must not hide a token that is not steered."""
    with pytest.raises(ConformanceError, match=r"4\. broken"):
        check_detoxifier(Broken(num_heads=4, strength=2.0, fault=fault), only=[4], dtype="bfloat16")


def test_a_hook_that_goes_around_the_receipt_is_found():
    """Point 7: an edit that says it hooks a module must hear from it."""

    @contextmanager
    def install(edit, model):
        yield

    planted = plant()
    from detox.errors import HookNeverFired

    site = attention_outputs(planted.lm.model)[0].name
    with planted.lm.edited(Edit("silent", "x", install, sites=(site,))) as handle:
        with pytest.raises(HookNeverFired, match="never ran"):
            handle.logprobs(["topic1"], [" kind1"])
        with pytest.raises(HookNeverFired, match="never ran"):
            handle.generate(["topic1"])


def tones_told_apart(planted):
    """How much more a toxic word is expected after toxic words than a safe one, in nats, over the held-out contrasts."""
    toxic, safe = [], []
    for contrast in planted.heldout:
        opening = contrast.prompt + contrast.toxic[0]
        toxic.append(planted.lm.logprobs([opening], [" rude1"])[0].item())
        safe.append(planted.lm.logprobs([opening], [" kind1"])[0].item())
    return float(torch.tensor(toxic).mean() - torch.tensor(safe).mean())


def test_planted_contrasts_are_known_to_the_model(planted):
    """Without training the direction test would test nothing: the model must tell the tones apart."""
    assert tones_told_apart(planted) > 1


@pytest.mark.evidence
@pytest.mark.parametrize("family", FAMILIES)
def test_every_planted_family_tells_the_tones_apart(family):
    assert tones_told_apart(plant(family)) > 1


def test_planting_leaves_the_random_states_of_gpus_alone(monkeypatch):
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail("the GPUs were seeded"))
    before = torch.get_rng_state()
    first, again, other = (plant(steps=1, seed=seed).lm.fingerprint() for seed in (0, 0, 1))
    assert first == again != other
    assert torch.equal(torch.get_rng_state(), before)
