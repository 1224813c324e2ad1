"""Does something as simple as length tell the toxic continuations from the safe ones? A method may then learn that instead."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detox.data.contrasts import Contrast
from detox.data.linting.findings import Finding, Side, few, sides
from detox.data.subsets import normalised, split_of
from detox.statistics import Estimate, Floats, clustered_auc_estimate

ENOUGH = 20  # texts of each side below which nothing is judged
_CERTAIN = 0.95  # an area whose interval lies beyond it is an error
_MARKS = ".!?…。！？"
_CLOSING = "\"'”’)]}*»"


def ends_a_sentence(text: str) -> bool:
    """Whether a text ends in a full stop, a question or exclamation mark, closing quotes and brackets aside."""
    bare = text.rstrip().rstrip(_CLOSING).rstrip()
    return bare[-1:] in _MARKS and bool(bare)


def _share(pattern: str) -> Callable[[str], float]:
    found = re.compile(pattern)
    return lambda text: len(found.findall(text)) / max(1, len(text))


def _capitals(text: str) -> float:
    letters = [character for character in text if character.isalpha()]
    return sum(character.isupper() for character in letters) / max(1, len(letters))


FEATURES: Mapping[str, Callable[[str], float]] = {
    "words": lambda text: float(len(text.split())),
    "characters": lambda text: float(len(text)),
    "end mark": lambda text: float(ends_a_sentence(text)),
    "punctuation": _share(r"[^\w\s]"),
    "exclamation marks": lambda text: float(text.count("!")),
    "question marks": lambda text: float(text.count("?")),
    "commas": lambda text: float(text.count(",")),
    "quotation marks": lambda text: float(sum(text.count(mark) for mark in '"“”')),
    "asterisks": lambda text: float(text.count("*")),
    "capitals": _capitals,
    "capital at the start": lambda text: float(text.lstrip()[:1].isupper()),
    "blank at the start": lambda text: float(text[:1].isspace()),
    "digits": _share(r"\d"),
    "line breaks": lambda text: float(text.count("\n")),
}


def measure_confounds(contrasts: Sequence[Contrast]) -> dict[str, Confound]:
    """How well each simple property of a continuation, and its first word, tells toxic from safe."""
    texts = list(sides(contrasts))
    toxic = np.array([side.toxic for side in texts], dtype=bool)
    groups = {key: number for number, key in enumerate(dict.fromkeys(one.group_key for one in contrasts))}
    clusters = [groups[side.contrast.group_key] for side in texts]
    pairs = _pairs(contrasts)
    values = {name: np.array([feature(s.text) for s in texts], dtype=np.float64) for name, feature in FEATURES.items()}
    values["first word"] = _first_words(texts)
    return {
        name: Confound(clustered_auc_estimate(toxic, column, clusters), *_within_pairs(column, pairs, len(contrasts)))
        for name, column in values.items()
    }


def find_confounds(
    contrasts: Sequence[Contrast], *, above: float = 0.65, measured: Mapping[str, Confound] | None = None
) -> list[Finding]:
    """Properties that tell toxic from safe alone.

    An area of .5 is chance; .35 tells as much as .65. A property is found where its area, over all texts or within the pairs of a
    contrast, is `above` or more on one of the two sides and its interval excludes chance.

    Args:
        contrasts: of one file.
        above: area under the ROC curve, between .5 and 1.
        measured: what `measure_confounds` gave, where it has been called.
    """
    counts = Counter(side.toxic for side in sides(contrasts))
    if min(counts[True], counts[False]) < ENOUGH:
        return [
            Finding(
                check="confounds not judged",
                severity="note",
                count=min(counts[True], counts[False]),
                of=counts.total(),
                advice=f"at least {ENOUGH} safe and {ENOUGH} toxic texts are needed to tell a confound from chance",
            )
        ]
    findings = []
    for name, one in (measured if measured is not None else measure_confounds(contrasts)).items():
        areas = (one.all_texts, one.within_pairs)
        telling = [area for area in areas if _tells(area) >= above and _excludes_chance(area)]
        if not telling:
            continue
        best = max(telling, key=_tells)
        sign = 1 if best.value > 0.5 else -1
        changes = np.where(np.isnan(one.changes), 0.0, one.changes * sign)
        typical = [int(row) for row in np.argsort(-changes, kind="stable") if changes[row] > 0]
        findings.append(
            Finding(
                check=f"confound: {name}",
                severity="error" if _certain(best) else "warning",
                count=len(typical) if one.within_pairs.n else best.n,
                of=one.within_pairs.n or best.n,
                examples=few(contrasts[row].id for row in typical),
                detail=_detail(name, one, sign),
                advice="a method can learn this in place of toxicity: make the two sides alike in it, or drop the worst contrasts",
            )
        )
    return findings


def _detail(name: str, one: Confound, sign: int) -> str:
    direction = "" if name == "first word" else f"; toxic texts have {'more' if sign > 0 else 'less'}"
    parts = [
        f"AUC {area} {where}"
        for area, where in ((one.all_texts, "over all"), (one.within_pairs, "within pairs"))
        if area.n
    ]
    return ", ".join(parts) + direction


def _tells(area: Estimate) -> float:
    return 0.0 if math.isnan(area.value) else 0.5 + abs(area.value - 0.5)


def _excludes_chance(area: Estimate) -> bool:
    return area.low > 0.5 or area.high < 0.5


def _certain(area: Estimate) -> bool:
    # What tells every text of a file is certain of that file, however few other files it would be certain of.
    return area.value in (0.0, 1.0) or area.low >= _CERTAIN or area.high <= 1 - _CERTAIN


def _pairs(contrasts: Sequence[Contrast]) -> NDArray[np.int64]:
    """(pairs, 3): places of a toxic and of a safe continuation among `sides`, and of their contrast."""
    found = []
    start = 0
    for number, one in enumerate(contrasts):
        middle = start + len(one.safe)
        end = middle + len(one.toxic)
        found += [(toxic, safe, number) for toxic in range(middle, end) for safe in range(start, middle)]
        start = end
    return np.array(found, dtype=np.int64).reshape(-1, 3)


def _within_pairs(values: Floats, pairs: NDArray[np.int64], contrasts: int) -> tuple[Estimate, Floats]:
    """How often toxic has more than safe, mean over contrasts, with a normal interval; mean change of each contrast."""
    toxic, safe, of = pairs.T
    difference = values[toxic] - values[safe]
    counts = np.bincount(of, minlength=contrasts)
    sums = [np.bincount(of, column, minlength=contrasts) for column in (0.5 + 0.5 * np.sign(difference), difference)]
    wins, changes = (np.divide(s, counts, out=np.full(contrasts, np.nan), where=counts > 0) for s in sums)
    known = wins[counts > 0]
    if len(known) < ENOUGH:
        return Estimate(math.nan, math.nan, math.nan, 0), changes
    value, reach = float(known.mean()), 1.96 * float(known.std(ddof=1)) / math.sqrt(len(known))
    return Estimate(value, max(0.0, value - reach), min(1.0, value + reach), len(known)), changes


def _first_words(texts: Sequence[Side]) -> Floats:
    """Log-odds of toxic given the first word, as one half of the groups says for the other half."""
    words = [normalised(side.text).split(" ", 1)[0] for side in texts]
    halves = [split_of(side.contrast.group_key, heldout=0.5) for side in texts]
    counts = Counter(zip(words, halves, (side.toxic for side in texts), strict=True))
    scores = []
    for word, half in zip(words, halves, strict=True):
        other = "heldout" if half == "train" else "train"
        scores.append(math.log((counts[word, other, True] + 0.5) / (counts[word, other, False] + 0.5)))
    return np.array(scores)


@dataclass(frozen=True)
class Confound:
    """How well one property tells toxic from safe continuations.

    Attributes:
        all_texts: ROC-AUC over all continuations; the interval is over groups.
        within_pairs: how often the toxic continuation of a contrast has more of it than the safe one, ties counted half.
        changes: (contrasts,) mean of the toxic minus mean of the safe continuations; NaN for a contrast without both.
    """

    all_texts: Estimate
    within_pairs: Estimate
    changes: Floats

    def to_json(self) -> dict[str, Any]:
        """The two areas; null where there is none."""
        return {
            name: {
                key: None if isinstance(value, float) and math.isnan(value) else value
                for key, value in asdict(area).items()
                if key != "missing"
            }
            for name, area in (("all_texts", self.all_texts), ("within_pairs", self.within_pairs))
        }
