"""What the keys of a protocol's YAML that are about utility and side effects mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from detox.bench.sources import read_records
from detox.data.records import BiasQuestion, LabelledText, MinimalPair, Prompt
from detox.errors import InputError
from detox.evaluation import OverRefusalTask, ReferenceModel, RefusalPhrases

UTILITY_KEYS = (
    "lm_eval", "lm_eval_limit", "diversity", "reference", "kl", "over_refusal", "stereotypes", "bias_questions", "group_texts",
)  # fmt: skip


def utility_parts(spec: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Fields of `Protocol`, of those of `UTILITY_KEYS` that the entry has.

        lm_eval: [arc_easy_local, hellaswag]     # names of lm-eval's tasks; ..._local for files of the catalogue
        lm_eval_limit: 200
        diversity: true
        kl: true
        reference: {model: ID OR PATH, revision: ...}
        over_refusal: {prompts: {set: xstest}, form: chat | plain, template: ..., judge: {refusals: [...], turns: [...]},
            judge_errors: {safe: {sensitivity: [[RIGHT, OF], ...], specificity: [...]}, unsafe: ...}}   # of `detox judges check`
        stereotypes: {set: crows_pairs}
        bias_questions: {set: bbq_bias}
        group_texts: {set: toxigen_groups, ...}

    Raises:
        InputError: a value of the wrong form.
        UnknownName, MissingData, DataError: see `read_records`.
    """
    parts: dict[str, Any] = {key: spec[key] for key in ("lm_eval_limit", "diversity", "kl") if key in spec}
    for key, kind, expected in (
        ("lm_eval_limit", int, "a whole number"),
        ("diversity", bool, "true"),
        ("kl", bool, "true"),
    ):
        if key in parts and type(parts[key]) is not kind:
            raise InputError(f"{where}.{key} is {parts[key]!r}; expected {expected}")
    if "lm_eval" in spec:
        names = spec["lm_eval"]
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise InputError(f"{where}.lm_eval is {names!r}; expected a list of tasks: [arc_easy_local, hellaswag]")
        parts["lm_eval"] = tuple(names)
    for key, record in (
        ("stereotypes", MinimalPair), ("bias_questions", BiasQuestion), ("group_texts", LabelledText),
    ):  # fmt: skip
        if key in spec:
            parts[key] = read_records(record, spec[key], where=f"{where}.{key}")
    if "reference" in spec:
        given = _texts(spec["reference"], ("model", "revision"), f"{where}.reference", needed="model")
        parts["reference"] = ReferenceModel(given["model"], given.get("revision"))
    if "over_refusal" in spec:
        parts["over_refusal"] = _over_refusal(spec["over_refusal"], f"{where}.over_refusal")
    return parts


def _over_refusal(spec: Any, where: str) -> OverRefusalTask:
    if not isinstance(spec, Mapping) or "prompts" not in spec:
        raise InputError(f"{where} is {spec!r}; expected {{prompts: {{set: xstest}}, ...}}")
    plain = {key: value for key, value in spec.items() if key not in ("prompts", "judge", "judge_errors")}
    judge = spec.get("judge", {})
    if not isinstance(judge, Mapping) or not all(
        key in ("refusals", "turns") and isinstance(phrases, list) and all(isinstance(one, str) for one in phrases)
        for key, phrases in judge.items()
    ):
        raise InputError(f"{where}.judge is {judge!r}; expected {{refusals: [REGULAR EXPRESSION, ...], turns: [...]}}")
    errors = spec.get("judge_errors")
    if errors is not None and not _are_errors(errors):
        raise InputError(
            f"{where}.judge_errors is {errors!r}; expected {{safe: {{sensitivity: [[RIGHT, OF], ...], specificity: [[RIGHT, OF], ...]}}, "
            "unsafe: ...}, as in the record of `detox judges check`"
        )
    own: dict[str, Any] = {key: tuple(phrases) for key, phrases in judge.items()}
    return OverRefusalTask(
        prompts=read_records(Prompt, spec["prompts"], where=f"{where}.prompts"),
        judge=RefusalPhrases(name="own phrases", **own) if own else RefusalPhrases(),
        judge_errors=errors,
        **_texts(plain, ("form", "template"), where),
    )


def _are_errors(value: Any) -> bool:
    """Whether it is {SIDE: {KIND: [[whole number, whole number], ...]}}."""
    if not isinstance(value, Mapping) or not all(isinstance(sides, Mapping) for sides in value.values()):
        return False
    counts = [pairs for sides in value.values() for pairs in sides.values()]
    return all(
        isinstance(pairs, list)
        and all(isinstance(pair, list) and len(pair) == 2 and all(type(one) is int for one in pair) for pair in pairs)
        for pairs in counts
    )


def _texts(spec: Any, known: tuple[str, ...], where: str, *, needed: str = "") -> dict[str, str]:
    if not isinstance(spec, Mapping) or not {*spec} <= {*known} or (needed and needed not in spec):
        raise InputError(
            f"{where} is {spec!r}; expected keys out of {', '.join(known)}{f', {needed} among them' if needed else ''}"
        )
    for key, value in spec.items():
        if not isinstance(value, str):
            raise InputError(f"{where}: {key} is {value!r}; expected text")
    return dict(spec)
