"""All that is done on one base: load it, fit what has to be fitted, measure its cells."""

from __future__ import annotations

import hashlib
import re
import shutil
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from detox.bench.audit import AUDIT_VERSION, audit, audit_texts
from detox.bench.bases import NOT_IN_FILE_NAMES, Base
from detox.bench.cell_costs import peak_memory, prompt_tokens
from detox.bench.cell_list import Wanted
from detox.bench.cells import Cell, Store, digest, provenance
from detox.bench.grid import Grid, Method
from detox.bench.guidance import note_sources
from detox.bench.stage_store import KeptStages
from detox.data.contrasts import digest as contrasts_digest
from detox.detoxifiers import Detoxifier, load
from detox.detoxifiers.contract import identifying, method_name
from detox.errors import CellFailed, DataError
from detox.evaluation import Protocol, Scorecard, evaluate
from detox.evaluation.harness import evaluate_kept
from detox.evaluation.stages import Measured, Summary
from detox.models import LanguageModel

Say = Callable[[str], None]


class BaseWork:
    """All that is done on one base: the model is loaded when a cell needs it, a method fitted when a strength needs it."""

    def __init__(self, grid: Grid, base: Base, identity: dict[str, Any], path: str, store: Store, *, say: Say) -> None:
        self.say = say
        self.grid, self.base, self.identity, self.path, self.store = grid, base, identity, path, store
        self.lm: LanguageModel | None = None
        self.fingerprint = ""
        self.fitted: dict[str, Detoxifier | Exception] = {}
        self.fit_seconds: dict[str, float] = {}
        self.audits: dict[str | None, dict[str, Any] | Exception] = {}

    def cell(self, one: Wanted) -> Cell:
        """The cell and its identity."""
        return cell_of(self.grid, self.base, self.identity, one)

    def measured(
        self, one: Wanted, *, keep_texts: bool = True, chosen_on: Mapping[str, Any] | None = None
    ) -> Scorecard | None:
        """The scorecard of a cell, from the store or measured now; None where it failed, which leaves a note and is said."""
        cell = self.cell(one)
        try:
            return self.required(one, keep_texts=keep_texts, chosen_on=chosen_on)
        except Exception as error:  # noqa: BLE001 - the wall of a cell: a point that breaks must not end a search
            self.lm = None
            self.store.fail(cell, f"{type(error).__name__}: {error}".splitlines()[0], traceback.format_exc())
            self.say(
                f"{cell.label} has no record: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
            )
            return None

    def required(
        self, one: Wanted, *, keep_texts: bool = True, chosen_on: Mapping[str, Any] | None = None
    ) -> Scorecard:
        """The scorecard of a cell, from the store or measured now; whatever breaks is raised."""
        cell = self.cell(one)
        if not self.store.finished(cell):
            self.compute(cell, one, keep_texts, chosen_on=chosen_on)
        return self.store.read(cell)

    def compute(self, cell: Cell, one: Wanted, keep_texts: bool, *, chosen_on: Mapping[str, Any] | None = None) -> None:
        """Measure a cell and write its record; what is kept of its stages is not measured again.

        Args:
            cell: with its identity.
            one: which cell.
            keep_texts: whether completions are kept.
            chosen_on: the prompts that its strength was chosen on: {"part": "development" or "test", "prompt_ids": [...]}. A cell with
                a choice of `detox tune` says that of the choice.

        Raises:
            CellFailed: the base's weights were not the same afterwards, or the method fails its audit.
        """
        method = one.method
        detoxifier = None if method is None else self._fit(method)
        asked = self.grid.asked(one.protocol, one.sampling_seed)
        extra: dict[str, Any] = {"provenance": provenance(), "audit": self._audit(method, detoxifier, asked)}
        owner = {"base": self.identity, "method": cell.identity["method"]}
        kept = KeptStages(self.store.directory, owner, keep_texts=keep_texts, say=self.say)
        if method is not None and detoxifier is not None:
            extra["fit"] = {
                "seconds": round(self.fit_seconds.get(method.name, 0.0), 2),
                "learned": detoxifier.state()[0],
                **({"sources": self.grid.sources.to_dict()} if detoxifier.capabilities.needs_fit else {}),
            }
        scorecard = evaluate_kept(asked, kept)
        if scorecard is None:
            lm = self._model()
            applied: AbstractContextManager[LanguageModel] = (
                nullcontext(lm) if detoxifier is None else detoxifier.applied(lm, strength=one.strength)
            )
            before = prompt_tokens(lm, asked)
            with applied as handle, peak_memory(lm) as cost:
                scorecard = evaluate(handle, asked, kept=kept)
                after = prompt_tokens(handle, asked)
            if before is not None and after is not None:
                cost["prompt_tokens"] = round(after - before, 2)
            extra["cost"] = cost
            self._require_unchanged(lm, "while the method was applied; the measurement is thrown away")
        kept.commit()
        extra["stages"] = kept.account()
        chosen_on = one.choice.chosen_on if one.choice is not None else chosen_on
        if chosen_on is not None:
            extra["chosen_on"] = dict(chosen_on)
        if not keep_texts:
            scorecard = replace(scorecard, texts=None)
        self.store.write(cell, scorecard, extra)

    def _audit(self, method: Method | None, detoxifier: Detoxifier | None, asked: Protocol) -> dict[str, Any]:
        """The audit of a fit, from memory, from the store, or done now at its largest strength. One that failed fails for every one."""
        name = None if method is None else method.name
        known = self.audits.get(name)
        if isinstance(known, Exception):
            raise known
        if known is not None:
            return known
        strengths = () if method is None else [s for s in method.strengths if s is not None]
        strength = max(strengths, key=abs, default=None)
        identity = None if method is None else applied_identity(self.grid, method, strength)
        kept = KeptStages(self.store.directory, {"base": self.identity, "method": identity}, say=self.say)
        part = {"audit": AUDIT_VERSION}
        stored = kept.get("audit", part)
        if stored is None:
            lm = self._model()
            try:
                found = audit(lm, detoxifier, strength=strength, texts=audit_texts(asked))
                self._require_unchanged(lm, "in the audit")
            except Exception as error:
                self.audits[name] = error
                raise
            stored = Measured(summary=Summary(counts=found))
            kept.put("audit", part, stored)
            kept.commit()
        self.audits[name] = dict(stored.summary.counts)
        return dict(stored.summary.counts)

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
        key = digest({"base": self.identity, **fit_identity(self.grid, method, detoxifier)})
        name = re.sub(NOT_IN_FILE_NAMES, "_", f"{self.base.name}--{method.name}")
        folder = self.store.directory / "fits" / f"{name}--{key}"
        # The same fit under another name: of a search over settings, or of a method that was renamed.
        stored = next(filter(None, map(self._stored_fit, [folder, *folder.parent.glob(f"*--{key}")])), None)
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


