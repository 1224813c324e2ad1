"""Head outputs, read and shifted at the input of the attention output projection.

The input of that projection is the heads' outputs side by side, which is where inference-time intervention reads and writes.
baukit, where it is installed, does the reading (it can retain a module's input but not edit it, so shifts are always hooks of our
own); results are the same without it. No other file knows baukit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from detox.errors import HookNeverFired, InputError, UnsupportedModel
from detox.models.architectures import AttentionOutput, attention_outputs, context_length
from detox.models.edits import Announcement, Edit, announced, state_of
from detox.models.language_model import LanguageModel
from detox.models.running import evaluating, halving
from detox.models.tokenization import encode_texts, pad_rows, pad_token

try:
    from baukit import TraceDict
except ImportError:  # not installed, or without the torchvision that it wants
    TraceDict = None

_MEASURED_PASSES = 4  # forward passes a site over which the relative size of a shift is averaged


def read_heads(
    lm: LanguageModel, texts: Sequence[str], *, batch_size: int = 32, use_baukit: bool | None = None
) -> Tensor:
    """Every head's output at the last token of each text.

    Args:
        lm: the handle; its prefix is put before each text.
        texts: a text longer than the model's context is read at its last token with as much before it as fits.
        batch_size: texts at once.
        use_baukit: read through baukit's TraceDict; None does where baukit is installed.

    Returns:
        (texts, layers, heads, head_dim) float32, on the CPU.

    Raises:
        UnsupportedModel: a family without known attention, or with layers of different widths.
        InputError: no texts, or a text without tokens.
    """
    lm.require_current()
    if not texts:
        raise InputError("no texts to read activations from; expected at least one")
    outputs = attention_outputs(lm.model)
    if len({(o.heads, o.head_dim) for o in outputs}) > 1:
        raise UnsupportedModel(
            "layers have heads of different number or width, which one (layers, heads, head_dim) array cannot hold"
        )
    limit = context_length(lm.model)
    rows = [row[-limit:] if limit else row for row in encode_texts(lm.tokenizer, [lm.prefix + text for text in texts])]
    empty = next((i for i, row in enumerate(rows) if not row), None)
    if empty is not None:
        raise InputError(f"text {empty} has no tokens; expected at least one")
    result = torch.empty(len(rows), len(outputs), outputs[0].heads, outputs[0].head_dim)
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    through_baukit = TraceDict is not None if use_baukit is None else use_baukit
    incidents = state_of(lm.model).incidents
    with torch.no_grad(), evaluating(lm.model):
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            run = partial(_read_batch, lm, outputs, rows, through_baukit=through_baukit)
            for index, values in halving(run, batch, incidents):
                result[index] = values
    return result


def _read_batch(
    lm: LanguageModel, outputs: list[AttentionOutput], rows: list[list[int]], batch: list[int], *, through_baukit: bool
) -> list[tuple[int, Tensor]]:
    model = lm.model
    ids, mask = pad_rows([rows[i] for i in batch], side="right", fill=pad_token(lm.tokenizer), device=model.device)
    last = mask.sum(-1) - 1
    everyone = torch.arange(len(batch), device=model.device)
    retain = _retained_by_baukit if through_baukit else _retained_by_hooks
    with announced(model, Announcement(mask, mask.sum(-1))), retain(model, [o.name for o in outputs]) as inputs:
        model.base_model(input_ids=ids, attention_mask=mask.long(), use_cache=False)
        layers = []
        for output in outputs:
            if output.name not in inputs:
                raise HookNeverFired(f"{output.name} did not run, so its heads could not be read")
            layers.append(
                inputs[output.name][everyone, last].float().cpu().unflatten(-1, (output.heads, output.head_dim))
            )
    stacked = torch.stack(layers, dim=1)
    return list(zip(batch, stacked, strict=True))


@contextmanager
def _retained_by_hooks(model: Any, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    inputs: dict[str, Tensor] = {}

    def keep(name: str, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        inputs[name] = args[0]

    with ExitStack() as stack:
        for name in names:
            handle = model.get_submodule(name).register_forward_pre_hook(partial(keep, name))
            stack.callback(handle.remove)
        yield inputs


@contextmanager
def _retained_by_baukit(model: Any, names: Sequence[str]) -> Iterator[Any]:
    if TraceDict is None:
        raise InputError(
            "use_baukit=True, but baukit is not installed; install the dependency group 'baukit' or leave it out"
        )
    inputs: dict[str, Tensor] = _Inputs()
    with TraceDict(model, list(names), retain_input=True, retain_output=False) as traces:
        inputs.traces = traces  # type: ignore[attr-defined]
        yield inputs


class _Inputs(dict[str, Tensor]):
    """baukit's traces, seen as module name -> input."""

    traces: Any

    def __contains__(self, name: object) -> bool:
        return hasattr(self.traces[name], "input")

    def __getitem__(self, name: str) -> Tensor:
        value: Tensor = self.traces[name].input
        return value


