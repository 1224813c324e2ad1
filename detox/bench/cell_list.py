"""Which cells a grid has on a base: nothing, the noise floor, and every method at every strength."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from detox.bench.bases import Base
from detox.bench.grid import Grid, Method, suits

if TYPE_CHECKING:
    from detox.bench.tune_choices import Choice

NOISE_FLOOR = "base (A/A)"
"""Stands where a method's name does: the bare base once more, with another seed of the sampling."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One cell that a grid wants.

    Attributes:
        method, strength: None for the bare base.
        protocol: by name.
        seed: of the grid, by which a cell finds the base that it is compared with.
        sampling_seed: what is sampled with: `seed`, but for the noise floor.
        choice: what `detox tune` chose strength and settings by; None where they were set beforehand.
    """

    method: Method | None
    strength: float | None
    protocol: str
    seed: int
    sampling_seed: int
    choice: Choice | None = None

    @property
    def method_name(self) -> str | None:
        """As in records and tables; None for the bare base."""
        if self.method is not None:
            return self.method.name
        return None if self.sampling_seed == self.seed else NOISE_FLOOR


def wanted(grid: Grid, base: Base) -> Iterator[Wanted]:
    """The cells of one base: the base itself, its noise floor, then the methods in the order of the grid.

    The noise floor is one cell a base and protocol, and none where the grid has a second seed: then it is the base with that seed.
    """
    protocols = [name for name in grid.protocols if suits(base, grid.asked_of.get(name, {}))]
    for protocol in protocols:
        for seed in grid.seeds:
            yield Wanted(method=None, strength=None, protocol=protocol, seed=seed, sampling_seed=seed)
    for protocol in protocols:
        if grid.aa and samples(grid, protocol):
            other = grid.seeds[1] if len(grid.seeds) > 1 else grid.seeds[0] + 1
            yield Wanted(method=None, strength=None, protocol=protocol, seed=grid.seeds[0], sampling_seed=other)
    for method in grid.methods:
        if not method.suits(base):
            continue
        choice = method.choices.get(base.name)
        own = method
        if choice is not None:  # a control has settings of its own beside those that were chosen
            own = replace(method, settings={**choice.settings, **method.settings}, strengths=(choice.strength,))
        for strength in own.strengths:
            for protocol in protocols:
                for seed in grid.seeds:
                    yield Wanted(
                        method=own, strength=strength, protocol=protocol, seed=seed, sampling_seed=seed, choice=choice
                    )


def samples(grid: Grid, protocol: str) -> bool:
    """Whether another seed of the sampling can change anything: completions are drawn, not decoded greedily."""
    asked = grid.protocols[protocol]
    return bool(asked.prompts) and asked.sampling.temperature > 0


def without_noise_floor(grid: Grid) -> list[str]:
    """Why protocols have no A/A row; one line each, nothing where the grid wants none."""
    return [
        f"no A/A row for protocol {name}: it samples nothing (greedy, or likelihoods alone)"
        for name in grid.protocols
        if grid.aa and not samples(grid, name)
    ]