def cell_of(grid: Grid, base: Base, identity: Mapping[str, Any], one: Wanted) -> Cell:
    """The cell that a grid wants of a base, and its identity.

    Args:
        grid: with the protocols and the contrasts.
        base: by name.
        identity: of the base.
        one: which cell.
    """
    asked = grid.asked(one.protocol, one.sampling_seed)
    method = None if one.method is None else applied_identity(grid, one.method, one.strength)
    return Cell(
        base=base.name,
        method=one.method_name,
        strength=one.strength,
        protocol=one.protocol,
        seed=one.seed,
        identity={"base": dict(identity), "protocol": asked.identity(), "method": method},
    )


def applied_identity(grid: Grid, method: Method, strength: float | None) -> dict[str, Any]:
    """What a method does at a strength: settings, what it was fitted on, strength."""
    detoxifier = method.make()
    chosen = detoxifier.default_strength if strength is None else strength
    return {**fit_identity(grid, method, detoxifier), "strength": chosen}


def fit_identity(grid: Grid, method: Method, detoxifier: Detoxifier) -> dict[str, Any]:
    """What a method learns: settings and what it is fitted on."""
    fitted_on = contrasts_digest(grid.contrasts) if detoxifier.capabilities.needs_fit else None
    name = method_name(type(detoxifier))
    identity: dict[str, Any] = {"name": name, "settings": identifying(detoxifier), "contrasts": fitted_on}
    file, _, _ = name.rpartition(":")
    if file.endswith(".py"):  # a method of the user's own: another text of the file is another method
        identity["sha256"] = hashlib.sha256(Path(file).read_bytes()).hexdigest()
    return identity
