"""What a weight method learned: kept in PEFT's own format, put on a model and taken off.

The functions below are methods: a weight method names them in its class (`applied = trained_weights.applied`), so that there is one of
each and no tower of classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from detox.detoxifiers.card import model_card
from detox.detoxifiers.contract import require_base, require_fitted
from detox.models import Edit, LanguageModel
from detox.models.adapters import adapter_edit
from detox.models.edits import nothing
from detox.models.replaced_weights import weights_edit


@dataclass(frozen=True)
class Learned:
    """What a training left behind.

    Attributes:
        tensors: of the adapter under PEFT's names, or full weights under the model's.
        config: the adapter's LoraConfig as JSON; None for full weights.
        record: steps, examples, how many were cut, the learning curve: JSON.
    """

    tensors: dict[str, Tensor]
    config: dict[str, Any] | None
    record: dict[str, Any]


def remember(detoxifier: Any, learned: Learned) -> None:
    """Put what was learned into the detoxifier's attributes."""
    detoxifier.tensors_, detoxifier.config_, detoxifier.record_ = learned.tensors, learned.config, learned.record


def state(self: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """See `Detoxifier.state`."""
    return {"config": self.config_, "record": self.record_}, self.tensors_


def restore(self: Any, values: dict[str, Any], tensors: dict[str, Any]) -> None:
    """See `Detoxifier.restore`."""
    self.config_, self.record_, self.tensors_ = values["config"], values["record"], tensors


def files(self: Any) -> tuple[str, dict[str, Any]]:
    """See `Detoxifier.files`: an adapter lies there as PEFT writes and reads it."""
    card = {"README.md": model_card(self)}
    if self.config_ is None:
        return "weights.safetensors", card
    base = (self.fitted_on_ or {}).get("name")
    return "adapter_model.safetensors", {
        "adapter_config.json": {**self.config_, "base_model_name_or_path": base},
        **card,
    }


@contextmanager
def applied(self: Any, lm: LanguageModel, *, strength: float | None = None) -> Iterator[LanguageModel]:
    """The model with what was learned, `strength` times; 0 is the base bit for bit, None the `strength` field.

    Raises:
        NotFitted: before `fit`.
        BaseMismatch: another model than that of the fit.
    """
    require_fitted(self)
    require_base(self, lm)
    strength = self.default_strength if strength is None else strength
    name = f"{type(self).__name__.lower()}@{strength:g}"
    if strength == 0:
        edit = Edit(name, "", nothing)
    elif self.config_ is None:
        edit = weights_edit(lm, name, self.tensors_, strength=strength)
    else:
        edit = adapter_edit(lm, name, self.config_, self.tensors_, strength=strength)
    with lm.edited(edit) as handle:
        yield handle
