"""How the rulers run a model: in evaluation mode, with its cache where that is exact, in half the batch when memory is short."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer, DynamicSlidingWindowLayer

from detox.models.edits import state_of

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Dropout off in this block; every module's training flag is put back as it was."""
    flags = {module: module.training for module in model.modules()}
    if not any(flags.values()):
        yield
        return
    model.eval()
    try:
        yield
    finally:
        for module, flag in flags.items():
            module.training = flag


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that a batch was too large for the device (or, on a CPU, for the machine)."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and ("can't allocate memory" in text or "not enough memory" in text)


def halving(run: Callable[[list[Item]], list[Result]], batch: list[Item], incidents: list[str]) -> Iterator[Result]:
    """Results of `run` on `batch`, in halves of halves where memory is short; each halving is recorded in `incidents`."""
    pending = [batch]
    while pending:
        part = pending.pop(0)
        try:
            results = run(part)
        except RuntimeError as error:  # torch.OutOfMemoryError is one
            if len(part) == 1 or not is_out_of_memory(error):
                raise
            incidents.append(f"out of memory on a batch of {len(part)}; halved")
            middle = len(part) // 2
            pending[:0] = [part[:middle], part[middle:]]
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            continue
        yield from results


def reuses_cache(model: Any) -> bool:
    """Whether keys and values of a prefix can be computed once and repeated for its continuations.

    True where the cache is made of plain (or sliding-window) layers and positions can be told explicitly. MPT and BLOOM derive
    positions from the mask, and recurrent families keep states that cannot be picked apart: for those the rulers start anew.
    """
    state = state_of(model)
    if state.reuses_cache is None:
        state.reuses_cache = _probe_cache(model)
    return state.reuses_cache


def _probe_cache(model: Any) -> bool:
    accepted = inspect.signature(model.forward).parameters
    if not {"past_key_values", "position_ids"} <= set(accepted):
        return False
    ids = torch.zeros((1, 2), dtype=torch.long, device=model.device)
    with torch.no_grad(), evaluating(model):
        cache = getattr(model(input_ids=ids, use_cache=True), "past_key_values", None)
    return isinstance(cache, Cache) and all(
        type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in cache.layers
    )


def continued(cache: Any, rows: Tensor, room: int) -> Any:
    """A cache in which every row has its own copy of a prefix's keys and values, and room for the tokens to come.

    transformers' own layer copies all keys and values at every step; with room set aside, a step writes its own and no other.

    Args:
        cache: of the prefixes, from a model that `reuses_cache`; left as it is.
        rows: (rows,) long, which prefix each row continues.
        room: tokens to come.
    """
    return _with_layers(cache, rows, lambda layer: _RoomyLayer(layer, rows, room))


def lent(cache: Any, rows: Tensor) -> Any:
    """A cache for a single forward pass: each layer joins prefixes and new tokens when its turn comes, and keeps nothing.

    Args:
        cache: of the prefixes, from a model that `reuses_cache`; left as it is.
        rows: (rows,) long, which prefix each row continues.
    """
    return _with_layers(cache, rows, lambda layer: _LentLayer(layer, rows))


def _with_layers(cache: Any, rows: Tensor, plain: Callable[[DynamicLayer], DynamicLayer]) -> Any:
    result = copy.copy(cache)
    result.layers = []
    for layer in cache.layers:
        if type(layer) is DynamicLayer and layer.is_initialized:
            result.layers.append(plain(layer))
        else:  # a sliding window keeps its own count of what it has seen
            result.layers.append(copy.copy(layer))
            result.layers[-1].batch_select_indices(rows)
    return result


class _RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values as views of a larger tensor, into which the next ones are written."""

    def __init__(self, prefix: DynamicLayer, rows: Tensor, room: int) -> None:
        super().__init__()
        self.lazy_initialization(prefix.keys, prefix.values)
        self._all_keys, self._all_values = (_with_room(states, rows, room) for states in (prefix.keys, prefix.values))
        self._show(prefix.keys.shape[-2])

    def _show(self, length: int) -> None:
        self.keys, self.values = self._all_keys[:, :, :length], self._all_values[:, :, :length]

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        start, end = self.keys.shape[-2], self.keys.shape[-2] + key_states.shape[-2]
        self._all_keys[:, :, start:end], self._all_values[:, :, start:end] = key_states, value_states
        self._show(end)
        return self.keys, self.values


class _LentLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values of the prefixes, for whoever continues them."""

    def __init__(self, prefix: DynamicLayer, rows: Tensor) -> None:
        super().__init__()
        self.lazy_initialization(prefix.keys, prefix.values)
        self.keys, self.values, self._rows = prefix.keys, prefix.values, rows

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        return self._joined(self.keys, key_states), self._joined(self.values, value_states)

    def _joined(self, prefix: Tensor, states: Tensor) -> Tensor:
        whole = _with_room(prefix, self._rows, states.shape[-2])
        whole[:, :, prefix.shape[-2] :] = states
        return whole


def _with_room(states: Tensor, rows: Tensor, room: int) -> Tensor:
    _, heads, length, width = states.shape
    whole = states.new_empty(len(rows), heads, length + room, width)
    whole[:, :, :length] = states[rows]
    return whole
