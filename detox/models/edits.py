"""What is installed on a model right now: edits, what they were told, and what they did.

An edit is anything a detoxifier puts on while it is applied: a shift of attention heads, an adapter switched on, another text
before the prompt. The model keeps the stack of edits; a `LanguageModel` handle names the stack it stands for, and the two rulers
(`generate`, `token_logprobs`) refuse a handle whose names are not exactly those installed.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from detox.errors import HookNeverFired

_serial = itertools.count(1)


class LogitsEdit(Protocol):
    """A change of next-token logits, in the two forms that the rulers need; they must agree."""

    def step(self, ids: Tensor, scores: Tensor) -> Tensor:
        """One decoding step. `ids` (batch, length) so far, left padded; `scores` (batch, vocab) -> (batch, vocab)."""

    def sequence(self, ids: Tensor, mask: Tensor, logits: Tensor) -> Tensor:
        """A whole text. `ids`, `mask` (batch, seq); `logits` (batch, seq, vocab), of the token after each position."""


@dataclass
class Receipt:
    """What an edit did since it was installed.

    Attributes:
        edit: the edit's name.
        sites: times that each hooked module ran with the edit on.
        tokens: positions that passed the first site, by kind: "pad", "prompt", "generated", or "unannounced" where the model
            was called directly and nobody said which is which.
        relative_size: mean of ‖change‖/‖activation‖ over the first real positions at each site; None where it does not apply.
    """

    edit: str
    sites: dict[str, int] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=lambda: {"pad": 0, "prompt": 0, "generated": 0, "unannounced": 0})
    relative_size: float | None = None


@dataclass
class Announcement:
    """What a ruler says before it runs the model, so that an edit can tell padding, prompt and generated tokens apart.

    Attributes:
        attention_mask: (batch, length) bool, of the columns known when it was said; columns beyond it are generated tokens.
        prompt_ends: (batch,) long, the column of the first token that is not prompt.
        columns: columns that exist once the forward pass to come is done. A pass of n positions begins at column
            `columns - n`, with a cache (n = 1) and without (n = columns) alike.
    """

    attention_mask: Tensor
    prompt_ends: Tensor
    columns: int = 0

    def __post_init__(self) -> None:
        self.columns = self.columns or self.attention_mask.shape[1]

    def offset(self, length: int) -> int:
        """Column of the first position of a forward pass over `length` positions."""
        return self.columns - length

    def mask(self, length: int) -> Tensor:
        """(batch, length) bool: which positions of the forward pass to come hold a token."""
        offset = self.offset(length)
        known = self.attention_mask[:, offset : offset + length]
        if known.shape[1] == length:
            return known
        beyond = known.new_ones(known.shape[0], length - known.shape[1])
        return torch.cat([known, beyond], dim=1)

    def has_padding(self, length: int) -> bool:
        """Whether some position of the forward pass to come is padding."""
        return self.offset(length) < self.attention_mask.shape[1] and not bool(self.mask(length).all())

    def count(self, length: int) -> dict[str, int]:
        """Positions of the forward pass to come, by kind."""
        if self.offset(length) >= self.attention_mask.shape[1]:
            return {"pad": 0, "prompt": 0, "generated": self.attention_mask.shape[0] * length}
        mask = self.mask(length)
        columns = torch.arange(self.offset(length), self.columns, device=mask.device)
        prompt = mask & (columns[None, :] < self.prompt_ends[:, None])
        real, prompts = int(mask.sum()), int(prompt.sum())
        return {"pad": mask.numel() - real, "prompt": prompts, "generated": real - prompts}


@dataclass(eq=False)
class Edit:
    """Something installed on a model while a detoxifier is applied.

    Attributes:
        name: what it is; a serial number is added, so that an edit installed twice has two names.
        digest: hash of everything that decides what it does; "" for an edit that changes nothing (strength 0, or text only).
        sites: names of the modules that must run; empty if nothing is hooked.
        install: puts it on a model and takes it off again, all or nothing; may be entered many times.
        input_shifts: module name -> (in_features,) float32, where the edit is nothing but these constants added to the inputs of
            linear modules at every token: what an export can fold into biases. Empty for any other edit.
    """

    name: str
    digest: str
    install: Callable[[Edit, nn.Module], AbstractContextManager[None]]
    sites: tuple[str, ...] = ()
    input_shifts: Mapping[str, Tensor] = field(default_factory=dict)
    receipt: Receipt = field(init=False)
    _stack: ExitStack | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.name = f"{self.name}#{next(_serial)}"
        self.receipt = Receipt(self.name, sites=dict.fromkeys(self.sites, 0))

    def activate(self, model: nn.Module) -> None:
        """Put it on."""
        stack = ExitStack()
        stack.enter_context(self.install(self, model))
        self._stack = stack

    def deactivate(self) -> None:
        """Take it off."""
        if self._stack is not None:
            stack, self._stack = self._stack, None
            stack.close()

    def passed(self, model: nn.Module, site: str, rows: int, length: int) -> Announcement | None:
        """A hook says that it ran over (rows, length) positions; returns what was announced about them."""
        self.receipt.sites[site] += 1
        announcement = state_of(model).announcement
        if site == self.sites[0]:
            if announcement is None:
                self.receipt.tokens["unannounced"] += rows * length
            else:
                for kind, count in announcement.count(length).items():
                    self.receipt.tokens[kind] += count
        return announcement


@contextmanager
def nothing(edit: Edit, model: nn.Module) -> Iterator[None]:
    """Installation of an edit that touches no module: other text before the prompt, or strength 0."""
    yield


@dataclass(eq=False)
class ModelState:
    """Side table of one model: its stack of edits, the announcement in force, caches, incidents."""

    edits: list[Edit] = field(default_factory=list)
    announcement: Announcement | None = None
    tensor_hashes: dict[str, tuple[tuple[int, int, bytes], str]] = field(default_factory=dict)
    reuses_cache: bool | None = None
    attention_output: str | None = None  # path of the attention output projection, {} for the layer: told, or found
    incidents: list[str] = field(default_factory=list)
    # Of each edit that stands in the place of weights: from the model's tensors by name, those beneath it.
    views: list[tuple[Edit, Callable[[dict[str, Tensor]], dict[str, Tensor]]]] = field(default_factory=list)


_states: weakref.WeakKeyDictionary[nn.Module, ModelState] = weakref.WeakKeyDictionary()


def state_of(model: nn.Module) -> ModelState:
    """The side table of `model`, made on first use."""
    state = _states.get(model)
    if state is None:
        state = _states[model] = ModelState()
    return state


@contextmanager
def installed(model: nn.Module, edit: Edit) -> Iterator[None]:
    """`edit` on top of the model's stack, off again whatever happens."""
    state = state_of(model)
    edit.activate(model)
    state.edits.append(edit)
    try:
        yield
    finally:
        state.edits.remove(edit)
        edit.deactivate()


@contextmanager
def uninstalled(model: nn.Module) -> Iterator[None]:
    """The model without any of its edits; they come back in their order."""
    state = state_of(model)
    edits, state.edits = state.edits, []
    off: list[Edit] = []
    try:
        for edit in reversed(edits):
            edit.deactivate()
            off.append(edit)
        yield
    finally:
        for edit in reversed(off):
            edit.activate(model)
        state.edits = edits


@contextmanager
def announced(model: nn.Module, announcement: Announcement) -> Iterator[None]:
    """Announce to the edits what the forward passes in this block hold, and prove afterwards that every site ran.

    Raises:
        HookNeverFired: a module that an edit hooked did not run in this block.
    """
    state = state_of(model)
    before = [dict(edit.receipt.sites) for edit in state.edits]
    outer, state.announcement = state.announcement, announcement
    try:
        yield
    finally:
        state.announcement = outer
    for edit, counts in zip(state.edits, before, strict=True):
        silent = [site for site, count in counts.items() if edit.receipt.sites[site] == count]
        if silent:
            raise HookNeverFired(
                f"{edit.name}: {len(silent)} of {len(counts)} hooked modules never ran (first: {silent[0]}); "
                "a compiled or fused path goes around them, so the output would be the base model's"
            )
