"""What a point of the contract is run on, and how it says that it is broken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from detox.data.contrasts import Contrast
from detox.detoxifiers.conformance_state import equal
from detox.detoxifiers.contract import Detoxifier, hyperparameters
from detox.detoxifiers.planted import Planted
from detox.errors import ConformanceError, StaleHandle
from detox.models import LanguageModel
from detox.models.edits import uninstalled
from detox.models.running import evaluating

_TOLERANCE = 2e-4  # nats; float32
_STEPS = 2  # of rounding, in a narrower dtype


@dataclass(frozen=True)
class Case:
    """What a point is run on."""

    detoxifier: Detoxifier
    lm: LanguageModel
    contrasts: Sequence[Contrast]
    planted: Planted
    folder: Path

    def fresh(self, **settings: Any) -> Detoxifier:
        """An unfitted copy."""
        return type(self.detoxifier)(**{**hyperparameters(self.detoxifier), **settings})

    def fitted(self, contrasts: Sequence[Contrast] | None = None) -> Detoxifier:
        """A fitted copy."""
        return self.fresh().fit(self.lm, self.contrasts if contrasts is None else contrasts)

    @property
    def exact(self) -> bool:
        """Whether rounding is too fine to turn a draw, so that a text is the same in any batch: float32 and wider."""
        return bool(torch.finfo(self.lm.model.dtype).eps <= torch.finfo(torch.float32).eps)

    @cached_property
    def tolerance(self) -> float:
        """Nats by which two ways to compute one log-probability may differ.

        Float32: a constant, far above rounding and far below any mistake. A narrower dtype stores logits in steps of its epsilon
        (2**-7 in bfloat16, 2**-10 in float16) times their size, and another batch shape or mask may round a logit to the next
        step: two steps of the largest logit, one for the token's logit and one for those that it is compared with.
        """
        model = self.lm.model
        if self.exact:
            return _TOLERANCE
        rows = [self.lm.tokenizer(p, add_special_tokens=False)["input_ids"] for p in self.prompts]
        with torch.no_grad(), uninstalled(model), evaluating(model):
            logits = [model(input_ids=torch.tensor([row], device=model.device)).logits for row in rows]
        largest = max(float(one.abs().max()) for one in logits)
        return _STEPS * torch.finfo(model.dtype).eps * largest

    @property
    def prompts(self) -> list[str]:
        """Three different prompts, of different lengths where the contrasts have them."""
        texts = {c.prompt for c in self.contrasts if c.prompt} or {(*c.safe, *c.toxic)[0][:24] for c in self.contrasts}
        chosen = sorted(texts, key=lambda text: (len(text), text))[:: max(1, len(texts) // 3)][:3]
        return [chosen[0].split(" ")[0], *chosen[1:]] if len(chosen) > 1 else chosen

    def require_close(self, a: Tensor, b: Tensor, message: str) -> None:
        """Raise ConformanceError unless two vectors of nats agree to `tolerance`."""
        difference = float((a - b).abs().max()) if a.numel() else 0.0
        require(difference <= self.tolerance, f"{message} (by {difference:.2g} nats; rounding: {self.tolerance:.2g})")

    def logprobs(self, lm: LanguageModel) -> Tensor:
        """Log-probabilities of a few continuations, one vector."""
        some = list(self.contrasts[:4])
        return torch.cat(lm.logprobs([c.prompt for c in some], [(*c.safe, *c.toxic)[0] for c in some]))


def require(condition: bool, message: str) -> None:
    """Raise ConformanceError unless the condition holds."""
    if not condition:
        raise ConformanceError(message)


def require_stale(ask: Callable[[], Any], message: str) -> None:
    """Raise ConformanceError unless asking is refused as stale."""
    try:
        ask()
    except StaleHandle:
        return
    raise ConformanceError(message)


def require_same(before: dict[str, Any], after: dict[str, Any], when: str) -> None:
    """Raise ConformanceError where a snapshot is not what it was; names the part."""
    for name, value in before.items():
        require(equal(value, after[name]), f"{when}, the {name} of the base changed")
