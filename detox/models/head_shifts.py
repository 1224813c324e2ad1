"""Head outputs, shifted by a constant at the input of the attention output projection, where the heads lie side by side.

That is where inference-time intervention writes. The shift is added before the projection, so that one vector a head is all there
is to know of it, and the same change can be folded into the projection's bias.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from detox.errors import InputError, UnsupportedModel, require_known
from detox.models.announcements import POSITIONS
from detox.models.architectures import ATTENTION_OUTPUT, attention_outputs
from detox.models.edits import Edit, Gate, state_of
from detox.models.language_model import LanguageModel

_MEASURED_PASSES = 4  # forward passes a site over which the relative size of a shift is averaged


def head_shift(
    lm: LanguageModel,
    name: str,
    shifts: dict[tuple[int, int], Tensor],
    *,
    positions: str = "all",
    gate: Gate | None = None,
) -> Edit:
    """An edit that adds a constant vector to the output of chosen heads.

    Args:
        lm: on whose model it will be installed.
        name: what to call it.
        shifts: (layer, head) -> (head_dim,), in the activations' own units.
        positions: "all" tokens; "generation", from the last token of the prompt on, since the first generated token is predicted
            there; "last", the last token of the prompt alone. Padding never.
        gate: says of prompts for which of them it acts; None for all.

    Raises:
        UnknownName: other positions.
        InputError: a layer or head that the model does not have, or a vector of another width.
        UnsupportedModel: a model that was compiled, since a compiled model does not look for hooks that came later.
    """
    require_known("positions", positions, POSITIONS)
    _require_eager(lm.model)
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
    if positions != "all" or gate is not None:
        digest.update(f"{positions},{gate.digest if gate else None}".encode())
    added = {site: vector.flatten() for site, vector in vectors.items()}
    if state_of(lm.model).attention_output != ATTENTION_OUTPUT.get(lm.model.config.model_type):
        digest.update(repr(list(added)).encode())
    return Edit(
        name,
        f"head_shift {digest.hexdigest()}",
        partial(_install_shift, vectors=added, measured={site: [] for site in added}),
        sites=tuple(added),
        input_shifts=added,
        positions=positions,
        gate=gate,
    )


def _require_eager(model: Any) -> None:
    compiled = isinstance(model, torch._dynamo.eval_frame.OptimizedModule) or any(
        module._compiled_call_impl is not None for module in model.modules()
    )
    if compiled:
        raise UnsupportedModel(
            f"{type(model).__name__} was compiled, and compiled code does not look for hooks that come later; shift heads of the model "
            "as it was before torch.compile, or export the shift into a checkpoint and compile that"
        )


@contextmanager
def _install_shift(
    edit: Edit, model: Any, *, vectors: dict[str, Tensor], measured: dict[str, list[float]]
) -> Iterator[None]:
    with ExitStack() as stack:
        for site, vector in vectors.items():
            module = model.get_submodule(site)
            reference = next(module.parameters())
            device = (
                model.device if reference.is_meta else reference.device
            )  # offloaded weights come when they are needed
            flat = vector.to(device, reference.dtype if reference.is_floating_point() else model.dtype)
            handle = module.register_forward_pre_hook(_shifter(edit, model, site, flat, measured))
            stack.callback(handle.remove)
        yield


def _shifter(
    edit: Edit, model: Any, site: str, vector: Tensor, measured: dict[str, list[float]]
) -> Callable[..., tuple[Any, ...] | None]:
    norm = float(vector.float().norm())

    def shift(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        hidden: Tensor = args[0]
        where = edit.passed(model, site, *hidden.shape[:2])
        if where is not None:
            where = where.to(hidden.device)
        if len(measured[site]) < _MEASURED_PASSES:
            norms = hidden.detach().float().norm(dim=-1)
            touched = norms if where is None else norms[where]
            if touched.numel():
                measured[site].append(norm / max(float(touched.mean()), 1e-12))
                every = [size for sizes in measured.values() for size in sizes]
                edit.receipt.relative_size = sum(every) / len(every)
        moved = vector.to(hidden.device, hidden.dtype)
        return (hidden + (moved if where is None else moved * where[..., None]), *args[1:])

    # Code that is compiled while the shift is on runs it as plain Python, and stays right.
    return torch.compiler.disable(shift)  # type: ignore[no-untyped-call, no-any-return]
