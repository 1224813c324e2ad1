"""A constant added to the input of a linear module is a constant added to its output: W (x + d) + b = W x + (b + W d).

So a shift that acts at every position has an exact place in a plain checkpoint, the bias, wherever the family has one.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from detox.errors import NotExportable

ALTERNATIVES = (
    "keep the handle (`save_pretrained`, then `with detox.load(...).applied(lm)`), or use a base of a family with a bias there: "
    "docs/export.md"
)


@dataclass(frozen=True)
class Slots:
    """Where the biases of a model have a place.

    Attributes:
        config: a configuration from which the model's class builds a bias in every module asked for.
        flag: the configuration entry that opens them, or None where they are there already.
        opened: names of all parameters that the flag adds; those that are not folded into stay zero.
    """

    config: Any
    flag: str | None
    opened: tuple[str, ...]


def folded_bias(module: Any, shift: Tensor) -> Tensor:
    """The bias with which `module` does to x what it did to x + shift.

    Computed in float64, given in the dtype and on the device of the module's weight.

    Args:
        module: nn.Linear, or transformers' Conv1D, whose weight is (in, out).
        shift: (in_features,).

    Raises:
        NotExportable: a module that is neither, or whose weight is quantized.
    """
    weight = weight_of(module)
    added = weight.detach().cpu().double() @ shift.detach().cpu().double()
    if module.bias is not None:
        added = added + module.bias.detach().cpu().double()
    kept: Tensor = module.weight
    return added.to(kept.device, kept.dtype)


def weight_of(module: Any) -> Tensor:
    """The (out, in) matrix of a linear module.

    Raises:
        NotExportable: no linear module with a plain weight.
    """
    from transformers.pytorch_utils import Conv1D

    weight = getattr(module, "weight", None)
    if not isinstance(module, nn.Linear | Conv1D) or weight is None or not weight.is_floating_point():
        raise NotExportable(
            f"{type(module).__name__} is no plain linear module (quantized?), so nothing can be folded into its bias; load the "
            f"model without quantization, or {ALTERNATIVES}"
        )
    matrix: Tensor = weight.T if isinstance(module, Conv1D) else weight
    return matrix


def skeleton(cls: type[Any], config: Any) -> Any:
    """A model of `cls` without weights, on the meta device: what its checkpoint will hold. Draws no random numbers."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        return cls(copy.deepcopy(config))


def bias_slots(model: Any, sites: Mapping[str, Any] | list[str]) -> Slots | None:
    """Find the configuration under which every module of `sites` has a bias, or None.

    The model's class is instantiated with each candidate: every configuration of transformers takes `attention_bias=True` and says
    nothing, and many classes never read it. A candidate is good if the class adds biases, drops nothing, and adds nothing else.

    Args:
        model: a plain transformers model, without adapters.
        sites: names of linear modules.
    """
    if all(getattr(model.get_submodule(site), "bias", None) is not None for site in sites):
        return Slots(copy.deepcopy(model.config), None, ())
    own = {name: parameter.shape for name, parameter in model.named_parameters(remove_duplicate=False)}
    found = []
    for flag, value in _candidates(model.config):
        config = copy.deepcopy(model.config)
        setattr(config, flag, value)
        try:
            changed = skeleton(type(model), config)
        except (TypeError, ValueError):  # a combination that the class itself refuses
            continue
        there = {name: parameter.shape for name, parameter in changed.named_parameters(remove_duplicate=False)}
        opened = tuple(sorted(there.keys() - own.keys()))
        kept = all(there.get(name) == shape for name, shape in own.items())
        if kept and {f"{site}.bias" for site in sites} <= there.keys() and all(n.endswith(".bias") for n in opened):
            found.append(Slots(config, flag, opened))
    return min(found, key=lambda slots: (len(slots.opened), slots.flag), default=None)


def _candidates(config: Any) -> list[tuple[str, bool]]:
    # MPT says no_bias, Falcon bias, StarCoder2 use_bias, OPT enable_bias: each is tried, none is believed.
    known = {name: value for name, value in config.to_dict().items() if isinstance(value, bool) and "bias" in name}
    flipped = {name: not value for name, value in known.items()}
    return sorted({"attention_bias": True, **flipped}.items())


def open_slots(model: Any, slots: Slots, shifts: Mapping[str, Tensor]) -> None:
    """Give `model`, which must be the caller's own, the configuration of `slots` and biases that hold the shifts."""
    with torch.no_grad():
        for name in slots.opened:
            module = model.get_submodule(name.rpartition(".")[0])
            matrix = weight_of(module)
            module.bias = nn.Parameter(matrix.new_zeros(matrix.shape[0]), requires_grad=False)
        for site, shift in shifts.items():
            module = model.get_submodule(site)
            # A parameter of its own: the one that is there is the original model's, too.
            module.bias = nn.Parameter(folded_bias(module, shift), requires_grad=False)
    model.config = slots.config
