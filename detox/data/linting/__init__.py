"""Faults of contrasts before anything is trained on them: pure functions that return findings, never a text.

from detox.data import read_contrasts
from detox.data.linting import lint, report

findings = lint(read_contrasts("mine.jsonl"), against={"rtp_prompts": load("rtp_prompts")})
print(report(findings))
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from detox.data.contrasts import Contrast
from detox.data.linting.confounds import Confound, find_confounds, measure_confounds
from detox.data.linting.duplicates import find_duplicates
from detox.data.linting.endings import find_unfinished
from detox.data.linting.findings import SEVERITIES, Finding, report, worst
from detox.data.linting.identity import TERMS, find_imbalance
from detox.data.linting.leaks import find_leaks
from detox.data.linting.tokens import find_token_faults
from detox.data.subsets import Record
from detox.errors import InputError

__all__ = [
    "SEVERITIES",
    "TERMS",
    "Confound",
    "Finding",
    "find_confounds",
    "find_duplicates",
    "find_imbalance",
    "find_leaks",
    "find_token_faults",
    "find_unfinished",
    "lint",
    "measure_confounds",
    "report",
    "worst",
]


def lint(
    contrasts: Sequence[Contrast],
    *,
    against: Mapping[str, Sequence[Record]] | None = None,
    tokenizer: Any = None,
    context: int | None = None,
    expect_eos: bool = False,
    words: int = 8,
    near: float = 0.7,
    above: float = 0.65,
    terms: Iterable[str] = TERMS,
) -> list[Finding]:
    """Every check.

    Args:
        contrasts: of one file.
        against: other sides of the split and sets that will be evaluated, by name.
        tokenizer: where the checks of tokens are wanted.
        context: the model's greatest number of tokens, with a tokenizer.
        expect_eos: continuations must end in the end token, with a tokenizer.
        words: length of a run of words that may not be shared.
        near: Jaccard index of near duplicates.
        above: area under the ROC curve of a confound.
        terms: names of groups of people.

    Raises:
        InputError: no contrasts; a number out of range; what is about tokens, without a tokenizer.
    """
    if not contrasts:
        raise InputError("no contrasts; expected at least one")
    if not 0 < near <= 1 or not 0.5 < above <= 1:
        raise InputError(f"near {near} and above {above}; expected a number in (0, 1], and one in (0.5, 1]")
    if tokenizer is None and (context is not None or expect_eos):
        raise InputError("context and expect_eos are about tokens; give a tokenizer with them")
    findings = find_duplicates(contrasts, near=near)
    for name, records in (against or {}).items():
        findings += find_leaks(contrasts, records, name=name, words=words)
    findings += find_confounds(contrasts, above=above)
    findings += find_unfinished(contrasts)
    if tokenizer is not None:
        findings += find_token_faults(contrasts, tokenizer, context=context, expect_eos=expect_eos)
    return findings + find_imbalance(contrasts, terms=terms)
