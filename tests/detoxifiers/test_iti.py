"""ITI against its definition, in float64 numpy: which heads, which shift."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from detox.data.contrasts import Contrast, labelled_texts
from detox.detoxifiers import ITI
from detox.errors import InputError, NotFitted, UnknownName
from detox.models.activations import read_heads
from detox.probing import grouped_split
from tests.models.test_likelihood import tiny


def hard(count: int, seed: int) -> list[Contrast]:
    """One tone word somewhere among neutral ones: a model with random weights has better and worse heads for that."""
    rng = np.random.default_rng(seed)

    def text(tone: str) -> str:
        words = [f"topic{i}" for i in rng.integers(12, size=9)]
        words[rng.integers(9)] = f"{tone}{rng.integers(8)}"
        return " " + " ".join(words)

    return [
        Contrast(id=str(i), prompt="topic1 says", safe=(text("kind"),), toxic=(text("rude"),)) for i in range(count)
    ]


def ranked(accuracy: np.ndarray, count: int) -> list[tuple[int, int]]:
    """Heads by accuracy, best first; of equals the first."""
    places = sorted(np.ndindex(accuracy.shape), key=lambda place: -accuracy[place])
    return places[:count]


def reference_shift(lm, texts, head) -> np.ndarray:
    """Sigma * theta, mass-mean (Li et al. 2023, section 3.2)."""
    x = read_heads(lm, [text.text for text in texts]).numpy().astype(np.float64)[:, head[0], head[1]]
    toxic = np.array([text.label == 1 for text in texts])
    theta = x[~toxic].mean(0) - x[toxic].mean(0)
    theta /= np.sqrt((theta**2).sum())
    along = x @ theta
    return np.sqrt(((along - along.mean()) ** 2).mean()) * theta


def test_heads_are_those_of_the_best_held_out_accuracy():
    lm, contrasts = tiny("llama"), hard(60, 0)
    iti = ITI(num_heads=5).fit(lm, contrasts)
    assert iti.probe_accuracy_.shape == (2, 4)
    assert len(np.unique(iti.probe_accuracy_)) > 3
    assert iti.heads_ == ranked(iti.probe_accuracy_, 5)
    assert ITI(num_heads=1).fit(lm, contrasts).heads_ == iti.heads_[:1]
    assert len(ITI(num_heads=99).fit(lm, contrasts).heads_) == 8  # all, where a model has fewer


def test_shifts_are_sigma_theta_of_the_training_texts(planted):
    iti = ITI(num_heads=8, heldout=0.25, seed=3).fit(planted.lm, planted.contrasts)
    texts = labelled_texts(planted.contrasts)
    train, _ = grouped_split([str(text.group) for text in texts], heldout=0.25, seed=3)
    for head, shift in zip(iti.heads_, iti.shifts_, strict=True):
        expected = reference_shift(planted.lm, [texts[i] for i in train], head)
        np.testing.assert_allclose(shift.numpy(), expected, rtol=1e-5, atol=1e-7)


def test_the_probes_direction_has_the_sign_of_the_mass_mean(planted):
    mass_mean = ITI(num_heads=8).fit(planted.lm, planted.contrasts)
    probe = ITI(num_heads=8, direction="probe").fit(planted.lm, planted.contrasts)
    assert probe.heads_ == mass_mean.heads_
    for ours, theirs, place in zip(probe.shifts_, mass_mean.shifts_, probe.heads_, strict=True):
        if mass_mean.probe_accuracy_[place] > 0.9:  # classes that a line separates
            assert torch.dot(ours, theirs) > 0, place
    assert not torch.allclose(probe.shifts_, mass_mean.shifts_)


def test_one_sided_contrasts_teach_the_same_side(planted):
    safe = [replace(c, id=f"{c.id}-s", toxic=()) for c in planted.contrasts[::2]]
    toxic = [replace(c, id=f"{c.id}-t", safe=()) for c in planted.contrasts[1::2]]
    unpaired = ITI(num_heads=8).fit(planted.lm, [*safe, *toxic])
    paired = ITI(num_heads=8).fit(planted.lm, planted.contrasts)
    assert unpaired.probe_accuracy_.max() > 0.9
    shifts = dict(zip(paired.heads_, paired.shifts_, strict=True))
    for head, shift in zip(unpaired.heads_[:3], unpaired.shifts_, strict=False):
        assert torch.dot(shift, shifts[head]) > 0
    for side, name in ((safe, "safe"), (toxic, "toxic")):
        with pytest.raises(InputError, match=f"texts are {name}"):
            ITI().fit(planted.lm, side)


def test_eval_contrasts_choose_the_heads_and_teach_nothing():
    lm, contrasts, judges = tiny("llama"), hard(60, 0), hard(25, 1)
    swapped = [replace(c, safe=c.toxic, toxic=c.safe) for c in judges]
    iti = ITI(num_heads=2).fit(lm, contrasts, eval_contrasts=judges)
    other = ITI(num_heads=2).fit(lm, contrasts, eval_contrasts=swapped)
    np.testing.assert_allclose(other.probe_accuracy_, 1 - iti.probe_accuracy_)
    np.testing.assert_allclose(other.probe_auc_, 1 - iti.probe_auc_)
    assert iti.heads_ == ranked(iti.probe_accuracy_, 2)
    assert other.heads_ == ranked(other.probe_accuracy_, 2) != iti.heads_
    texts = labelled_texts(contrasts)
    for fitted in (iti, other):  # of all contrasts: none had to be held out
        for head, shift in zip(fitted.heads_, fitted.shifts_, strict=True):
            np.testing.assert_allclose(shift.numpy(), reference_shift(lm, texts, head), rtol=1e-5, atol=1e-7)


def test_wrong_settings_are_one_clear_line():
    with pytest.raises(UnknownName, match="mass-mean"):
        ITI(direction="mass-meen")
    with pytest.raises(InputError, match="num_heads is 0"):
        ITI(num_heads=0)
    with pytest.raises(InputError, match="heldout is 1"):
        ITI(heldout=1)


def test_controls_keep_the_size_and_lose_the_meaning(planted):
    method, random, flipped, shuffled = (
        ITI(num_heads=5, control=control).fit(planted.lm, planted.contrasts)
        for control in (None, "random", "flipped", "shuffled")
    )
    assert method.heads_ == random.heads_ == flipped.heads_
    assert torch.equal(flipped.shifts_, -method.shifts_)
    np.testing.assert_allclose(random.shifts_.norm(dim=1), method.shifts_.norm(dim=1), rtol=1e-5)
    cosines = torch.nn.functional.cosine_similarity(random.shifts_, method.shifts_, dim=1)
    assert cosines.abs().max() < 0.95
    # Labels that say nothing are not learned: no head is far from one half, where the method's best is far above.
    assert method.probe_accuracy_.max() > 0.9
    assert shuffled.probe_accuracy_.mean() < 0.65
    assert "control" in shuffled.state()[0]
    assert "control" not in method.state()[0]


def test_controls_do_not_lower_the_toxic_side(planted):
    """What the controls are for: at the same size, neither a random nor the opposite direction does what the method does."""

    def margin(control):
        iti = ITI(num_heads=8, control=control).fit(planted.lm, planted.contrasts)
        with iti.applied(planted.lm, strength=2) as lm:
            return [
                float(torch.cat(lm.logprobs([c.prompt] * 2, getattr(c, side))).mean())
                for side in ("safe", "toxic")
                for c in planted.heldout
            ]

    def gap(values):
        half = len(values) // 2
        return np.mean(values[:half]) - np.mean(values[half:])

    found = {control: gap(margin(control)) for control in (None, "random", "flipped")}
    assert found["flipped"] < found["random"] < found[None]


def test_a_budget_is_what_one_unit_costs(planted):
    from detox.models.divergence import kl_to_base

    texts = labelled_texts(planted.contrasts)
    _, heldout = grouped_split([str(text.group) for text in texts], heldout=0.2, seed=0)
    safe = [texts[i].text for i in heldout if texts[i].label == 0]
    for budget in (0.02, 0.3):
        iti = ITI(num_heads=3, kl_budget=budget).fit(planted.lm, planted.contrasts)
        assert iti.default_strength == 1.0
        with iti.applied(planted.lm) as lm:
            assert float(torch.cat(kl_to_base(lm, safe)).mean()) == pytest.approx(budget, rel=0.02)
        with iti.applied(planted.lm, strength=2) as lm:
            assert float(torch.cat(kl_to_base(lm, safe)).mean()) > 1.5 * budget
    plain = ITI(num_heads=3).fit(planted.lm, planted.contrasts)
    with plain.applied(planted.lm, strength=iti.unit_) as a:
        expected = a.logprobs(["topic1 says"], [" kind1 kind2"])[0]
    with iti.applied(planted.lm) as b:
        torch.testing.assert_close(b.logprobs(["topic1 says"], [" kind1 kind2"])[0], expected)


def test_a_gate_spares_harmless_prompts_at_the_rate_it_says(planted):
    iti = ITI(num_heads=8, strength=2.0, gate="probe", false_triggers=0.1).fit(planted.lm, planted.contrasts)
    gate = iti.gate_
    assert gate.false_triggers <= 0.3  # measured on a dozen texts
    assert gate.true_triggers > 0.9
    opened = gate.on(planted.lm)
    encode = planted.lm.tokenizer
    safe = [encode(c.prompt + text)["input_ids"] for c in planted.heldout for text in c.safe]
    toxic = [encode(c.prompt + text)["input_ids"] for c in planted.heldout for text in c.toxic]
    assert opened(safe).float().mean() < 0.3
    assert opened(toxic).float().mean() > 0.9
    prompts = [c.prompt + c.safe[0] for c in planted.heldout] + [c.prompt + c.toxic[0] for c in planted.heldout]
    continuations = [" kind1 kind2"] * len(prompts)
    bare = planted.lm.logprobs(prompts, continuations)
    with iti.applied(planted.lm) as lm:
        found = lm.logprobs(prompts, continuations)
        receipt = lm.receipts()[0]
    moved = [not torch.equal(a, b) for a, b in zip(found, bare, strict=True)]
    assert moved == opened([encode(prompt)["input_ids"] for prompt in prompts]).tolist()
    assert receipt.gate == {"open": sum(moved), "shut": len(moved) - sum(moved)}


def test_a_scorer_can_be_the_gate(planted, tmp_path):
    from detox.detoxifiers import load
    from detox.detoxifiers.prompt_gate import fit_gate
    from detox.scorers import load_scorer, score_texts

    texts = ["you are a fine person", "what a lovely day", "you damn fool", "shut the hell up"] * 6
    labels = np.array([0, 0, 1, 1] * 6)
    gate = fit_gate(planted.lm, "profanity", texts, labels, [str(i) for i in range(24)], false_triggers=0.05, seed=0)
    assert gate.scorer["name"] == load_scorer("profanity").card.name
    assert (gate.false_triggers, gate.true_triggers) == (0.0, 1.0)
    scores = {s.value for s in score_texts(load_scorer("profanity"), texts)}
    assert gate.threshold in scores
    iti = ITI(num_heads=4, gate="probe", positions="generation", kl_budget=0.05, direction="pca", selection="all")
    iti.fit(planted.lm, planted.contrasts).save_pretrained(tmp_path / "iti")
    again = load(tmp_path / "iti")
    assert again.unit_ == iti.unit_
    assert vars(again.gate_).keys() == vars(iti.gate_).keys()
    assert torch.equal(again.gate_.weights, iti.gate_.weights)
    with iti.applied(planted.lm) as a:
        expected = a.logprobs([c.prompt for c in planted.heldout], [c.toxic[0] for c in planted.heldout])
    with again.applied(planted.lm) as b:
        found = b.logprobs([c.prompt for c in planted.heldout], [c.toxic[0] for c in planted.heldout])
    assert all(torch.equal(x, y) for x, y in zip(found, expected, strict=True))


def test_a_budget_out_of_reach_and_other_wrong_settings(planted):
    with pytest.raises(InputError, match="less than kl_budget 50"):
        ITI(num_heads=1, kl_budget=50.0).fit(planted.lm, planted.contrasts)
    with pytest.raises(InputError, match="too few for a gate"):
        ITI(gate="probe").fit(planted.lm, planted.contrasts[:2])
    with pytest.raises(UnknownName, match="positions 'genration'; did you mean 'generation'"):
        ITI(positions="genration")
    with pytest.raises(UnknownName, match="control 'shufled'"):
        ITI(control="shufled")
    with pytest.raises(InputError, match="kl_budget is 0"):
        ITI(kl_budget=0.0)
    with pytest.raises(InputError, match=r"threshold is 1\.5"):
        ITI(threshold=1.5)
    with pytest.raises(UnknownName, match="'profanty'; did you mean 'profanity'"):
        ITI(gate="profanty").fit(planted.lm, planted.contrasts)


def test_a_fit_on_one_module_is_not_applied_to_another(planted):
    """The same weights, another projection named: the shift would go elsewhere, and nobody would see it."""
    import copy

    from detox import LanguageModel
    from detox.errors import BaseMismatch
    from detox.models.architectures import use_attention_output

    lm = LanguageModel(copy.deepcopy(planted.lm.model), planted.lm.tokenizer)
    for layer in lm.model.model.layers:
        layer.self_attn.other = torch.nn.Linear(48, 32, bias=False)
    iti = ITI(num_heads=4).fit(lm, planted.contrasts)
    with iti.applied(lm) as safe:
        there = safe.fingerprint()
    use_attention_output(lm.model, "model.layers.{}.self_attn.other")
    with pytest.raises(BaseMismatch, match=r"fitted at model.layers.\d.self_attn.o_proj, and would shift .*other here"):
        iti.applied(lm).__enter__()
    iti.allow_base_mismatch = True
    with iti.applied(lm) as elsewhere:
        assert elsewhere.fingerprint() != there


def test_a_fit_that_fails_leaves_nothing_to_apply(planted):
    iti = ITI(num_heads=2).fit(planted.lm, planted.contrasts)
    iti.kl_budget = 50.0
    with pytest.raises(InputError, match="less than kl_budget"):
        iti.fit(planted.lm, planted.contrasts)
    with pytest.raises(NotFitted):
        iti.applied(planted.lm).__enter__()


def test_a_budget_knows_what_lies_beneath_and_reaches_below_one_sigma(planted):
    from detox.models.divergence import kl_to_base

    beneath = ITI(num_heads=8, strength=8.0).fit(planted.lm, planted.contrasts)
    with (
        beneath.applied(planted.lm) as lm,
        pytest.raises(InputError, match=r"beneath costs .* already, and kl_budget is 0.001"),
    ):
        ITI(num_heads=2, kl_budget=0.001).fit(lm, planted.contrasts)
    iti = ITI(num_heads=8, kl_budget=1e-5).fit(planted.lm, planted.contrasts)
    assert iti.unit_ < 0.2
    texts = labelled_texts(planted.contrasts)
    _, heldout = grouped_split([str(text.group) for text in texts], heldout=0.2, seed=0)
    with iti.applied(planted.lm) as lm:
        spent = torch.cat(kl_to_base(lm, [texts[i].text for i in heldout if texts[i].label == 0])).double().mean()
    assert float(spent) == pytest.approx(1e-5, rel=0.05)


def test_a_gate_on_another_edit_is_fitted_as_it_is_asked(planted):
    """It is asked while no edit is installed, so that it must not learn with one."""
    alone = ITI(num_heads=2, gate="probe").fit(planted.lm, planted.contrasts)
    with ITI(num_heads=8, strength=8.0).fit(planted.lm, planted.contrasts).applied(planted.lm) as lm:
        nested = ITI(num_heads=2, gate="probe").fit(lm, planted.contrasts)
    assert torch.equal(nested.gate_.weights, alone.gate_.weights)
    assert nested.gate_.threshold == alone.gate_.threshold
    assert 0 <= alone.gate_.prompts_opened <= 1
