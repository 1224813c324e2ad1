"""A gate on the prompt: a detoxifier that is costly on harmless text acts where the prompt itself sounds toxic, and nowhere else."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detox.errors import InputError
from detox.models import LanguageModel
from detox.models.states import last_states
from detox.models.tokenization import encode_texts
from detox.scorers import Scorer, load_scorer, score_texts

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class FittedGate:
    """What a gate has learned.

    Attributes:
        kind: "probe", or the name of a scorer.
        threshold: the gate opens for prompts of a score above it.
        weights: (hidden,) float32 of the probe on the last layer's state at the prompt's last token; empty for a scorer.
        false_triggers: share of held-out safe texts for which it opens, measured on groups that did not set the threshold.
        true_triggers: the same of toxic texts.
        judged: (safe, toxic) texts behind these two shares.
        prompts_opened: share of the contrasts' own prompts, without a continuation, for which it opens; None where they have none. The
            two rates above are of whole texts: where this one is high, prompts are not like them.
        scorer: identity of the scorer's card; None for a probe.
    """

    kind: str
    threshold: float
    weights: Tensor
    false_triggers: float
    true_triggers: float
    judged: tuple[int, int]
    prompts_opened: float | None = None
    scorer: dict[str, Any] | None = None

    def on(self, lm: LanguageModel) -> OnModel:
        """The gate as an edit of this model wants it."""
        return OnModel(self, lm)


class OnModel:
    """A gate that asks a model, or a scorer of what the tokens say."""

    def __init__(self, fitted: FittedGate, lm: LanguageModel) -> None:
        self.fitted = fitted
        # The bare model, whatever handle the edit is put on: the gate is asked while no edit is installed.
        self.lm = LanguageModel(lm.model, lm.tokenizer)
        self._scorer = None if fitted.kind == "probe" else _scorer(fitted)

    @property
    def digest(self) -> str:
        """Hash of what decides whether it opens."""
        sha = hashlib.sha256(f"{self.fitted.kind} {self.fitted.threshold!r} {self.fitted.scorer}".encode())
        sha.update(self.fitted.weights.numpy().tobytes())
        return sha.hexdigest()

    def __call__(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """(prompts,) bool: True where the prompt's score is above the threshold. A prompt that could not be scored opens it."""
        if self._scorer is None:
            states = last_states(self.lm, [list(prompt) for prompt in prompts])
            scores = (states.double() @ self.fitted.weights.double()).numpy()
        else:
            texts = [self.lm.tokenizer.decode(list(prompt), skip_special_tokens=True) for prompt in prompts]
            scores = np.array([score.value for score in score_texts(self._scorer, texts)])
        return torch.from_numpy(~(scores <= self.fitted.threshold))


def _scorer(fitted: FittedGate) -> Scorer:
    scorer = load_scorer(fitted.kind)
    if fitted.scorer is not None and scorer.card.identity() != fitted.scorer:
        raise InputError(
            f"the gate was fitted with scorer {fitted.kind!r} of revision {fitted.scorer['revision']}, here it is "
            f"{scorer.card.revision}; fit again"
        )
    return scorer


def fit_gate(
    lm: LanguageModel,
    kind: str,
    texts: Sequence[str],
    labels: NDArray[np.int64],
    groups: Sequence[str],
    *,
    false_triggers: float,
    seed: int,
    prompts: Sequence[str] = (),
) -> FittedGate:
    """Learn the probe on half of the groups, set the threshold on a quarter, measure both rates on the last quarter.

    Args:
        lm: the base; its state at the end of each text is what a probe reads.
        kind: "probe" or the name of a scorer.
        texts: what prompts will be like, safe and toxic.
        labels: (texts,) 1 for toxic.
        groups: one a text; none straddles two parts.
        false_triggers: share of safe texts for which it may open, in (0, 1).
        seed: of the split.
        prompts: of which it is told how many open it.

    Raises:
        InputError: too few texts for three parts with both classes in each.
    """
    names = sorted(set(groups))
    order = np.random.default_rng([seed, 0x6A]).permutation(len(names))
    place = {names[g]: (0 if i < len(names) // 2 else 1 + i % 2) for i, g in enumerate(order)}
    part = np.array([place[group] for group in groups])
    for number in range(3):
        if len(set(labels[part == number])) < 2:
            raise InputError(
                f"ITI: {len(names)} groups of texts are too few for a gate, which needs safe and toxic texts in each of three parts; "
                "give more contrasts, or gate='none'"
            )
    card, weights = None, torch.zeros(0)
    if kind == "probe":
        from sklearn.linear_model import LogisticRegression

        with lm.suspended() as bare:  # as it is when the gate is asked
            states = last_states(replace(bare, prefix=lm.prefix), list(texts)).numpy().astype(np.float64)
        learn = part == 0
        mean, scale = states[learn].mean(0), states[learn].std(0)
        scale[scale == 0] = 1.0
        probe = LogisticRegression(C=0.01, max_iter=1000).fit((states[learn] - mean) / scale, labels[learn])
        weights = torch.from_numpy((probe.coef_[0] / scale).astype(np.float32))
        scores: Floats = states @ weights.double().numpy()
    else:
        scorer = load_scorer(kind)
        card = scorer.card.identity()
        scores = np.array([score.value for score in score_texts(scorer, list(texts))])
    tune, judge = part == 1, part == 2
    # Of n safe texts at most floor(share * n) lie above the threshold.
    safe = np.sort(scores[tune & (labels == 0)])
    threshold = float(safe[len(safe) - 1 - int(false_triggers * len(safe))])
    opened = ~(scores <= threshold)
    judged = judge & (labels == 0), judge & (labels == 1)
    gate = FittedGate(
        kind=kind,
        threshold=threshold,
        weights=weights,
        false_triggers=float(opened[judged[0]].mean()),
        true_triggers=float(opened[judged[1]].mean()),
        judged=(int(judged[0].sum()), int(judged[1].sum())),
        scorer=card,
    )
    unique = [prompt for prompt in dict.fromkeys(prompts) if prompt.strip()]
    if not unique:
        return gate
    with lm.suspended() as bare:
        opened_by = gate.on(bare)(encode_texts(lm.tokenizer, [lm.prefix + prompt for prompt in unique]))
    return replace(gate, prompts_opened=float(opened_by.double().mean()))
