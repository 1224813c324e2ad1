"""How far to trust a judge of refusals: against people's verdicts, and on functional tests.

Sensitivity is the share of replies that refuse by people's verdict which the judge says refuse, specificity that of the others which it
does not. Two questions are asked of it: does a reply refuse in full or in part ("any", the over-refusal rate), and does it
refuse in full ("full", `refusals/rate`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib import resources
from typing import Any

import numpy as np

from detox.data.records import JudgedReply
from detox.errors import InputError
from detox.evaluation.refusal_judge import COMPLIES, REFUSES, VERDICTS, RefusalJudge, checked_verdicts
from detox.statistics import Estimate, bootstrap_weights, mean_estimate, ratio_estimate, weighted_kappas

_DRAWS = 1000
QUESTIONS = ("any", "full")


def check_judge(judge: RefusalJudge, replies: Sequence[JudgedReply] = ()) -> dict[str, Any]:
    """Everything that can be said of a judge from replies whose verdict is known.

    Args:
        judge: any.
        replies: judged by people; none for the functional tests alone.

    Returns:
        JSON: judge, its identity; replies and requests, how many; parts, by name ("all", "safe", "unsafe", "source SOURCE",
        "SIDE, source SOURCE"), each n, confusion (by people's verdict, then the judge's), kappa of the three verdicts, and "any" and
        "full", each with sensitivity and specificity as {right, n, value, low, high}, requests resampled; errors, the counts that
        `OverRefusalTask.judge_errors` takes: by side, sensitivity and specificity of "any" as [right, n] for each source;
        functional: see `functional_verdicts`.

    Raises:
        InputError: a verdict that is none; a judge that broke its protocol.
    """
    for one in replies:
        if one.verdict not in VERDICTS:
            raise InputError(f"reply to {one.id!r}: verdict {one.verdict!r}; expected one of {', '.join(VERDICTS)}")
    said = checked_verdicts(judge, [one.request for one in replies], [one.reply for one in replies], what="replies")
    pairs = list(zip(replies, said, strict=True))
    sources = sorted({one.source or "" for one in replies} - {""})
    sides = sorted({_side(one) for one in replies} - {""})
    chosen: dict[str, list[tuple[JudgedReply, str]]] = {"all": pairs} if pairs else {}
    chosen |= {side: [p for p in pairs if _side(p[0]) == side] for side in sides}
    for name in sources:
        own = [p for p in pairs if p[0].source == name]
        chosen[f"source {name}"] = own
        chosen |= {f"{side}, source {name}": [p for p in own if _side(p[0]) == side] for side in sides}
    errors = {
        side: {
            kind: [
                _counts([p for p in chosen[side] if (p[0].source or "") == source], kind, "any")
                for source in sources or [""]
            ]
            for kind in ("sensitivity", "specificity")
        }
        for side in sides
    }
    return {
        "judge": judge.identity(),
        "replies": len(pairs),
        "requests": len({one.id for one in replies}),
        "sources": sources,
        "parts": {name: _measured(own) for name, own in chosen.items() if own},
        "errors": errors,
        "functional": functional_verdicts(judge),
    }


def functional_verdicts(judge: RefusalJudge) -> list[dict[str, Any]]:
    """How many cases of each function of `refusal_cases.yaml` a judge gets right.

    The cases are in HateCheck's form (Röttger et al. 2021) with XSTest's verdicts. They say what a judge can and cannot tell apart; they
    were not drawn from any model, so their mean is no error rate.

    Returns:
        JSON, one entry a function: function, verdict (what is right), n, right, and refusal_right, how many are right about whether it
        refuses at all.
    """
    found = []
    for name, verdict, cases in functional_replies():
        said = checked_verdicts(judge, [request for request, _ in cases], [reply for _, reply in cases], what="replies")
        found.append(
            {
                "function": name,
                "verdict": verdict,
                "n": len(cases),
                "right": sum(one == verdict for one in said),
                "refusal_right": sum((one == COMPLIES) == (verdict == COMPLIES) for one in said),
            }
        )
    return found


@lru_cache
def functional_replies() -> tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...]:
    """The functional tests: (function, right verdict, ((request, reply), ...)) each."""
    import yaml

    text = resources.files("detox.evaluation").joinpath("refusal_cases.yaml").read_text(encoding="utf-8")
    return tuple(
        (one["name"], one["verdict"], tuple((request, reply) for request, reply in one["cases"]))
        for one in yaml.safe_load(text)["functions"]
    )


def _side(one: JudgedReply) -> str:
    return (one.group or "").partition("/")[0]


def _is(verdict: str, question: str) -> bool:
    return verdict == REFUSES if question == "full" else verdict != COMPLIES


def _counts(pairs: Sequence[tuple[JudgedReply, str]], kind: str, question: str) -> list[int]:
    """[right, of] of the replies that refuse (sensitivity) or do not (specificity)."""
    own = [said for one, said in pairs if _is(one.verdict, question) == (kind == "sensitivity")]
    return [sum(_is(said, question) == (kind == "sensitivity") for said in own), len(own)]


def _measured(pairs: Sequence[tuple[JudgedReply, str]]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "n": len(pairs),
        "confusion": {
            true: {said: sum(one.verdict == true and s == said for one, s in pairs) for said in VERDICTS}
            for true in VERDICTS
        },
        "kappa": _json(_kappa(pairs)),
    }
    for question in QUESTIONS:
        found[question] = {}
        for kind in ("sensitivity", "specificity"):
            right, of = _counts(pairs, kind, question)
            found[question][kind] = {"right": right, "n": of, **_json(_rate(pairs, kind, question))}
    return found


def _rate(pairs: Sequence[tuple[JudgedReply, str]], kind: str, question: str) -> Estimate:
    by_request: dict[str, list[tuple[JudgedReply, str]]] = {}
    for pair in pairs:
        by_request.setdefault(pair[0].id, []).append(pair)
    counts = np.array([_counts(own, kind, question) for own in by_request.values()], dtype=np.float64)
    right, of = counts[counts[:, 1] > 0].T
    # Resamples of replies that are all right, or all wrong, do not differ; the exact interval of their shares does not need them to.
    if len(of) == 0 or of.max() == 1 or right.sum() in (0, of.sum()):
        return mean_estimate(right / of, bounds=(0.0, 1.0))
    found = ratio_estimate(right, of)
    return Estimate(found.value, max(found.low, 0.0), min(found.high, 1.0), found.n)


def _kappa(pairs: Sequence[tuple[JudgedReply, str]]) -> Estimate:
    people = np.array([VERDICTS.index(one.verdict) for one, _ in pairs], dtype=np.float64)
    judge = np.array([VERDICTS.index(said) for _, said in pairs], dtype=np.float64)
    requests = np.unique([one.id for one, _ in pairs], return_inverse=True)[1]
    n = int(requests.max()) + 1
    value = float(weighted_kappas(people, judge, np.ones((1, len(pairs))))[0])
    drawn = np.concatenate([weighted_kappas(people, judge, w[:, requests]) for w in bootstrap_weights(n, draws=_DRAWS)])
    known = drawn[~np.isnan(drawn)]
    low, high = np.quantile(known, [0.025, 0.975]) if len(known) and n > 1 else (np.nan, np.nan)
    return Estimate(value, float(low), float(high), n)


def _json(found: Estimate) -> dict[str, float]:
    return {"value": found.value, "low": found.low, "high": found.high}
