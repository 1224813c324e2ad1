"""What is installed on a model right now: edits, what they were told, and what they did.

An edit is anything a detoxifier puts on while it is applied: a shift of attention heads, an adapter switched on, another text
before the prompt. The model keeps the stack of edits; a `LanguageModel` handle names the stack it stands for, and the two rulers
(`generate`, `token_logprobs`) refuse a handle whose names are not exactly those installed.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from detox.errors import HookNeverFired, NotAnnounced
from detox.models.announcements import KINDS, Announcement

_serial = itertools.count(1)


class LogitsEdit(Protocol):
    """A change of next-token logits, in the two forms that the rulers need; they must agree."""

    def step(self, ids: Tensor, scores: Tensor) -> Tensor:
        """One decoding step. `ids` (batch, length) so far, left padded; `scores` (batch, vocab) -> (batch, vocab)."""

    def sequence(self, ids: Tensor, mask: Tensor, logits: Tensor) -> Tensor:
        """A whole text. `ids`, `mask` (batch, seq); `logits` (batch, seq, vocab), of the token after each position."""


class Gate(Protocol):
    """Says for which prompts an edit acts."""

    @property
    def digest(self) -> str:
        """Hash of everything that decides what it says."""

    def __call__(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """(prompts,) bool from their token ids: True where the edit acts. Asked while no edit is installed."""


@dataclass
class Receipt:
    """What an edit did since it was installed.

    Attributes:
        edit: the edit's name.
        sites: times that each hooked module ran with the edit on.
        tokens: positions that passed the first site, by kind: "pad", "prompt", "generated", or "unannounced" where the model
            was called directly and nobody said which is which.
        touched: of these, the positions that the edit changed, by kind. Padding is never among them where it was announced.
        gate: texts for which a gate let the edit act ("open") or not ("shut"); both 0 without a gate.
        relative_size: ‖change‖ over the mean ‖activation‖ of what it touched, averaged over the first passes at each site; None
            where it does not apply.
    """

    edit: str
    sites: dict[str, int] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    touched: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    gate: dict[str, int] = field(default_factory=lambda: {"open": 0, "shut": 0})
    relative_size: float | None = None


@dataclass(eq=False)
class Edit:
    """Something installed on a model while a detoxifier is applied.

    Attributes:
        name: what it is; a serial number is added, so that an edit installed twice has two names.
        digest: hash of everything that decides what it does; "" for an edit that changes nothing (strength 0, or text only).
        sites: names of the modules that must run; empty if nothing is hooked.
        install: puts it on a model and takes it off again, all or nothing; may be entered many times.
        input_shifts: module name -> (in_features,) float32, where the edit is nothing but these constants added to the inputs of
            linear modules at every token at which it acts: what an export can fold into biases. Empty for any other edit.
        positions: at which tokens these are added: "all", "generation" or "last", see `Announcement.acts`.
        gate: says for which prompts the edit acts; None for all.
    """

    name: str
    digest: str
    install: Callable[[Edit, nn.Module], AbstractContextManager[None]]
    sites: tuple[str, ...] = ()
    input_shifts: Mapping[str, Tensor] = field(default_factory=dict)
    positions: str = "all"
    gate: Gate | None = None
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

    def passed(self, model: nn.Module, site: str, rows: int, length: int) -> Tensor | None:
        """A hook says that it runs over (rows, length) positions; the receipt keeps it.

        Returns:
            (rows, length) bool: where the edit acts; None for everywhere.

        Raises:
            NotAnnounced: the edit must know where the prompt ends, and nobody said it.
        """
        self.receipt.sites[site] += 1
        announcement = state_of(model).announcement
        if announcement is None:
            if self.positions != "all" or self.gate is not None:
                raise NotAnnounced(
                    f"{self.name} acts at {'gated' if self.gate else self.positions!r} positions, and a raw call of the model does not "
                    "say where the prompt ends; use generate or logprobs of the handle, or call the model within "
                    "`with handle.announced(attention_mask)`"
                )
            if site == self.sites[0]:
                for counts in (self.receipt.tokens, self.receipt.touched):
                    counts["unannounced"] += rows * length
            return None
        if self.gate is not None and self.name not in announcement.gates:
            raise NotAnnounced(f"{self.name} has a gate, and whoever announced this pass did not ask it; see gates_for")
        where = announcement.acts(length, self.positions, announcement.gates.get(self.name))
        if site == self.sites[0]:
            for kind, count in announcement.count(length).items():
                self.receipt.tokens[kind] += count
            whole = where is None or bool(where.all())
            for kind, count in announcement.count(length, None if whole else where).items():
                self.receipt.touched[kind] += count
        return where


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


@contextmanager
def touching(model: nn.Module) -> Iterator[None]:
    """Prove at the end of a ruler's whole call that every edit whose sites ran changed the activation of some token.

    Raises:
        HookNeverFired: an edit without a gate that ran and touched nothing.
    """
    edits = [edit for edit in state_of(model).edits if edit.input_shifts and edit.gate is None]

    def seen(edit: Edit) -> tuple[int, int]:
        return sum(edit.receipt.sites.values()), sum(edit.receipt.touched.values())

    before = [seen(edit) for edit in edits]
    yield
    for edit, (ran, touched) in zip(edits, before, strict=True):
        now = seen(edit)
        if now[0] > ran and now[1] == touched:
            raise HookNeverFired(
                f"{edit.name} ran {now[0] - ran} times and touched no token at {edit.positions!r} positions; the output would be the "
                "base model's"
            )


def gates_for(model: nn.Module, prompts: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    """What the gates of the installed edits say of each prompt, asked once a prompt, while no edit is installed.

    Args:
        model: the model.
        prompts: token ids.

    Returns:
        edit name -> (prompts,) bool, for every edit that has a gate.
    """
    gated = [edit for edit in state_of(model).edits if edit.gate is not None]
    if not gated:
        return {}
    unique = list(dict.fromkeys(tuple(prompt) for prompt in prompts))
    number = {prompt: index for index, prompt in enumerate(unique)}
    where = torch.tensor([number[tuple(prompt)] for prompt in prompts])
    result = {}
    with uninstalled(model):
        for edit in gated:
            assert edit.gate is not None
            opened = edit.gate(unique)
            edit.receipt.gate["open"] += int(opened.sum())
            edit.receipt.gate["shut"] += int((~opened).sum())
            result[edit.name] = opened.cpu()[where]
    return result
