"""ITI, inference-time intervention: shift chosen attention heads away from toxicity.

What it does: reads every head's output at the last token of labelled texts, keeps the K heads from which a linear probe tells safe
from toxic best on held-out texts, and while applied adds to each of them

    strength * sigma * theta            (Li et al. 2023, arXiv 2306.03341, section 3; code: likenneth/honest_llama)

where theta is the unit direction from toxic to safe and sigma the standard deviation of training activations along it. The shift is
constant, at the input of the attention output projection.

What (`direction`), where (`selection`, `positions`) and how much (`strength`, `kl_budget`, `gate`) are three choices; a fit with one
`direction` and `selection` gives every strength.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch

from detox.data.contrasts import Contrast, labelled_texts
from detox.detoxifiers.contract import Capabilities, Detoxifier, describe_fit, require_base, require_fitted
from detox.detoxifiers.head_directions import (
    CONTROLS,
    DIRECTIONS,
    SELECTIONS,
    random_unit,
    selected_heads,
    shuffled_labels,
    towards_safe,
)
from detox.detoxifiers.kl_budget import strength_that_spends
from detox.detoxifiers.prompt_gate import FittedGate, fit_gate
from detox.errors import BaseMismatch, InputError, require_known
from detox.models import Edit, LanguageModel
from detox.models.activations import read_heads
from detox.models.announcements import POSITIONS
from detox.models.edits import nothing
from detox.models.head_shifts import head_shift

if TYPE_CHECKING:
    from numpy.typing import NDArray
_SAID = {
    "all": "all but padding",
    "generation": "from the last token of the prompt on",
    "last": "the last token of the prompt alone",
}


@dataclass(kw_only=True)
class ITI(Detoxifier):
    """A constant shift of the heads that know toxicity best.

    Attributes:
        num_heads: K, heads that are shifted (30 in the toxic-mix paper, of a 1B model; all heads where a model has fewer).
        direction: "mass-mean" (mean of safe minus mean of toxic activations, the published preference), "probe" (the probe's
            weight vector) or "pca" (first principal component of the differences within contrasts).
        selection: "top" (the best `num_heads`), "threshold" (all of a held-out accuracy of at least `threshold`) or "all".
        threshold: see `selection`.
        positions: "all" tokens of prompt and continuation; "generation", from the last token of the prompt on; "last", the last
            token of the prompt alone. `detox explain-positions` prints them.
        strength: the default dial, in standard deviations. Published: 4, 8, 12 at 1B and above; small models want 0.5 to 4.
        kl_budget: nats per token; the fit finds the strength at which the mean KL divergence of the shifted model from the base
            on held-out safe texts is as large (without the gate), and the dial counts in that unit from then on: 1 spends the
            budget. None counts in standard deviations.
        gate: "none"; "probe", a linear probe of the prompt; or a scorer's name: the shift is off for prompts that it finds harmless.
        false_triggers: share of safe texts (prompt and continuation) for which the gate may open.
        control: None; or what a direction must beat: "random" (the same norm and heads), "shuffled" (labels that say nothing),
            "flipped" (the opposite sign).
        heldout: share of contrasts kept out of the probes and used to choose heads, where `fit` gets no eval_contrasts.
        seed: of that split, and of controls.
        allow_base_mismatch: apply to another model than that of the fit; the record must say so.

    After `fit`:
        heads_: the chosen (layer, head), best first.
        shifts_: (K, head_dim) float32, sigma * theta of each.
        probe_accuracy_, probe_auc_: (layers, heads), on held-out contrasts. The best of many heads is optimistically biased.
        unit_: standard deviations that a strength of 1 means; 1 without `kl_budget`.
        gate_: what the gate learned, with its rates of false and true triggers; None without one.
    """

    num_heads: int = 30
    direction: str = "mass-mean"
    strength: float = 4.0
    heldout: float = 0.2
    seed: int = 0
    allow_base_mismatch: bool = False
    selection: str = "top"
    threshold: float = 0.65
    positions: str = "all"
    kl_budget: float | None = None
    gate: str = "none"
    false_triggers: float = 0.05
    control: str | None = None

    capabilities = Capabilities(needs_fit=True, bound_to_base=True, directional=True, exportable=True)
    came_later = ("selection", "threshold", "positions", "kl_budget", "gate", "false_triggers", "control")
    controls: ClassVar[dict[str, dict[str, Any]]] = {name: {"control": name} for name in CONTROLS}

    def __post_init__(self) -> None:
        for what, value, known in (
            ("direction", self.direction, DIRECTIONS),
            ("selection", self.selection, SELECTIONS),
            ("positions", self.positions, POSITIONS),
            ("control", self.control or "random", CONTROLS),
        ):
            require_known(f"ITI {what}", value, known)
        if self.seed < 0:
            raise InputError(f"ITI: seed is {self.seed}; expected a whole number from 0")
        if self.num_heads < 1:
            raise InputError(f"ITI: num_heads is {self.num_heads}; expected at least 1")
        for name in ("heldout", "threshold", "false_triggers"):
            if not 0 < getattr(self, name) < 1:
                raise InputError(f"ITI: {name} is {getattr(self, name)}; expected a share in (0, 1)")
        if self.kl_budget is not None and not 0 < self.kl_budget < float("inf"):
            raise InputError(f"ITI: kl_budget is {self.kl_budget}; expected nats per token above 0, 0.05 say")

    @property
    def default_strength(self) -> float:
        """The `strength` field; 1, the whole budget, where there is a `kl_budget`."""
        return self.strength if self.kl_budget is None else 1.0

    def fit(
        self,
        lm: LanguageModel,
        contrasts: Sequence[Contrast],
        *,
        eval_contrasts: Sequence[Contrast] | None = None,
        work_dir: str | Path | None = None,
        resume: str = "auto",
    ) -> Self:
        """Read all heads on the texts of `contrasts` (paired or one-sided), choose some of them, keep their shifts.

        Takes one forward pass a text (and some twenty on held-out texts for a `kl_budget`) and writes no checkpoints, so
        `work_dir` and `resume` have nothing to do.

        Raises:
            InputError: texts of one class only; no head above the threshold; too few texts for a gate; a budget out of reach.
            UnsupportedModel: a model without attention, or a family that is not known.
        """
        from detox.probing import fit_head_probes, grouped_split

        self.__dict__.pop("fitted_on_", None)  # a fit that fails leaves nothing that could be applied
        texts = labelled_texts(contrasts)
        toxic = sum(text.label == 1 for text in texts)
        if toxic in (0, len(texts)):
            which = "safe" if toxic == 0 else "toxic"
            raise InputError(
                f"ITI: all {len(texts)} texts are {which}; expected contrasts with safe and toxic continuations"
            )
        if eval_contrasts:
            others = labelled_texts(eval_contrasts)
            train = np.arange(len(texts))
            heldout = np.arange(len(texts), len(texts) + len(others))
            texts = [*texts, *others]
        else:
            train, heldout = grouped_split([str(text.group) for text in texts], heldout=self.heldout, seed=self.seed)
        groups = [str(text.group) for text in texts]
        truth = np.array([int(text.label == 1) for text in texts])
        labels = shuffled_labels(truth, groups, seed=self.seed) if self.control == "shuffled" else truth
        activations = read_heads(lm, [text.text for text in texts]).numpy()
        probes = fit_head_probes(activations, labels.tolist(), train, heldout)
        heads = selected_heads(
            probes.accuracy, selection=self.selection, num_heads=self.num_heads, threshold=self.threshold
        )
        of_training = [groups[i] for i in train]
        shifts = [
            self._shift(
                activations[train, layer, head], labels[train], of_training, probes.weights[layer, head], (layer, head)
            )
            for layer, head in heads
        ]
        self.heads_ = heads
        self.shifts_ = torch.from_numpy(np.stack(shifts).astype(np.float32))
        self.probe_accuracy_, self.probe_auc_ = probes.accuracy, probes.auc
        self.unit_, self.gate_, self.sites_ = 1.0, None, tuple[str, ...]()
        if self.kl_budget is not None:
            safe = [texts[i].text for i in heldout if truth[i] == 0]
            self.unit_ = strength_that_spends(lm, self.kl_budget, lambda sigmas: self._edit(lm, sigmas), safe)
        if self.gate != "none":
            self.gate_ = fit_gate(
                lm,
                self.gate,
                [text.text for text in texts],
                truth,
                groups,
                false_triggers=self.false_triggers,
                seed=self.seed,
                prompts=[one.prompt for one in contrasts],
            )
        self.sites_ = self._edit(lm, 1.0).sites
        self.fitted_on_ = describe_fit(lm, contrasts)
        return self

    def _shift(
        self,
        x: NDArray[np.float32],
        labels: NDArray[np.int64],
        groups: Sequence[str],
        probe: NDArray[np.float64],
        place: tuple[int, int],
    ) -> NDArray[np.float64]:
        """Sigma * theta of one head. x (texts, head_dim); theta points from toxic (1) to safe (0)."""
        x64 = x.astype(np.float64)
        theta = towards_safe(x64, labels, groups, direction=self.direction, probe=probe)
        shift: NDArray[np.float64] = (x64 @ theta).std() * theta
        if self.control == "flipped":
            return -shift
        if self.control == "random":
            layer, head = place
            return np.linalg.norm(shift) * random_unit(len(shift), seed=self.seed, layer=layer, head=head)
        return shift

    def _edit(self, lm: LanguageModel, sigmas: float) -> Edit:
        vectors = {head: sigmas * shift for head, shift in zip(self.heads_, self.shifts_, strict=True)}
        gate = None if self.gate_ is None else self.gate_.on(lm)
        edit = head_shift(lm, f"iti@{sigmas:g}", vectors, positions=self.positions, gate=gate)
        fitted = getattr(self, "sites_", ())
        if fitted and edit.sites != fitted and not self.allow_base_mismatch:
            raise BaseMismatch(
                f"ITI was fitted at {fitted[0]}, and would shift {edit.sites[0]} here; load the model with the same attention_output"
            )
        return edit

    @contextmanager
    def applied(self, lm: LanguageModel, *, strength: float | None = None) -> Iterator[LanguageModel]:
        """The model with its heads shifted by `strength` standard deviations (or budgets); below 0 it shifts towards toxicity.

        Raises:
            NotFitted: before `fit`.
            BaseMismatch: another model than that of the fit.
        """
        require_fitted(self)
        require_base(self, lm)
        strength = self.default_strength if strength is None else strength
        if not math.isfinite(strength):
            raise InputError(f"ITI: strength is {strength}; expected a finite number")
        edit = Edit("iti@0", "", nothing) if strength == 0 else self._edit(lm, strength * self.unit_)
        with lm.edited(edit) as handle:
            yield handle

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Where, what and how well: heads, sites, probe statistics; the shifts as a tensor."""
        aucs = [round(float(self.probe_auc_[head]), 4) for head in self.heads_]
        values = {
            "operation": "add strength * shift",
            "site": "input of the attention output projection, slice of the query head",
            "positions": _SAID[self.positions],
            "heads": [list(head) for head in self.heads_],
            "modules": list(self.sites_),
            "counted_from": 0,
            "heldout_auc": {
                "of_chosen_heads": aucs,
                "median_of_all_heads": round(float(np.median(self.probe_auc_)), 4),
                "reads_as": "below .65 no head tells safe from toxic, and this base cannot test ITI",
            },
        }
        if self.control is not None:
            values["control"] = f"not a detoxifier but what one must beat: {CONTROLS[self.control]}"
        if self.kl_budget is not None:
            values["unit"] = {"standard_deviations": self.unit_, "nats_per_token": self.kl_budget}
        tensors = {
            "shifts": self.shifts_,
            "probe_accuracy": torch.from_numpy(self.probe_accuracy_),
            "probe_auc": torch.from_numpy(self.probe_auc_),
        }
        if self.gate_ is not None:
            values["gate"] = {
                **{k: v for k, v in vars(self.gate_).items() if k != "weights"},
                "judged": list(self.gate_.judged),
            }
            tensors["gate_weights"] = self.gate_.weights
        return values, tensors

    def restore(self, values: dict[str, Any], tensors: dict[str, Any]) -> None:
        """Take back heads, shifts and probe statistics."""
        self.heads_ = [(int(layer), int(head)) for layer, head in values["heads"]]
        self.shifts_ = tensors["shifts"]
        self.probe_accuracy_, self.probe_auc_ = tensors["probe_accuracy"].numpy(), tensors["probe_auc"].numpy()
        self.sites_ = tuple(values.get("modules", ()))
        self.unit_ = float(values["unit"]["standard_deviations"]) if "unit" in values else 1.0
        self.gate_ = None
        if "gate" in values:
            gate = {**values["gate"], "judged": tuple(values["gate"]["judged"])}
            self.gate_ = FittedGate(weights=tensors["gate_weights"], **gate)
