"""Are texts that mention a group of people toxic more often than others? A method may then learn to avoid the group."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import NormalDist

from detox.data.contrasts import Contrast
from detox.data.linting.findings import Finding, Side, few, sides
from detox.errors import InputError

# Names that people use of themselves; after Dixon et al. 2018 and ToxiGen's groups. A plural or possessive s may follow.
TERMS = (
    "african", "african american", "arab", "asian", "atheist", "bisexual", "black", "blind", "buddhist", "catholic", "chinese",
    "christian", "deaf", "disabled", "elderly", "european", "female", "gay", "heterosexual", "hindu", "hispanic", "homosexual",
    "immigrant", "indian", "jew", "jewish", "latina", "latino", "lesbian", "lgbt", "lgbtq", "male", "men", "mexican",
    "middle eastern", "muslim", "native american", "nonbinary", "protestant", "queer", "refugee", "sikh", "trans", "transgender",
    "white", "woman", "women",
)  # fmt: skip
ENOUGH = 10  # texts with a term below which nothing is judged


def find_imbalance(contrasts: Sequence[Contrast], *, terms: Iterable[str] = TERMS, least: float = 0.1) -> list[Finding]:
    """Terms whose texts (prompt and continuation) are toxic more or less often than all texts are.

    A term is found where its share differs by `least` or more and its interval, 95 % for all terms together, excludes the share of
    all texts.

    Args:
        contrasts: of one file.
        terms: names of groups of people, of one or more words; case does not count, and an s may follow.
        least: difference of shares.

    Raises:
        InputError: no terms.
    """
    wanted = sorted({" ".join(term.casefold().split()) for term in terms} - {""}, key=lambda term: (-len(term), term))
    if not wanted:
        raise InputError("no identity terms; expected at least one")
    # The longest first, and none inside another: "african american" is no "african".
    pattern = re.compile(rf"\b({'|'.join(re.escape(term) for term in wanted)})(?:'?s|’s)?\b")
    texts = list(sides(contrasts))
    having: dict[str, list[Side]] = defaultdict(list)
    for side in texts:
        for term in dict.fromkeys(pattern.findall(" ".join(side.whole.casefold().split()))):
            having[term].append(side)
    judged = {term: found for term, found in having.items() if len(found) >= ENOUGH}
    overall = sum(side.toxic for side in texts) / max(1, len(texts))
    findings = []
    for term, found in sorted(judged.items()):
        toxic = [side for side in found if side.toxic]
        low, high = share_interval(len(toxic), len(found), comparisons=len(judged))
        share = len(toxic) / len(found)
        if abs(share - overall) < least or low <= overall <= high:
            continue
        findings.append(
            Finding(
                check=f"identity: {term}",
                severity="warning",
                count=len(toxic),
                of=len(found),
                examples=few(side.contrast.id for side in found if side.toxic == (share > overall)),
                detail=f"toxic [{low:.1%}, {high:.1%}]; {overall:.1%} of all texts",
                advice=f"add {'safe' if share > overall else 'toxic'} texts that mention it, or take some of the others out",
            )
        )
    return findings


def share_interval(count: int, of: int, *, comparisons: int = 1) -> tuple[float, float]:
    """Wilson's 95 % interval of a share, for so many comparisons together (Bonferroni)."""
    z = NormalDist().inv_cdf(1 - 0.025 / comparisons)
    share = count / of
    centre = (share + z * z / (2 * of)) / (1 + z * z / of)
    reach = z / (1 + z * z / of) * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    return max(0.0, centre - reach), min(1.0, centre + reach)
