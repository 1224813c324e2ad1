"""Head outputs, read at the input of the attention output projection, where the heads lie side by side.

baukit, where it is installed, does the reading (it can retain a module's input but not edit it, so shifts are always hooks of our
own: `detox.models.head_shifts`); results are the same without it. No other file knows baukit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from detox.errors import InputError, UnsupportedModel
from detox.models.architectures import attention_outputs
from detox.models.language_model import LanguageModel
from detox.models.reading import Keep, Out, Site, chosen_numbers, own_hooks, read_last_tokens

try:
    from baukit import TraceDict
except (ImportError, RuntimeError):  # not installed, or its torchvision is missing or made for another torch
    TraceDict = None


def read_heads(
    lm: LanguageModel,
    texts: Sequence[str],
    *,
    layers: Sequence[int] | None = None,
    batch_size: int | None = None,
    dtype: torch.dtype | str = torch.float32,
    out: Out = None,
    use_baukit: bool | None = None,
) -> Tensor:
    """Every head's output at the last token of each text.

    Texts of like length run together, and the model stops at the last projection that is read: what comes after it (its own
    product, the MLP, later layers, the output head) is never computed. Only where an edit is installed on a later layer does
    the model run on, so that the edit's receipt is true.

    Args:
        lm: the handle; its prefix is put before each text, its edits act.
        texts: a text longer than the model's context is read at its last token with as much before it as fits.
        layers: layers to read, counted from 0, in this order; None reads all.
        batch_size: texts at once; None takes as many as make up a fixed number of tokens, which is faster where lengths differ.
        dtype: of the result; "own" is the model's. A file or array of numpy has no bfloat16, and float32, which holds the same
            values, takes its place.
        out: where the result goes if it is not to lie in memory: a path that ends in .npy, written beside and renamed when
            all texts are read (`numpy.load(path, mmap_mode="r")` reads it), or an array of the result's shape, whose dtype
            then counts.
        use_baukit: read through baukit's TraceDict; None does where baukit is installed.

    Returns:
        (texts, layers, heads, head_dim), on the CPU. With a path: the file, mapped into memory; changes of the tensor do not
        reach it.

    Raises:
        UnsupportedModel: a family without known attention, or with layers of different widths.
        InputError: no texts, a text without tokens, a layer that the model does not have, a path or an array that cannot hold
            the result; NaN or infinity: in which layer and head, in how many texts, and which is the first.
        HookNeverFired: a projection, or an edit's site, did not run.
        OutputError: the file cannot be written.
    """
    through_baukit = TraceDict is not None if use_baukit is None else use_baukit
    if through_baukit and TraceDict is None:
        raise InputError(
            "use_baukit=True, but baukit is not installed; install the dependency group 'baukit' or leave it out"
        )
    outputs = attention_outputs(lm.model)
    outputs = [outputs[layer] for layer in chosen_numbers(layers, len(outputs), "layer")]
    if len({(o.heads, o.head_dim) for o in outputs}) > 1:
        raise UnsupportedModel(
            "layers have heads of different number or width, which one (layers, heads, head_dim) array cannot hold"
        )
    sites = [Site(o.name, "input", f"layer {o.layer}") for o in outputs]
    return read_last_tokens(
        lm, texts, sites, (outputs[0].heads, outputs[0].head_dim),
        batch_size=batch_size, dtype=dtype, out=out, hooks=_baukit_hooks if through_baukit else own_hooks,
    )  # fmt: skip


@contextmanager
def _baukit_hooks(model: Any, sites: Sequence[Site], keep: Keep) -> Iterator[None]:
    """`own_hooks` by baukit. Its way to hand on an input without keeping it is an edit of the output that edits nothing."""
    numbers = {site.name: number for number, site in enumerate(sites)}

    def look(output: Tensor, layer: str, inputs: tuple[Tensor, ...]) -> Tensor:
        keep(numbers[layer], inputs[0])
        return output

    with TraceDict(model, list(numbers), retain_output=False, edit_output=look):
        yield
