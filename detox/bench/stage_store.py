"""What stages of a measurement found, kept apart: under RESULTS/stages, one file a stage of one language model.

A file's name is a hash of its key: the base, the method with its fit and strength, and the part of the protocol that the stage
depends on. The key stands in the file too, and a file with another key, or a damaged one, is as good as none. These are files in
between, read by nothing but this module; the record of a cell holds all that a comparison reads.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from detox.bench.cells import digest
from detox.evaluation.stage_table import STAGES
from detox.evaluation.stages import Measured, Summary
from detox.files import write_bytes
from detox.models import Completion
from detox.statistics import Estimate

FORMAT = 1


def _silent(line: str) -> None:
    pass


class KeptStages:
    """The stages of one language model: one base with one method at one strength, or without. A `StageStore`.

    Nothing is written before `commit`: whether a measurement counts is known only when the weights have been looked at again.
    """

    def __init__(
        self,
        results: Path,
        owner: Mapping[str, Any],
        *,
        keep_texts: bool = True,
        say: Callable[[str], None] = _silent,
    ) -> None:
        """Begin.

        Args:
            results: the results directory.
            owner: identity of the language model, as JSON: base, method, fit, strength.
            keep_texts: whether completions are kept; without them a scorer that is added later generates again.
            say: is told of a damaged file.
        """
        self.directory, self.owner, self.keep_texts, self.say = results / "stages", dict(owner), keep_texts, say
        self._known: dict[Path, Measured | None] = {}
        self._new: dict[Path, tuple[dict[str, Any], Measured]] = {}

    def get(self, stage: str, part: Mapping[str, Any]) -> Measured | None:
        """See `detox.evaluation.stages.StageStore`."""
        key = {**self.owner, "part": dict(part)}
        path = self._path(stage, key)
        if path not in self._known:
            self._known[path] = self._read(path, key)
        return self._known[path]

    def put(self, stage: str, part: Mapping[str, Any], measured: Measured) -> None:
        """See `detox.evaluation.stages.StageStore`."""
        key = {**self.owner, "part": dict(part)}
        path = self._path(stage, key)
        self._known[path] = measured
        self._new[path] = (key, measured)

    def commit(self) -> None:
        """Write what was measured; without texts, what an earlier run kept of these completions goes away."""
        if not self.keep_texts:
            for path, known in self._known.items():
                if known is not None and known.completions is not None:
                    path.unlink(missing_ok=True)
        for path, (key, measured) in self._new.items():
            if measured.completions is not None and not self.keep_texts:
                continue
            # NaN is what it is here: nothing else reads these files, and null would not come back as a number.
            text = json.dumps({"format": FORMAT, "key": key, "measured": _plain(measured)}, separators=(",", ":"))
            write_bytes(path, gzip.compress(text.encode("utf-8"), compresslevel=5, mtime=0))

    def account(self) -> dict[str, list[str]]:
        """Names of the stages that were found, and of those that were measured now."""
        found = [path for path, measured in self._known.items() if measured is not None]
        names = {True: [], False: []}  # type: dict[bool, list[str]]
        for path in found:
            names[path in self._new].append(path.name.rpartition("--")[0])
        return {"kept": names[False], "measured": names[True]}

    def _read(self, path: Path, key: Mapping[str, Any]) -> Measured | None:
        if not path.is_file():
            return None
        try:
            found = json.loads(gzip.decompress(path.read_bytes()))
            if found["format"] != FORMAT or found["key"] != json.loads(json.dumps(key)):
                return None
            return _measured(found["measured"])
        except (ValueError, EOFError, OSError, KeyError, TypeError, zlib.error) as error:
            self.say(f"{path}: damaged ({type(error).__name__}); the stage is measured again")
            return None

    def _path(self, stage: str, key: Mapping[str, Any]) -> Path:
        return self.directory / f"{stage}--{digest(key)}.json.gz"


def kept_texts(results: Path) -> int:
    """How many files of a results directory hold what models wrote."""
    writing = {stage.reads for stage in STAGES if stage.reads}
    stages = [path for name in writing for path in results.glob(f"stages/{name}--*.json.gz")]
    return len(stages) + len(list(results.glob("cells/*/texts.json.gz")))


def _plain(measured: Measured) -> dict[str, Any]:
    return {
        "tables": measured.tables,
        "completions": None
        if measured.completions is None
        else [[[one.text, list(one.token_ids), one.finish_reason] for one in row] for row in measured.completions],
        "summary": asdict(measured.summary),
        "fingerprint": measured.fingerprint,
        "receipts": list(measured.receipts),
        "incidents": list(measured.incidents),
        "seconds": measured.seconds,
    }


def _measured(values: Mapping[str, Any]) -> Measured:
    completions, summary = values["completions"], values["summary"]
    return Measured(
        tables=values["tables"],
        completions=None
        if completions is None
        else [[Completion(text, tuple(ids), reason) for text, ids, reason in row] for row in completions],
        summary=Summary(
            metrics={name: Estimate(**one) for name, one in summary["metrics"].items()},
            counts=summary["counts"],
            notes=summary["notes"],
        ),
        fingerprint=values["fingerprint"],
        receipts=values["receipts"],
        incidents=values["incidents"],
        seconds=values["seconds"],
    )
