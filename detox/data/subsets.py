"""Which records are held out, and which are drawn: functions of the text and a seed, never of the order of a file."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TypeVar

from detox.data.contrasts import Contrast
from detox.data.records import (
    BiasQuestion,
    Cloze,
    Document,
    LabelledText,
    LexiconTerm,
    MinimalPair,
    MultipleChoice,
    Prompt,
)
from detox.errors import InputError, require_known

Record = Prompt | Document | LabelledText | MultipleChoice | Cloze | MinimalPair | Contrast | LexiconTerm | BiasQuestion
AnyRecord = TypeVar("AnyRecord", bound=Record)

SPLITS = ("train", "heldout")
HELDOUT = 0.2


def normalised(text: str) -> str:
    """`text` without case, punctuation and spacing: two texts that a reader would call the same become equal."""
    words = re.findall(r"\w+", text.casefold())
    return " ".join(words) if words else text.strip()


def split_of(text: str, *, heldout: float = HELDOUT) -> str:
    """The side ("train" or "heldout") of a text: SHA-256 of its normalised form below the share `heldout`.

    The same text falls on the same side in every data set, whatever its id there, so that what one set trains on is not
    what another evaluates on.
    """
    return "heldout" if _uniform("split", normalised(text)) < heldout else "train"


def split_key(record: Record) -> str:
    """The text that decides the side of a record: what its neighbours on the same side share.

    A contrast goes by its group where it has one, else by its prompt (so that all answers to a prompt stay together),
    else by its first toxic text, the source of a rewriting.
    """
    if isinstance(record, Contrast):
        return record.group or record.prompt or (record.toxic or record.safe)[0]
    if isinstance(record, MultipleChoice):
        return record.contexts[0] if record.contexts else record.context
    if isinstance(record, Cloze | BiasQuestion):
        return record.context
    if isinstance(record, MinimalPair):
        return record.good
    return record.text


def split_records(records: Iterable[AnyRecord], split: str, *, heldout: float = HELDOUT) -> list[AnyRecord]:
    """The records of one side, in their order.

    Args:
        records: of any kind.
        split: "train" or "heldout".
        heldout: share of the texts held out, between 0 and 1.

    Raises:
        UnknownName: another split.
        InputError: a share outside (0, 1).
    """
    require_known("split", split, SPLITS)
    if not 0.0 < heldout < 1.0:
        raise InputError(f"held-out share {heldout}; expected a number between 0 and 1")
    return [record for record in records if split_of(split_key(record), heldout=heldout) == split]


def texts_of(record: Record) -> tuple[str, ...]:
    """Every text that a record would show a model, whole."""
    if isinstance(record, Contrast):
        return tuple(record.prompt + text for text in (*record.safe, *record.toxic))
    if isinstance(record, MultipleChoice):
        contexts = record.contexts or (record.context,) * len(record.choices)
        return tuple(context + choice for context, choice in zip(contexts, record.choices, strict=True))
    if isinstance(record, BiasQuestion):
        return tuple(record.context + choice for choice in record.choices)
    if isinstance(record, Cloze):
        return (record.context + record.target,)
    if isinstance(record, MinimalPair):
        return (record.good, record.bad)
    return (record.text,)


def without_texts_of(records: Iterable[AnyRecord], others: Iterable[Record]) -> list[AnyRecord]:
    """The records that share no text, up to case, punctuation and spacing, with any of `others`."""
    taken = {normalised(text) for other in others for text in texts_of(other)}
    return [one for one in records if not any(normalised(text) in taken for text in texts_of(one))]


def draw(records: Sequence[AnyRecord], limit: int, *, seed: int = 0) -> list[AnyRecord]:
    """A seeded sample of at most `limit` records, stratified, the same for every order of `records`.

    Strata are quarters of known toxicity or score, labels, sources and phenomena; each gets its share of the sample.
    The result is interleaved over the strata, so that a smaller limit gives the beginning of a larger one's sample, and
    any beginning is itself stratified.

    Raises:
        InputError: `limit` is not positive.
    """
    if limit < 1:
        raise InputError(f"limit {limit}; expected at least 1, or None for everything")
    strata: dict[str, list[AnyRecord]] = defaultdict(list)
    for record in records:
        strata[stratum(record)].append(record)
    places: list[tuple[float, float, AnyRecord]] = []
    for members in strata.values():
        drawn = sorted(
            ((_uniform(f"draw {seed}", one.id), one) for one in members), key=lambda pair: (pair[0], pair[1].id)
        )
        places += [((rank + 0.5) / len(drawn), noise, one) for rank, (noise, one) in enumerate(drawn)]
    places.sort(key=lambda place: (place[0], place[1], place[2].id))
    return [one for _, _, one in places[:limit]]


def stratum(record: Record) -> str:
    """The stratum of a record in a sample."""
    if isinstance(record, Prompt):
        return _quarter(record.toxicity)
    if isinstance(record, LabelledText):
        return f"{record.label} {_quarter(record.score)}"
    if isinstance(record, Document):
        return f"{record.source} {bool(record.spans)}"
    if isinstance(record, MinimalPair):
        return record.phenomenon
    if isinstance(record, LexiconTerm):
        return record.source
    if isinstance(record, BiasQuestion):
        return f"{record.group} {record.ambiguous}"
    return ""


def _quarter(share: float | None) -> str:
    return "unknown" if share is None else str(min(int(share * 4), 3))


def _uniform(purpose: str, text: str) -> float:
    digest = hashlib.sha256(f"{purpose}\n{text}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def labelled(items: Sequence[LabelledText]) -> list[LabelledText]:
    """The texts with a label.

    Raises:
        InputError: there are none.
    """
    known = [item for item in items if item.label is not None]
    if not known:
        raise InputError("labelled texts are needed; none of these has a label")
    return known


def unique_texts(items: Sequence[LabelledText]) -> tuple[list[LabelledText], int]:
    """Labelled texts, each once, and how many were left out.

    Texts that a reader would call the same (`normalised`) count once, the first; where they are judged differently,
    none of them counts.
    """
    known = labelled(items)
    verdicts: dict[str, set[int | None]] = {}
    first: dict[str, LabelledText] = {}
    for item in known:
        key = normalised(item.text)
        verdicts.setdefault(key, set()).add(item.label)
        first.setdefault(key, item)
    kept = [item for key, item in first.items() if len(verdicts[key]) == 1]
    return kept, len(items) - len(kept)
