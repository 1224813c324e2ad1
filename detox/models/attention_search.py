"""The attention output projection of a family that nobody has written down: by shapes first, then by what runs.

Inside a decoder layer's attention module, queries, keys and values may have the very shape of the output projection. What tells them
apart is that the output projection comes after attention: its input knows of earlier tokens, theirs in the first layer does not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from detox.errors import UnsupportedModel
from detox.models.edits import uninstalled
from detox.models.running import evaluating

_OTHERS = 3  # tokens before the last one in the probing pass; few enough for the smallest sliding window


def linear_widths(module: nn.Module) -> tuple[int, int] | None:
    """(inputs, outputs) of a linear map; None for any other module.

    Quantised layers keep a packed weight, whose shape says nothing, and say their widths beside it.
    """
    if isinstance(module, Conv1D):
        rows, columns = module.weight.shape  # GPT-2 keeps (in, out)
        return int(rows), int(columns)
    inputs, outputs = getattr(module, "in_features", None), getattr(module, "out_features", None)
    return (inputs, outputs) if isinstance(inputs, int) and isinstance(outputs, int) else None


def search(model: Any, *, layers: int, heads: int, hidden: int) -> str:
    """Path of the attention output projection, `{}` for the layer.

    Args:
        model: a causal-LM module.
        layers: number of decoder layers.
        heads: number of query heads, of which the projection's input is as many slices side by side; 0 for a configuration
            that names none.
        hidden: width of the residual stream, onto which it projects.

    Raises:
        UnsupportedModel: no attention, layers without attention, nothing of that shape, or more than one that fits; lists them.
    """
    inside = _linear_maps_of_attention(model)
    if not inside:
        raise UnsupportedModel("it seems to have no attention")
    if not heads:
        raise UnsupportedModel(f"its configuration has no num_attention_heads; {_candidates(inside)}")
    everywhere = {path: by_layer for path, by_layer in inside.items() if set(by_layer) >= set(range(layers))}
    if not everywhere:
        seen = {layer for by_layer in inside.values() for layer in by_layer}
        bare = [layer for layer in range(layers) if layer not in seen]
        if bare:
            raise UnsupportedModel(
                f"{len(bare)} of {layers} layers have no attention (counted from 0: {_listed(bare)}); every layer needs it"
            )
        raise UnsupportedModel(f"no module of that kind is in all of the {layers} layers; {_candidates(inside)}")
    fitting = {
        path: by_layer
        for path, by_layer in everywhere.items()
        if all(_fits(by_layer[layer], heads, hidden) for layer in range(layers))
    }
    if not fitting:
        raise UnsupportedModel(
            f"no linear map in attention takes a multiple of {heads} heads to {hidden} outputs; {_candidates(everywhere)}"
        )
    if not any(parameter.is_meta for parameter in model.parameters()):
        fitting = _after_attention(model, fitting)
        if not fitting:
            raise UnsupportedModel(f"no such map runs once a layer and after attention; {_candidates(everywhere)}")
    if len(fitting) > 1:
        raise UnsupportedModel(f"{len(fitting)} modules fit; {_candidates(fitting)}")
    return next(iter(fitting))


def _linear_maps_of_attention(model: nn.Module) -> dict[str, dict[int, nn.Module]]:
    """Path -> layer -> linear map inside an attention module of that layer; of maps within maps (LoRA's) the outer one."""
    found: dict[str, dict[int, nn.Module]] = defaultdict(dict)
    taken: list[str] = []
    for name, module in model.named_modules(remove_duplicate=False):
        if linear_widths(module) is None or any(name.startswith(outer) for outer in taken):
            continue
        taken.append(f"{name}.")
        for path, layer in _layered(model, name):
            found[path][layer] = module
    return found


def _layered(model: nn.Module, name: str) -> Iterator[tuple[str, int]]:
    """The path and layer of a module inside attention: the first number in its name counts decoder layers."""
    parts = name.split(".")
    index = next((i for i, part in enumerate(parts) if part.isdigit()), None)
    if index is None:
        return
    for end in range(index + 2, len(parts)):
        above = model.get_submodule(".".join(parts[:end]))
        if any(word in (parts[end - 1] + type(above).__name__).lower() for word in ("attn", "attention")):
            yield ".".join([*parts[:index], "{}", *parts[index + 1 :]]), int(parts[index])
            return


def _fits(module: nn.Module, heads: int, hidden: int) -> bool:
    inputs, outputs = linear_widths(module) or (1, 0)
    return inputs % heads == 0 and outputs == hidden


def _after_attention(model: Any, fitting: dict[str, dict[int, nn.Module]]) -> dict[str, dict[int, nn.Module]]:
    """Those that run once a layer, on heads side by side, and whose input in the first layer depends on earlier tokens."""
    seen: dict[tuple[str, int], list[Tensor]] = defaultdict(list)

    def keep(key: tuple[str, int], module: nn.Module, args: tuple[Tensor, ...]) -> None:
        seen[key].append(args[0].detach())

    # Two rows that end in the same token after different ones. Ids 1 to 3 are in every vocabulary.
    ids = torch.tensor([[1] * _OTHERS + [3], [2] * _OTHERS + [3]], device=model.device)
    with uninstalled(model), ExitStack() as stack, torch.no_grad(), evaluating(model):
        for path, by_layer in fitting.items():
            for layer, module in by_layer.items():
                stack.callback(module.register_forward_pre_hook(partial(keep, (path, layer))).remove)
        model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
    return {
        path: by_layer
        for path, by_layer in fitting.items()
        if all(len(seen[path, layer]) == 1 for layer in by_layer) and _mixed(seen[path, min(by_layer)][0])
    }


def _mixed(inputs: Tensor) -> bool:
    """Whether the last tokens' rows differ by more than rounding; inputs (2, tokens, width) or (2 * tokens, width)."""
    first, second = inputs.reshape(2, -1, inputs.shape[-1])[:, -1].float()
    return bool((first - second).norm() > 16 * torch.finfo(inputs.dtype).eps * first.norm())


def _candidates(found: dict[str, dict[int, nn.Module]]) -> str:
    described = []
    for path, by_layer in found.items():
        inputs, outputs = linear_widths(next(iter(by_layer.values()))) or (0, 0)
        described.append(f"{path} ({inputs} to {outputs}, layers {_listed(sorted(by_layer))})")
    return f"linear maps in attention: {', '.join(described)}"


def _listed(layers: list[int]) -> str:
    if len(layers) > 1 and layers == list(range(layers[0], layers[-1] + 1)):
        return f"{layers[0]} to {layers[-1]}"
    return ", ".join(map(str, layers[:8])) + (", ..." if len(layers) > 8 else "")
