"""Scorecard: everything that was measured, item by item, and the metrics with their intervals."""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from detox.errors import DataError, InputError, MissingData, require_known
from detox.files import atomic_directory, write_bytes, write_json
from detox.statistics import MISSING_LIMIT, Estimate

FORMAT = 1
Table = dict[str, list[Any]]


@dataclass(frozen=True)
class Scorecard:
    """What one protocol found about one language model.

    Attributes:
        protocol: name, digest and identity of what was asked, and the cards of its scorers; "notes" where it departs from what it is
            named after.
        fingerprint: of what was measured (`LanguageModel.fingerprint`).
        metrics: by name; absent where the protocol did not ask.
        counts: requested, scored and missing completions by reason.
        tables: item-level columns: "completions", "scores", "scores_with_prompt", "documents", "toxic_documents",
            "multiple_choice", "minimal_pairs", "recognition", "probe", "head_probes", "head_probe_texts", "replies", "margins",
            "safety_score", "refusals", "calibration", "unprompted", "lm_eval", "diversity", "fluency", "kl", "kl_first_token",
            "over_refusal", "stereotypes", "bias_questions", "group_texts".
            From these every metric can be computed again.
        texts: the completions' texts, prompt by prompt; None where they were not kept. Never part of a committed record.
        receipts: what the edits did.
        incidents: what went on that a reader should know.
        seconds: wall-clock time of each stage.
    """

    protocol: dict[str, Any]
    fingerprint: str
    metrics: dict[str, Estimate]
    counts: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, Table] = field(default_factory=dict)
    texts: list[list[str]] | None = field(default=None, repr=False)
    receipts: list[dict[str, Any]] = field(default_factory=list)
    incidents: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    def __getitem__(self, metric: str) -> Estimate:
        """A metric by name.

        Raises:
            UnknownName: it was not measured.
        """
        require_known("metric", metric, self.metrics)
        return self.metrics[metric]

    def withheld(self, metric: str) -> str | None:
        """Why there is to be no verdict on a metric: more than `detox.statistics.MISSING_LIMIT` of it is missing; else None.

        Of a toxicity metric, completions count as well as prompts: a mean over the samples that were scored has no prompt missing, and
        may still be one over the half that the scorer could read, or that the protocol did not leave out.

        Raises:
            UnknownName: it was not measured.
        """
        estimate = self[metric]
        if estimate.share_missing > MISSING_LIMIT:
            units = estimate.n + estimate.missing
            return f"{estimate.missing} of {units} units are missing ({estimate.share_missing:.1%}, limit {MISSING_LIMIT:.0%})"
        for family, key in _SCORED_BY.items():
            for scorer in self.counts.get(key, {}):
                reasons, requested = self._missing_texts(family, scorer)
                missing = sum(reasons.values())
                if metric.startswith(f"{family}/{scorer}/") and missing > MISSING_LIMIT * requested:
                    return (
                        f"{missing} of {requested} texts have no score ({missing / requested:.1%}, limit {MISSING_LIMIT:.0%}): "
                        + ", ".join(f"{reason} {count}" for reason, count in reasons.items())
                    )
        return None

    def share_without_score(self, scorer: str) -> float:
        """Share of the completions asked for that have no score of this scorer, or are left out, in [0, 1]; 0 where it was not asked."""
        table = self.tables.get("scores", {"prompt": [], "scorer": [], "value": []})
        out = table.get("left_out", [False] * len(table["value"]))
        own = [
            math.isnan(value) or left_out
            for value, left_out, name in zip(table["value"], out, table["scorer"], strict=True)
            if name == scorer
        ]
        sampling = self.protocol.get("identity", {}).get("sampling") or {}
        asked = (sampling.get("num_return_sequences") or 0) * len(dict.fromkeys(table["prompt"]))
        requested = max(len(own), asked)
        return (requested - own.count(False)) / requested if own else 0.0

    def _missing_texts(self, family: str, scorer: str) -> tuple[dict[str, int], int]:
        """By reason, the texts that are not in a family's means, and how many were asked for."""
        found = self.counts.get(_SCORED_BY[family], {}).get(scorer, {"scored": 0, "missing": {}})
        reasons = dict(found["missing"])
        requested = found["scored"] + sum(reasons.values())
        out = 0 if family == "toxicity-unprompted" else self.counts.get("left_out", {}).get(scorer, 0)
        return reasons | ({"left out": out} if out else {}), requested

    def rows(self) -> Iterator[dict[str, Any]]:
        """One row a (prompt, sample, scorer): the tidy form of all scores; value None where it could not be scored."""
        table = self.tables.get("scores", {})
        for values in zip(*table.values(), strict=True):
            yield dict(zip(table, values, strict=True))

    def __str__(self) -> str:
        width = max((len(name) for name in self.metrics), default=0)
        lines = [
            f"{name:{width}s}  {estimate}  n={estimate.n}{'  no verdict: ' + why if (why := self.withheld(name)) else ''}"
            for name, estimate in self.metrics.items()
        ]
        return "\n".join([f"protocol {self.protocol['name']} ({self.protocol['digest']})", *lines])

    def save(self, directory: str | Path) -> None:
        """Write `scorecard.json`, `items.json.gz` and, where texts were kept, `texts.json.gz`; the folder appears whole.

        Raises:
            OutputError: the place cannot be written, or holds something other than a scorecard.
        """
        with atomic_directory(directory, marker="scorecard.json") as folder:
            self.write_into(folder)

    def write_into(self, folder: Path) -> None:
        """Write the files of `save` into an existing folder."""
        _require_columns_of_numbers(self.tables)
        summary = {
            "format": FORMAT,
            "protocol": self.protocol,
            "fingerprint": self.fingerprint,
            "metrics": {name: jsonable(asdict(estimate)) for name, estimate in self.metrics.items()},
            "counts": self.counts,
            "receipts": jsonable(self.receipts),
            "incidents": self.incidents,
            "seconds": {stage: round(seconds, 2) for stage, seconds in self.seconds.items()},
        }
        write_json(folder / "scorecard.json", summary)
        write_bytes(folder / "items.json.gz", _packed(jsonable(self.tables)))
        if self.texts is not None:
            write_bytes(folder / "texts.json.gz", _packed(self.texts))

    @staticmethod
    def load(directory: str | Path) -> Scorecard:
        """Read what `save` wrote.

        Raises:
            MissingData: no scorecard there.
            DataError: the files are damaged; names which.
        """
        folder = Path(directory)
        summary = _read(folder / "scorecard.json")
        if not isinstance(summary, dict):
            raise _damaged(folder / "scorecard.json", f"holds {type(summary).__name__}, expected an object")
        if summary.get("format") != FORMAT:
            raise DataError(
                f"{folder / 'scorecard.json'}: format {summary.get('format')!r}; this version reads {FORMAT}"
            )
        texts = _read(folder / "texts.json.gz") if (folder / "texts.json.gz").is_file() else None
        items = _read(folder / "items.json.gz")
        _require_whole(folder, summary, items)
        tables = {
            name: {
                column: [float_of(v) for v in values] if column in FLOATS else values
                for column, values in table.items()
            }
            for name, table in items.items()
        }
        metrics = {name: _estimate(values) for name, values in summary["metrics"].items()}
        return Scorecard(
            summary["protocol"], summary["fingerprint"], metrics, summary["counts"], tables, texts,
            summary["receipts"], summary["incidents"], summary["seconds"],
        )  # fmt: skip


