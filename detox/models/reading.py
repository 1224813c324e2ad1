"""The one reader of activations: what modules take or give at the last token of each text.

Texts run in batches of like length, each module's part is taken out while the model runs, and the model stops when there is no
more to read. What exists at a time is one batch and the result, which may lie in a file.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence, Sized
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from detox.errors import HookNeverFired, InputError
from detox.files import disk_errors
from detox.models.announcements import Announcement
from detox.models.architectures import context_length
from detox.models.edits import announced, gates_for, state_of
from detox.models.language_model import LanguageModel
from detox.models.running import evaluating, halving
from detox.models.tokenization import encode_texts, pad_rows, pad_token

Out = str | os.PathLike[str] | NDArray[Any] | None
Keep = Callable[[int, Any], None]

_TOKENS_AT_ONCE = {"cpu": 1024, "cuda": 16_384}  # positions of one forward pass
_TEXTS_ENCODED = 1024  # texts whose tokens exist at once, sorted by length among themselves
_NUMPY = {torch.float64: np.float64, torch.float32: np.float32, torch.float16: np.float16}


@dataclass(frozen=True)
class Site:
    """Where something is read.

    Attributes:
        name: of the module, from the causal-LM module.
        side: its first input or its first output.
        called: what a reader of an error calls it.
    """

    name: str
    side: Literal["input", "output"]
    called: str


Hooks = Callable[[Any, Sequence[Site], Keep], AbstractContextManager[None]]


class _Enough(Exception):
    """Everything that was asked for is read; the rest of the forward pass would be for nothing."""


@contextmanager
def own_hooks(model: Any, sites: Sequence[Site], keep: Keep) -> Iterator[None]:
    """Hand what passes each site to `keep`, with the site's number, for the length of a block."""

    def on_input(number: int, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        keep(number, args[0] if args else next(iter(kwargs.values())))

    def on_output(number: int, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        keep(number, output if isinstance(output, Tensor) else output[0])

    with ExitStack() as stack:
        for number, site in enumerate(sites):
            module = model.get_submodule(site.name)
            if site.side == "input":
                handle = module.register_forward_pre_hook(partial(on_input, number), with_kwargs=True)
            else:
                handle = module.register_forward_hook(partial(on_output, number))
            stack.callback(handle.remove)
        yield


def read_last_tokens(
    lm: LanguageModel,
    texts: Sequence[str | Sequence[int]],
    sites: Sequence[Site],
    shape: tuple[int, ...],
    *,
    batch_size: int | None = None,
    dtype: torch.dtype | str = torch.float32,
    out: Out = None,
    hooks: Hooks = own_hooks,
) -> Tensor:
    """What passes the sites at the last token of each text.

    Args:
        lm: the handle; its prefix is put before each text, its edits act.
        texts: a text longer than the model's context is read at its last token with as much before it as fits. Token ids are
            taken as they are, without the prefix; all texts are the one or the other.
        sites: all of one width.
        shape: of what is read at a site, (width,) or a split of it; the parts of its first axis are called heads in errors
            where there are two axes.
        batch_size: texts at once; None takes as many as make up a fixed number of tokens.
        dtype: of the result; "own" is the model's.
        out: a path that ends in .npy, or an array of the result's shape, which then decides the dtype.
        hooks: what takes activations out of the model.

    Returns:
        (texts, sites, *shape) on the CPU. With a path: the file, mapped into memory; changes of the tensor do not reach it.

    Raises:
        StaleHandle: see `LanguageModel`.
        InputError: no texts, a text without tokens, a path or an array that cannot hold the result; NaN or infinity, after all
            texts are read: where, in how many texts, and which is the first.
        HookNeverFired: a module did not run, or an installed edit did not.
        OutputError: the file cannot be written.
    """
    lm.require_current()
    if not texts:
        raise InputError("no texts to read activations from; expected at least one")
    if batch_size is not None and batch_size < 1:
        raise InputError(f"batch_size is {batch_size}; expected at least 1, or None")
    wanted = _dtype(lm.model.dtype if dtype == "own" else dtype)
    whole = (len(texts), len(sites), *shape)
    bad: list[tuple[int, int, int]] = []  # (site, text, column) of the first that is not finite at a site
    with _result(whole, wanted, out) as (result, place), ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(evaluating(lm.model))
        bar = stack.enter_context(tqdm(total=len(texts), desc="reading", delay=3, disable=None, leave=False))
        for start in range(0, len(texts), _TEXTS_ENCODED):
            rows = _encoded(lm, texts[start : start + _TEXTS_ENCODED], start)
            run = partial(_read_batch, lm, sites, rows, hooks=hooks)
            for batch in batches(lm.model, rows, batch_size):
                for index, values in halving(run, batch, state_of(lm.model).incidents):
                    stored = values.to(result.dtype)
                    finite = stored.isfinite()
                    if not finite.all():
                        bad += [(s, start + index, int((~finite[s]).nonzero()[0])) for s in _false(finite.all(-1))]
                    result[start + index] = stored.reshape(len(sites), *shape)
                bar.update(len(batch))
        if bad:
            dtypes = " or the result's ".join(dict.fromkeys(_name(d) for d in (lm.model.dtype, result.dtype)))
            raise InputError(_not_finite(bad, sites, shape, dtypes, len(texts)))
    return result if place is None else torch.from_numpy(np.load(place, mmap_mode="c"))


def chosen_numbers(chosen: Sequence[int] | None, count: int, what: str) -> list[int]:
    """The numbers chosen of `count`, all where None.

    Raises:
        InputError: none, one that does not exist, or one twice.
    """
    if chosen is None:
        return list(range(count))
    numbers = [int(number) for number in chosen]
    wrong = [number for number in numbers if not 0 <= number < count]
    if wrong:
        raise InputError(f"no {what} {wrong[0]}: the model has {count}, counted from 0")
    if not numbers or len(set(numbers)) < len(numbers):
        raise InputError(f"layers is {numbers}; expected at least one, each once")
    return numbers


def _dtype(dtype: torch.dtype | str) -> torch.dtype:
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise InputError(
            f'activations cannot be read as {dtype!r}; expected "own" or one such as float32, float16, bfloat16'
        )
    return found


def _encoded(lm: LanguageModel, texts: Sequence[str | Sequence[int]], first: int) -> list[NDArray[np.int32]]:
    limit = context_length(lm.model)
    rows = []
    plain = [lm.prefix + text for text in texts if isinstance(text, str)]
    encoded = [list(map(int, text)) for text in texts] if not plain else encode_texts(lm.tokenizer, plain, first=first)
    if len(encoded) != len(texts):
        raise InputError("texts are text and token ids mixed; expected the one or the other")
    for index, row in enumerate(encoded):
        if not row:
            raise InputError(f"text {first + index} has no tokens; expected at least one")
        rows.append(np.array(row[-limit:] if limit else row, dtype=np.int32))
    return rows


def batches(model: Any, rows: Sequence[Sized], batch_size: int | None = None) -> Iterator[list[int]]:
    """Rows of like length together, the longest first: what memory is needed is needed at once.

    Args:
        model: its device decides how many tokens run at once.
        rows: of token ids.
        batch_size: rows at once, instead.

    Yields:
        Indices of rows.
    """
    order = sorted(range(len(rows)), key=lambda i: -len(rows[i]))
    tokens = _TOKENS_AT_ONCE.get(model.device.type, _TOKENS_AT_ONCE["cuda"])
    start = 0
    while start < len(order):
        count = batch_size or max(1, tokens // len(rows[order[start]]))
        yield order[start : start + count]
        start += count


def _read_batch(
    lm: LanguageModel, sites: Sequence[Site], rows: Sequence[NDArray[np.int32]], batch: list[int], *, hooks: Hooks
) -> list[tuple[int, Tensor]]:
    model = lm.model
    ids, mask = pad_rows(
        [rows[i].tolist() for i in batch], side="right", fill=pad_token(lm.tokenizer), device=model.device
    )
    last, everyone = mask.sum(-1) - 1, torch.arange(len(batch), device=model.device)
    kept: dict[int, Tensor] = {}
    gates = {n: g.to(model.device) for n, g in gates_for(model, [rows[i].tolist() for i in batch]).items()}
    edits = state_of(model).edits
    before = [dict(edit.receipt.sites) for edit in edits]

    def keep(number: int, hidden: Tensor) -> None:
        kept[number] = hidden[everyone.to(hidden.device), last.to(hidden.device)]
        # An edit of a layer that is still to come must run, or nobody could tell that it would have. Offloaded weights go back
        # when a module has ended.
        ran = all(e.receipt.sites[s] > n for e, counts in zip(edits, before, strict=True) for s, n in counts.items())
        if len(kept) == len(sites) and ran and not getattr(model, "hf_device_map", None):
            raise _Enough

    with announced(model, Announcement(mask, mask.sum(-1), gates=gates)), hooks(model, sites, keep), suppress(_Enough):
        model.base_model(input_ids=ids, attention_mask=mask.long(), use_cache=False)
    for number, site in enumerate(sites):
        if number not in kept:
            raise HookNeverFired(f"{site.name} did not run, so its {site.side} could not be read")
    stacked = torch.stack([kept[number].cpu() for number in range(len(sites))], dim=1)
    return list(zip(batch, stacked, strict=True))


def _false(flags: Tensor) -> list[int]:
    return [int(i) for i in (~flags).nonzero().flatten()]


def _not_finite(
    bad: list[tuple[int, int, int]], sites: Sequence[Site], shape: tuple[int, ...], dtypes: str, texts: int
) -> str:
    site, text, column = min(bad)
    head = f" head {column // shape[-1]}" if len(shape) == 2 else ""
    count = len({index for _, index, _ in bad})
    return (
        f"activations of {sites[site].called}{head} hold NaN or infinity (in {count} of {texts} texts; there first in text "
        f"{text}); the model's own {dtypes} overflowed, so take a wider dtype"
    )


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


@contextmanager
def _result(shape: tuple[int, ...], dtype: torch.dtype, out: Out) -> Iterator[tuple[Tensor, Path | None]]:
    """The tensor to fill, and the file that takes it when the block ends well."""
    if out is None:
        yield torch.empty(shape, dtype=dtype), None
        return
    if isinstance(out, np.ndarray):
        if out.shape != shape or out.dtype not in _NUMPY.values() or not out.flags.writeable:
            raise InputError(
                f"out is an array {out.shape} of {out.dtype}; expected {shape} of float16, float32 or float64, writeable"
            )
        yield torch.from_numpy(out), None
        return
    place = Path(out)
    if place.suffix != ".npy":
        raise InputError(f"out is {place}; expected a path that ends in .npy")
    # numpy has no bfloat16; float32 holds the same values.
    width = _NUMPY.get(dtype, np.float32)
    with disk_errors(f"write {place}", advice="give a place you may write to"):
        place.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=place.parent, prefix=f".{place.name}.")
    os.close(handle)
    beside = Path(name)
    try:
        mapped: Any = np.lib.format.open_memmap(beside, mode="w+", dtype=width, shape=shape)
        yield torch.from_numpy(mapped), place
        mapped.flush()
        os.chmod(beside, 0o644)
        os.replace(beside, place)
    finally:
        beside.unlink(missing_ok=True)