def head_shift(lm: LanguageModel, name: str, shifts: dict[tuple[int, int], Tensor]) -> Edit:
    """An edit that adds a constant vector to the output of chosen heads, at every token but padding.

    The first generated token is steered too: the last prompt position, from which it is predicted, is shifted like all others.

    Args:
        lm: on whose model it will be installed.
        name: what to call it.
        shifts: (layer, head) -> (head_dim,), in the activations' own units.

    Raises:
        InputError: a layer or head that the model does not have, or a vector of another width.
    """
    outputs = {output.layer: output for output in attention_outputs(lm.model)}
    vectors: dict[str, Tensor] = {}
    digest = hashlib.sha256()
    for (layer, head), shift in sorted(shifts.items()):
        output = outputs.get(layer)
        if output is None or not 0 <= head < output.heads:
            heads = next(iter(outputs.values())).heads
            raise InputError(
                f"no head {head} in layer {layer}: the model has {len(outputs)} layers of {heads} heads, counted from 0"
            )
        if shift.shape != (output.head_dim,):
            raise InputError(
                f"shift of layer {layer} head {head} has shape {tuple(shift.shape)}; expected ({output.head_dim},)"
            )
        if not bool(torch.isfinite(shift).all()):
            raise InputError(
                f"shift of layer {layer} head {head} holds NaN or infinity; fit again on sound activations"
            )
        whole = vectors.setdefault(output.name, torch.zeros(output.heads, output.head_dim))
        whole[head] = shift.float()
        digest.update(f"{layer},{head}:".encode() + shift.float().numpy().tobytes())
    install = partial(_install_shift, vectors=vectors)
    return Edit(name, f"head_shift {digest.hexdigest()}", install, sites=tuple(vectors))


@contextmanager
def _install_shift(edit: Edit, model: Any, *, vectors: dict[str, Tensor]) -> Iterator[None]:
    measured: dict[str, list[float]] = {site: [] for site in vectors}
    with ExitStack() as stack:
        for site, vector in vectors.items():
            module = model.get_submodule(site)
            reference = next(module.parameters())
            flat = vector.flatten().to(
                reference.device, reference.dtype if reference.is_floating_point() else model.dtype
            )
            handle = module.register_forward_pre_hook(_shifter(edit, model, site, flat, measured))
            stack.callback(handle.remove)
        yield


def _shifter(
    edit: Edit, model: Any, site: str, vector: Tensor, measured: dict[str, list[float]]
) -> Callable[..., tuple[Any, ...]]:
    norm = float(vector.float().norm())

    def shift(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden: Tensor = args[0]
        rows, length = hidden.shape[:2]
        announcement = edit.passed(model, site, rows, length)
        mask = announcement.mask(length)[..., None] if announcement and announcement.has_padding(length) else None
        if len(measured[site]) < _MEASURED_PASSES:
            norms = hidden.detach().float().norm(dim=-1)
            real = norms if mask is None else norms[mask.squeeze(-1)]
            if real.numel():
                measured[site].append(norm / max(float(real.mean()), 1e-12))
                every = [size for sizes in measured.values() for size in sizes]
                edit.receipt.relative_size = sum(every) / len(every)
        moved = vector.to(hidden.dtype)
        return (hidden + (moved if mask is None else moved * mask), *args[1:])

    return shift
