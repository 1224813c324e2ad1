"""Head outputs, read at the input of the attention output projection, where the heads lie side by side.

baukit, where it is installed, does the reading (it can retain a module's input but not edit it, so shifts are always hooks of our
own: `detox.models.head_shifts`); results are the same without it. No other file knows baukit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from detox.errors import HookNeverFired, InputError, UnsupportedModel
from detox.models.announcements import Announcement
from detox.models.architectures import AttentionOutput, attention_outputs, context_length
from detox.models.edits import announced, state_of
from detox.models.language_model import LanguageModel
from detox.models.running import evaluating, halving
from detox.models.tokenization import encode_texts, pad_rows, pad_token

try:
    from baukit import TraceDict
except ImportError:  # not installed, or without the torchvision that it wants
    TraceDict = None


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
