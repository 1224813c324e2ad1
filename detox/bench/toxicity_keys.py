"""What the keys of a protocol's YAML that are about toxicity and its account mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from detox.bench.sources import read_records
from detox.data.records import LabelledText
from detox.errors import InputError
from detox.evaluation import RefusalPhrases

TOXICITY_KEYS = ("threshold_operator", "at", "refusals", "leave_out", "calibration", "unprompted")


def toxicity_parts(spec: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Fields of `Protocol`, of those of `TOXICITY_KEYS` that the entry has and that are more than a word or a number.

        at: [1, 5, 25]
        refusals: true, or {refusals: [REGULAR EXPRESSION, ...], turns: [...]}
        leave_out: [refused, degenerate]
        calibration: {items: {set: hatexplain, limit: 1000}}

    Raises:
        InputError: a value of the wrong form.
        UnknownName, MissingData, DataError: see `read_records`.
    """
    parts: dict[str, Any] = {}
    for key, kind, expected in (("at", int, "whole numbers"), ("leave_out", str, "names")):
        if key in spec:
            values = spec[key]
            if not isinstance(values, list) or not all(type(value) is kind for value in values):
                raise InputError(f"{where}: {key} is {values!r}; expected a list of {expected}")
            parts[key] = tuple(values)
    if spec.get("refusals", False) is not False:
        parts["refusals"] = _refusals(spec["refusals"], f"{where}.refusals")
    if "calibration" in spec:
        calibration = spec["calibration"]
        if not isinstance(calibration, Mapping) or {*calibration} != {"items"}:
            raise InputError(f"{where}.calibration is {calibration!r}; expected {{items: {{set: NAME, ...}}}}")
        parts["calibration"] = read_records(LabelledText, calibration["items"], where=f"{where}.calibration.items")
    return parts


def _refusals(spec: Any, where: str) -> RefusalPhrases:
    """The default judge, or one of the user's own phrases."""
    if spec is True:
        return RefusalPhrases()
    if not isinstance(spec, Mapping) or not all(
        key in ("refusals", "turns") and isinstance(phrases, list) and all(isinstance(one, str) for one in phrases)
        for key, phrases in spec.items()
    ):
        raise InputError(
            f"{where} is {spec!r}; expected true, or {{refusals: [REGULAR EXPRESSION, ...], turns: [...]}}"
        )
    own: dict[str, Any] = {key: tuple(phrases) for key, phrases in spec.items()}
    return RefusalPhrases(name="own phrases", **own)
