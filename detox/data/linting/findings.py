"""What a check found: a name, how bad it is, how often, where, and what to do. Ids only; the texts are toxic and stay out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from detox.data.contrasts import Contrast
from detox.data.subsets import normalised

SEVERITIES = ("error", "warning", "note")
EXAMPLES = 5


def sides(contrasts: Iterable[Contrast]) -> Iterator[Side]:
    """Every continuation of every contrast."""
    for one in contrasts:
        for toxic, texts in ((False, one.safe), (True, one.toxic)):
            for text in texts:
                yield Side(one, toxic, text)


def few(ids: Iterable[str]) -> tuple[str, ...]:
    """The first ids, each once."""
    return tuple(dict.fromkeys(ids))[:EXAMPLES]


def worst(findings: Sequence[Finding]) -> str | None:
    """The worst severity among findings; None for none."""
    found = {finding.severity for finding in findings}
    return next((severity for severity in SEVERITIES if severity in found), None)


def report(findings: Sequence[Finding]) -> str:
    """The findings as text, the worst first: a line each, and below it what to do."""
    lines = []
    for finding in sorted(findings, key=lambda one: SEVERITIES.index(one.severity)):
        share = f"{finding.count / finding.of:.1%}" if finding.of else "-"
        detail = f"  {finding.detail}" if finding.detail else ""
        lines.append(f"{finding.severity:8s} {finding.check:28s} {finding.count} of {finding.of} ({share}){detail}")
        if finding.examples:
            more = ", ..." if finding.count > len(finding.examples) else ""
            lines.append(f"{'':8s} e.g. {', '.join(finding.examples)}{more}")
        lines.append(f"{'':8s} {finding.advice}")
    return "\n".join([*lines, summary(findings)])


def summary(findings: Sequence[Finding]) -> str:
    """How many there are of each severity."""
    counts = {severity: sum(one.severity == severity for one in findings) for severity in SEVERITIES}
    return ", ".join(f"{count} {severity}{'' if count == 1 else 's'}" for severity, count in counts.items())


class Side(NamedTuple):
    """One continuation, with the contrast that it is of."""

    contrast: Contrast
    toxic: bool
    text: str

    @property
    def whole(self) -> str:
        """Prompt and continuation."""
        return self.contrast.prompt + self.text

    def words(self) -> list[str]:
        """Words of prompt and continuation, without case and punctuation."""
        return normalised(self.whole).split()


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One fault of a file of contrasts.

    Attributes:
        check: the name of what is wrong.
        severity: "error" (the file should not be used as it is), "warning" (a method may learn the wrong thing), "note".
        count: how many have the fault; `of` how many were looked at. Texts are continuations with their prompts.
        examples: ids of contrasts, the first few; "a ~ b" for two that belong together.
        detail: measurements in words.
        advice: what to do.
    """

    check: str
    severity: str
    count: int
    of: int
    advice: str
    examples: tuple[str, ...] = ()
    detail: str = ""

    def to_json(self) -> dict[str, Any]:
        """Every field."""
        return {
            "check": self.check,
            "severity": self.severity,
            "count": self.count,
            "of": self.of,
            "detail": self.detail,
            "examples": list(self.examples),
            "advice": self.advice,
        }