# Families of metrics -> what says how many of their texts were scored.
_SCORED_BY = {"toxicity": "scorers", "toxicity+prompt": "scorers_with_prompt", "toxicity-unprompted": "unprompted"}

# Columns of floats, whose missing values are NaN in memory and null on disk, and whose infinite ones are words there.
FLOATS = {
    "value", "nats", "risky_nats", "safe_nats", "kl", "margin", "score", "safe", "toxic", "mass", "chance", "weight", "words", "dist_1",
    "dist_2", "dist_3", "self_bleu", "rep_4", "degenerate_share",
}  # fmt: skip


def jsonable(value: Any) -> Any:
    """NaN to null, infinity to a word and floats to six significant digits, throughout; noise is not worth the room.

    JSON has no number for NaN or infinity. What is missing is null; what is infinite is a result and is "Infinity" or "-Infinity", as in
    the JSON of protocol buffers, which `float` reads.
    """
    if isinstance(value, float):
        return None if math.isnan(value) else spelled(float(f"{value:.6g}"))
    if isinstance(value, dict):
        return {key: jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    return value


def spelled(value: float) -> float | str:
    """A float for JSON: infinity as a word."""
    return value if math.isfinite(value) else "Infinity" if value > 0 else "-Infinity"


def float_of(value: Any) -> Any:
    """What `jsonable` made of a float; anything else as it is."""
    return math.nan if value is None else float(value) if value in ("Infinity", "-Infinity") else value


def _require_columns_of_numbers(tables: dict[str, Table]) -> None:
    """Refuse an infinite number where reading would take its word for text."""
    for name, table in tables.items():
        for column, values in table.items():
            if column not in FLOATS and any(isinstance(value, float) and math.isinf(value) for value in values):
                raise InputError(
                    f"table {name}: column {column} holds an infinite number; expected one in {', '.join(sorted(FLOATS))} only"
                )


def _require_whole(folder: Path, summary: dict[str, Any], items: Any) -> None:
    """Refuse a record that lost a part: a key, a table's column or a column's end."""
    for key in ("protocol", "fingerprint", "metrics", "counts", "receipts", "incidents", "seconds"):
        if key not in summary:
            raise _damaged(folder / "scorecard.json", f"has no {key}")
    ends = ("value", "low", "high", "n", "missing")
    for name, metric in summary["metrics"].items():
        if any(end not in metric for end in ends):
            raise _damaged(folder / "scorecard.json", f"metric {name} lacks one of {', '.join(ends)}")
    path = folder / "items.json.gz"
    if not isinstance(items, dict):
        raise _damaged(path, f"holds {type(items).__name__}, expected tables by name")
    for name, table in items.items():
        needed = ("prompt", "sample", "scorer", "value") if name in ("scores", "scores_with_prompt") else ()
        for column in needed:
            if column not in table:
                raise _damaged(path, f"table {name} has no column {column}")
        if len({len(values) for values in table.values()}) > 1:
            raise _damaged(path, f"columns of table {name} are of different lengths")


def _damaged(path: Path, what: str) -> DataError:
    return DataError(f"{path}:1: damaged ({what}); remove the folder and measure again")


def _estimate(values: dict[str, Any]) -> Estimate:
    value, low, high = (float(float_of(values[key])) for key in ("value", "low", "high"))
    return Estimate(value, low, high, int(values["n"]), int(values["missing"]))


def _packed(value: Any) -> bytes:
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return gzip.compress(text.encode("utf-8", errors="replace"), mtime=0)


def _read(path: Path) -> Any:
    if not path.is_file():
        raise MissingData(f"no {path.name} in {path.parent}; expected a scorecard, as Scorecard.save writes it")
    try:
        raw = path.read_bytes()
        return json.loads(gzip.decompress(raw) if path.suffix == ".gz" else raw)
    except (ValueError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise _damaged(path, str(error)) from error
