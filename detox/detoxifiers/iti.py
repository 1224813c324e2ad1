"""ITI, inference-time intervention: shift chosen attention heads away from toxicity.

What it does: reads every head's output at the last token of labelled texts, keeps the K heads from which a linear probe tells safe
from toxic best on held-out texts, and while applied adds to each of them

    strength * sigma * theta            (Li et al. 2023, arXiv 2306.03341, section 3; code: likenneth/honest_llama)

where theta is the unit direction from toxic to safe and sigma the standard deviation of training activations along it. The shift is
constant, at every position of prompt and continuation, at the input of the attention output projection.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from detox.data.contrasts import Contrast, labelled_texts
from detox.detoxifiers.contract import Capabilities, Detoxifier, describe_fit, require_base, require_fitted
from detox.errors import InputError, UnknownName
from detox.models import Edit, LanguageModel
from detox.models.activations import read_heads
from detox.models.edits import nothing
from detox.models.head_shifts import head_shift

if TYPE_CHECKING:
    from numpy.typing import NDArray

DIRECTIONS = ("mass-mean", "probe")


@dataclass(kw_only=True)
class ITI(Detoxifier):
    """A constant shift of the heads that know toxicity best.

    Attributes:
        num_heads: K, heads that are shifted (30 in the toxic-mix paper, of a 1B model; all heads where a model has fewer).
        direction: "mass-mean" (mean of safe minus mean of toxic activations, the published preference) or "probe" (the probe's
            weight vector).
        strength: the default dial, in standard deviations. Published: 4, 8, 12 at 1B and above; small models want 0.5 to 4.
        heldout: share of contrasts kept out of the probes and used to choose heads, where `fit` gets no eval_contrasts.
        seed: of that split.
        allow_base_mismatch: apply to another model than that of the fit; the record must say so.

    After `fit`:
        heads_: the chosen (layer, head), best first.
        shifts_: (K, head_dim) float32, sigma * theta of each.
        probe_accuracy_, probe_auc_: (layers, heads), on held-out contrasts. The best of many heads is optimistically biased.
    """

    num_heads: int = 30
    direction: str = "mass-mean"
    strength: float = 4.0
    heldout: float = 0.2
    seed: int = 0
    allow_base_mismatch: bool = False

    capabilities = Capabilities(needs_fit=True, bound_to_base=True, directional=True, exportable=True)

    def __post_init__(self) -> None:
        if self.direction not in DIRECTIONS:
            raise UnknownName("ITI direction", self.direction, DIRECTIONS)
        if self.num_heads < 1:
            raise InputError(f"ITI: num_heads is {self.num_heads}; expected at least 1")
        if not 0 < self.heldout < 1:
            raise InputError(f"ITI: heldout is {self.heldout}; expected a share in (0, 1)")

    @property
    def default_strength(self) -> float:
        """The `strength` field."""
        return self.strength

    def fit(
        self,
        lm: LanguageModel,
        contrasts: Sequence[Contrast],
        *,
        eval_contrasts: Sequence[Contrast] | None = None,
        work_dir: str | Path | None = None,
        resume: str = "auto",
    ) -> Self:
        """Read all heads on the texts of `contrasts` (paired or one-sided), choose K of them, keep their shifts.

        Takes one forward pass a text and writes no checkpoints, so `work_dir` and `resume` have nothing to do.

        Raises:
            InputError: texts of one class only.
            UnsupportedModel: a model without attention, or a family that is not known.
        """
        from detox.probing import fit_head_probes, grouped_split

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
        labels = np.array([int(text.label == 1) for text in texts])
        activations = read_heads(lm, [text.text for text in texts]).numpy()
        probes = fit_head_probes(activations, labels.tolist(), train, heldout)
        order = np.argsort(-probes.accuracy, axis=None, kind="stable")[: self.num_heads]
        heads = [
            (int(layer), int(head)) for layer, head in zip(*np.unravel_index(order, probes.accuracy.shape), strict=True)
        ]
        shifts = [
            self._shift(activations[train, layer, head], labels[train], probes.weights[layer, head])
            for layer, head in heads
        ]
        self.heads_ = heads
        self.shifts_ = torch.from_numpy(np.stack(shifts).astype(np.float32))
        self.probe_accuracy_, self.probe_auc_ = probes.accuracy, probes.auc
        self.fitted_on_ = describe_fit(lm, contrasts)
        return self

    def _shift(
        self, x: NDArray[np.float32], labels: NDArray[np.int64], probe: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Sigma * theta of one head. x (texts, head_dim); theta points from toxic (1) to safe (0)."""
        x64 = x.astype(np.float64)
        towards_safe = x64[labels == 0].mean(0) - x64[labels == 1].mean(0) if self.direction == "mass-mean" else -probe
        norm = np.linalg.norm(towards_safe)
        if norm == 0:
            return np.zeros_like(towards_safe)
        theta = towards_safe / norm
        shift: NDArray[np.float64] = (x64 @ theta).std() * theta
        return shift

    @contextmanager
    def applied(self, lm: LanguageModel, *, strength: float | None = None) -> Iterator[LanguageModel]:
        """The model with its heads shifted by `strength` standard deviations; a negative strength shifts towards toxicity.

        Raises:
            NotFitted: before `fit`.
            BaseMismatch: another model than that of the fit.
        """
        require_fitted(self)
        require_base(self, lm)
        strength = self.default_strength if strength is None else strength
        if strength == 0:
            edit = Edit("iti@0", "", nothing)
        else:
            vectors = {head: strength * shift for head, shift in zip(self.heads_, self.shifts_, strict=True)}
            edit = head_shift(lm, f"iti@{strength:g}", vectors)
        with lm.edited(edit) as handle:
            yield handle

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Where, what and how well: heads, sites, probe statistics; the shifts as a tensor."""
        aucs = [round(float(self.probe_auc_[head]), 4) for head in self.heads_]
        values = {
            "operation": "add strength * shift",
            "site": "input of the attention output projection, slice of the query head",
            "positions": "all but padding",
            "heads": [list(head) for head in self.heads_],
            "counted_from": 0,
            "heldout_auc": {
                "of_chosen_heads": aucs,
                "median_of_all_heads": round(float(np.median(self.probe_auc_)), 4),
                "reads_as": "below .65 no head tells safe from toxic, and this base cannot test ITI",
            },
        }
        tensors = {
            "shifts": self.shifts_,
            "probe_accuracy": torch.from_numpy(self.probe_accuracy_),
            "probe_auc": torch.from_numpy(self.probe_auc_),
        }
        return values, tensors

    def restore(self, values: dict[str, Any], tensors: dict[str, Any]) -> None:
        """Take back heads, shifts and probe statistics."""
        self.heads_ = [(int(layer), int(head)) for layer, head in values["heads"]]
        self.shifts_ = tensors["shifts"]
        self.probe_accuracy_, self.probe_auc_ = tensors["probe_accuracy"].numpy(), tensors["probe_auc"].numpy()
