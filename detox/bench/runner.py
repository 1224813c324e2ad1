"""Run a grid: bases are made, methods fitted once, every cell measured once; what fails is a named hole, and the rest goes on."""

from __future__ import annotations

import hashlib
import re
import shutil
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from detox.bench.bases import NOT_IN_FILE_NAMES, Base, Progress
from detox.bench.cells import Cell, Store, base_identity, digest, provenance, sole_runner
from detox.bench.grid import Grid, Method, suits
from detox.bench.guidance import note_sources
from detox.bench.workers import fifths
from detox.data.contrasts import digest as contrasts_digest
from detox.detoxifiers import Detoxifier, load
from detox.detoxifiers.contract import identifying, method_name
from detox.errors import CellFailed, DataError
from detox.evaluation import evaluate
from detox.files import require_writable, write_json
from detox.models import LanguageModel

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
        InputError: another runner is at work there.
    """
    store = Store(require_writable(output_dir))
    with sole_runner(store.directory):
        if before is not None:
            before()
        outcome = run_bases(grid, store, grid.bases, say=say, keep_texts=keep_texts)
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


def run_bases(
    grid: Grid, store: Store, bases: Sequence[Base], *, say: Say, keep_texts: bool = True, bars: bool = True
) -> Outcome:
    """Compute the cells of some bases; whoever calls keeps others out of the store, or away from these bases.

    `bars` draws a bar for every base that is pretrained; without, `say` is told of every fifth part of it.
    """
    outcome = Outcome()
    clock = _Clock(sum(len(list(_combinations(grid, base))) for base in bases), say)
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


def _combinations(grid: Grid, base: Base) -> Iterator[tuple[Method | None, float | None, str, int]]:
    """Method, strength, protocol and seed of every cell of one base."""
    for method, strength in [(None, None), *((m, s) for m in grid.methods if m.suits(base) for s in m.strengths)]:
        for protocol in grid.protocols:
            if not suits(base, grid.asked_of.get(protocol, {})):
                continue
            for seed in grid.seeds:
                yield method, strength, protocol, seed


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
        for method, strength, protocol, seed in _combinations(grid, base):
            named = None if method is None else method.name
            cell = Cell(base=base.name, method=named, strength=strength, protocol=protocol, seed=seed, identity={})
            outcome.holes[f"{cell.label}, {protocol}, seed {seed}"] = f"no base: {reason}"
            clock.skip(cell.label, "no base")
        return
    store.base_made(base.name)
    if time.perf_counter() - start > 5:
        clock.say(f"base {base.name} is made ({time.perf_counter() - start:.0f} s)")
    work = _BaseWork(grid, base, identity, path, store)
    for method, strength, protocol, seed in _combinations(grid, base):
        cell = work.cell(method, strength, protocol, seed)
        outcome.cells.append(cell)
        if store.finished(cell):
            outcome.reused += 1
            clock.skip(cell.label, "already there")
            continue
        started = time.perf_counter()
        try:
            work.compute(cell, method, keep_texts)
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
    return "; ".join([f"{type(error).__name__}: {error}".splitlines()[0], *getattr(error, "__notes__", ())])


class _BaseWork:
    """All that is done on one base: the model is loaded when a cell needs it, a method fitted when a strength needs it."""

    def __init__(self, grid: Grid, base: Base, identity: dict[str, Any], path: str, store: Store) -> None:
        self.grid, self.base, self.identity, self.path, self.store = grid, base, identity, path, store
        self.lm: LanguageModel | None = None
        self.fingerprint = ""
        self.fitted: dict[str, Detoxifier | Exception] = {}
        self.fit_seconds: dict[str, float] = {}

    def cell(self, method: Method | None, strength: float | None, protocol: str, seed: int) -> Cell:
        """The cell and its identity."""
        asked = self.grid.asked(protocol, seed)
        identity: dict[str, Any] = {"base": self.identity, "protocol": asked.identity(), "method": None}
        if method is not None:
            detoxifier = method.make()
            chosen = detoxifier.default_strength if strength is None else strength
            identity["method"] = {**self._fit_identity(method, detoxifier), "strength": chosen}
        return Cell(
            base=self.base.name,
            method=None if method is None else method.name,
            strength=strength,
            protocol=protocol,
            seed=seed,
            identity=identity,
        )

    def _fit_identity(self, method: Method, detoxifier: Detoxifier) -> dict[str, Any]:
        fitted_on = contrasts_digest(self.grid.contrasts) if detoxifier.capabilities.needs_fit else None
        name = method_name(type(detoxifier))
        identity: dict[str, Any] = {"name": name, "settings": identifying(detoxifier), "contrasts": fitted_on}
        file, _, _ = name.rpartition(":")
        if file.endswith(".py"):  # a method of the user's own: another text of the file is another method
            identity["sha256"] = hashlib.sha256(Path(file).read_bytes()).hexdigest()
        return identity

    def compute(self, cell: Cell, method: Method | None, keep_texts: bool) -> None:
        """Measure a cell and write its record.

        Raises:
            CellFailed: the base's weights were not the same afterwards.
        """
        detoxifier = None if method is None else self._fit(method)
        lm = self._model()
        asked = self.grid.asked(cell.protocol, cell.seed)
        extra: dict[str, Any] = {"provenance": provenance()}
        applied: AbstractContextManager[LanguageModel] = nullcontext(lm)
        if method is not None and detoxifier is not None:
            extra["fit"] = {
                "seconds": round(self.fit_seconds.get(method.name, 0.0), 2),
                "learned": detoxifier.state()[0],
                **({"sources": self.grid.sources.to_dict()} if detoxifier.capabilities.needs_fit else {}),
            }
            applied = detoxifier.applied(lm, strength=cell.strength)
        with applied as handle:
            scorecard = evaluate(handle, asked)
        self._require_unchanged(lm, "while the method was applied; the measurement is thrown away")
        if not keep_texts:
            scorecard = replace(scorecard, texts=None)
        self.store.write(cell, scorecard, extra)

    def _model(self) -> LanguageModel:
        if self.lm is None:
            told = {name: getattr(self.base, name) for name in ("revision", "dtype", "attention_output")}
            self.lm = LanguageModel.from_pretrained(self.path, **told)
            self.fingerprint = self.lm.fingerprint(rehash=True)
        return self.lm

    def _require_unchanged(self, lm: LanguageModel, when: str) -> None:
        if lm.fingerprint(rehash=True) != self.fingerprint:
            raise CellFailed(f"the base's weights changed {when}")

    def _fit(self, method: Method) -> Detoxifier:
        """The fitted method, from memory, from the store, or fitted now. A fit that failed fails for every strength."""
        known = self.fitted.get(method.name)
        if isinstance(known, Exception):
            raise known
        if known is not None:
            return known
        detoxifier = method.make()
        if not detoxifier.capabilities.needs_fit:
            self.fitted[method.name] = detoxifier
            return detoxifier
        key = digest({"base": self.identity, **self._fit_identity(method, detoxifier)})
        name = re.sub(NOT_IN_FILE_NAMES, "_", f"{self.base.name}--{method.name}")
        folder = self.store.directory / "fits" / f"{name}--{key}"
        stored = self._stored_fit(folder)
        if stored is not None:
            self.fitted[method.name] = stored
            return stored
        start = time.perf_counter()
        lm = self._model()
        self._require_unchanged(lm, "before the fit; the base is loaded again for the next cell")
        work = folder.with_name(f"{folder.name}.work")  # checkpoints, until the fit is saved
        try:
            detoxifier.fit(lm, self.grid.contrasts, work_dir=work)
            self._require_unchanged(lm, "in the fit, which must leave them as they were; the fit is thrown away")
        except Exception as error:
            self.fitted[method.name] = error
            raise
        self.fit_seconds[method.name] = time.perf_counter() - start
        note_sources(detoxifier, self.grid.sources)
        detoxifier.save_pretrained(folder)
        shutil.rmtree(work, ignore_errors=True)
        self.fitted[method.name] = detoxifier
        return detoxifier

    def _stored_fit(self, folder: Path) -> Detoxifier | None:
        """A fit of an earlier run; None where there is none, or only the part of it that is committed."""
        if not (folder / "detoxifier.json").is_file():
            return None
        try:
            return load(folder)
        except DataError:
            return None


def exit_code(outcome: Outcome) -> int:
    """0 if every cell has a record, 3 if there are holes."""
    return 3 if outcome.holes else 0


def describe_holes(outcome: Outcome) -> Sequence[str]:
    """One line a hole."""
    return [f"no record of {name}: {reason}" for name, reason in outcome.holes.items()]
