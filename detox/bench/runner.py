"""Run a grid: bases are made, methods fitted once, every cell measured once; what fails is a named hole, and the rest goes on."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from detox.bench.base_work import BaseWork
from detox.bench.bases import Base, Progress
from detox.bench.cell_list import wanted
from detox.bench.cells import Cell, Store, base_identity, sole_runner
from detox.bench.grid import Grid
from detox.bench.stage_store import kept_texts
from detox.bench.workers import fifths
from detox.files import require_writable, write_json

Say = Callable[[str], None]


@dataclass
class Outcome:
    """What became of a grid.

    Attributes:
        cells: all cells, in the order of the grid.
        computed, reused: how many were measured now, and found finished.
        holes: why a cell has no record, by cell.
    """

    cells: list[Cell] = field(default_factory=list)
    computed: int = 0
    reused: int = 0
    holes: dict[str, str] = field(default_factory=dict)


def run_grid(
    grid: Grid,
    output_dir: str | Path,
    *,
    say: Say,
    keep_texts: bool = True,
    before: Callable[[], None] | None = None,
) -> Outcome:
    """Compute every cell of a grid that is not there yet.

    Args:
        grid: what to compare.
        output_dir: the results directory; may hold finished cells of earlier runs.
        say: is told of progress, a line at a time.
        keep_texts: keep what the models wrote (`texts.json.gz` in each cell).
        before: done while no other runner may write there; what it has computed is found (see `detox.bench.workers`).

    Returns:
        What became of it. A cell that failed is in `holes`, with its reason; its traceback is in `failures/`.

    Raises:
        OutputError: the directory cannot be written; found before any work.
        InputError: another runner is at work there, or a strength was chosen on another base.
    """
    store = Store(require_writable(output_dir))
    require_same_bases(grid, store.directory)
    if not keep_texts:
        say("what the models write is not kept: for a scorer that is added later it has to be written again")
    with sole_runner(store.directory):
        if before is not None:
            before()
        outcome = run_bases(grid, store, grid.bases, say=say, keep_texts=keep_texts)
        if not keep_texts and (left := kept_texts(store.directory)):
            say(f"{left} files with texts that earlier runs kept are still there: cells/*/texts.json.gz and stages/")
        if outcome.computed + outcome.reused:  # else an earlier run's list stays, which has cells to compare
            # The names of this grid: a cell that is used again may lie in a folder, and hold a record, of earlier ones.
            cells = [{"folder": cell.folder, **cell.names()} for cell in outcome.cells]
            factors = {base.name: dict(base.factors) for base in grid.bases if base.factors}
            summary = {"name": grid.name, "cells": cells, "holes": outcome.holes}
            controls = {method.name: method.control_of for method in grid.methods if method.control_of is not None}
            if controls:
                summary["controls"] = controls
            curves = {"factors": factors, "curves": grid.curves} if factors else {}
            write_json(store.directory / "grid.json", {**summary, **curves})
    return outcome


def require_same_bases(grid: Grid, directory: Path) -> None:
    """Refuse choices of `detox tune` for other bases than the grid's, as far as these are made already.

    Raises:
        InputError: names the base and what differs.
    """
    for base in grid.bases:
        choices = [method.choices[base.name] for method in grid.methods if base.name in method.choices]
        path = base.made(directory) if choices else None
        if path is not None:
            identity = base_identity(base, path)
            for choice in choices:
                choice.require_base(identity)


def run_bases(
    grid: Grid, store: Store, bases: Sequence[Base], *, say: Say, keep_texts: bool = True, bars: bool = True
) -> Outcome:
    """Compute the cells of some bases; whoever calls keeps others out of the store, or away from these bases.

    `bars` draws a bar for every base that is pretrained; without, `say` is told of every fifth part of it.
    """
    outcome = Outcome()
    clock = _Clock(sum(len(list(wanted(grid, base))) for base in bases), say)
    for base in bases:
        _run_base(grid, base, store, outcome, clock, keep_texts, progress=True if bars else fifths(base.name, say))
    return outcome


class _Clock:
    """Counts cells and says how long the rest will take, by those that were computed."""

    def __init__(self, total: int, say: Say) -> None:
        self.total, self.say, self.done, self.spent, self.timed = total, say, 0, 0.0, 0

    def skip(self, what: str, why: str) -> None:
        self.done += 1
        self.say(f"[{self.done}/{self.total}] {what}: {why}")

    def tell(self, what: str, seconds: float) -> None:
        self.done += 1
        self.spent, self.timed = self.spent + seconds, self.timed + 1
        left = (self.total - self.done) * self.spent / self.timed
        self.say(f"[{self.done}/{self.total}] {what}: {seconds:.1f} s (about {left / 60:.1f} min left in cells)")


def _run_base(
    grid: Grid, base: Base, store: Store, outcome: Outcome, clock: _Clock, keep_texts: bool, *, progress: Progress
) -> None:
    start = time.perf_counter()
    try:
        path = base.path(store.directory, progress=progress)
        identity = base_identity(base, path)
    except Exception as error:  # noqa: BLE001 - the wall of a base: the cells of the others must finish
        reason = _one_line(error)
        store.fail_base(base.name, reason, traceback.format_exc())
        clock.say(f"base {base.name}: {reason}")
        for one in wanted(grid, base):
            cell = Cell(
                base=base.name,
                method=one.method_name,
                strength=one.strength,
                protocol=one.protocol,
                seed=one.seed,
                identity={},
            )
            outcome.holes[f"{cell.label}, {one.protocol}, seed {one.seed}"] = f"no base: {reason}"
            clock.skip(cell.label, "no base")
        return
    store.base_made(base.name)
    if time.perf_counter() - start > 5:
        clock.say(f"base {base.name} is made ({time.perf_counter() - start:.0f} s)")
    work = BaseWork(grid, base, identity, path, store, say=clock.say)
    for one in wanted(grid, base):
        cell = work.cell(one)
        outcome.cells.append(cell)
        started = time.perf_counter()
        try:
            if one.choice is not None:
                one.choice.require_base(identity)
            if store.finished(cell):
                if one.choice is not None:
                    store.note_choice(cell, one.choice.chosen_on)
                outcome.reused += 1
                clock.skip(cell.label, "already there")
                continue
            work.compute(cell, one, keep_texts)
        except Exception as error:  # noqa: BLE001 - the wall of a cell: whatever breaks in it, the others must finish
            work.lm = None  # who fails may have changed weights before: the next cell gets the base from disk again
            reason = _one_line(error)
            outcome.holes[cell.folder] = reason
            store.fail(cell, reason, traceback.format_exc())
            clock.say(f"{cell.label} has no record: {reason}")
        else:
            outcome.computed += 1
        clock.tell(cell.label, time.perf_counter() - started)


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def exit_code(outcome: Outcome) -> int:
    """0 if every cell has a record, 3 if there are holes."""
    return 3 if outcome.holes else 0


def describe_holes(outcome: Outcome) -> Sequence[str]:
    """One line a hole."""
    return [f"no record of {name}: {reason}" for name, reason in outcome.holes.items()]
