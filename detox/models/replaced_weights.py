"""Weights of a model exchanged for others, and put back: the edit of a method that trains all of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from detox.errors import InputError
from detox.models.adapters import has_adapters
from detox.models.edits import Edit, nothing, state_of
from detox.models.language_model import LanguageModel


def weights_edit(lm: LanguageModel, name: str, tensors: Mapping[str, Tensor], *, strength: float) -> Edit:
    """An edit that moves weights from the model's own by `strength` times the way to `tensors`.

    Args:
        lm: on whose model it will be installed.
        name: what to call it.
        tensors: parameters by name, in the model's shapes; those that are not named stay.
        strength: 1 gives `tensors`, another number a point on the line through both; 0 is the model.

    Raises:
        InputError: a name or a shape that the model does not have.
    """
    if has_adapters(lm.model):
        raise InputError(
            f"{name}: whole weights cannot be exchanged under an adapter; apply the adapter on top, or export it first"
        )
    own = dict(lm.model.named_parameters())
    for key, tensor in tensors.items():
        if key not in own or own[key].shape != tensor.shape:
            raise InputError(
                f"{name}: weights {key} {tuple(tensor.shape)} do not fit {type(lm.model).__name__}; apply them to the family they "
                "were trained on"
            )
    if strength == 0:
        return Edit(f"{name}@0", "", nothing)
    digest = hashlib.sha256(str(float(strength)).encode())
    for key in sorted(tensors):
        raw: Any = tensors[key].detach().contiguous().cpu().reshape(-1).view(torch.uint8).numpy()
        digest.update(key.encode() + raw.tobytes())
    return Edit(name, f"weights {digest.hexdigest()}", partial(_install, tensors=dict(tensors), strength=strength))


@contextmanager
def _install(edit: Edit, model: Any, *, tensors: dict[str, Tensor], strength: float) -> Iterator[None]:
    own = {name: parameter for name, parameter in model.named_parameters() if name in tensors}
    exchanged: dict[nn.Parameter, nn.Parameter] = {}
    for name, parameter in own.items():
        trained = tensors[name].to(parameter.device, parameter.dtype)
        moved = trained.clone() if strength == 1 else torch.lerp(parameter.detach().float(), trained.float(), strength)
        exchanged[parameter] = nn.Parameter(moved.to(parameter.dtype), requires_grad=parameter.requires_grad)
    originals = dict(model.state_dict(keep_vars=True))
    view = (edit, lambda present: {name: originals.get(name, tensor) for name, tensor in present.items()})
    _exchange(model, exchanged)
    state_of(model).views.append(view)
    try:
        yield
    finally:
        state_of(model).views.remove(view)
        _exchange(model, {new: old for old, new in exchanged.items()})


def _exchange(model: nn.Module, parameters: Mapping[nn.Parameter, nn.Parameter]) -> None:
    # In every place: tied weights are one parameter in two modules.
    for module in model.modules():
        for leaf, parameter in module._parameters.items():
            if parameter is not None and parameter in parameters:
                module._parameters[leaf] = parameters[parameter]
